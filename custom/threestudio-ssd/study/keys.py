"""The keys of a study and of its outcome; apart from what makes them, so that they are read in no time."""

from dataclasses import dataclass, field
from typing import Literal

from ..cameras import World


@dataclass
class JudgeConfig:
    """Keys of a vision-language model that votes as people do; off unless ``url`` is set."""

    url: str = ""
    """Address of an OpenAI-compatible endpoint, such as http://localhost:8000/v1; empty: no judge."""
    model: str = ""
    """Model that is asked there."""
    key_env: str = ""
    """Environment variable that holds the key; empty: none is sent."""
    timeout: float = 120.0
    """Seconds to wait for an answer, > 0."""
    wait: float = 2.0
    """Seconds before a failed request is sent again, and twice as many before the third time, >= 0."""


@dataclass
class StudyConfig:
    """Keys of a study."""

    results: list[str] = field(default_factory=list)
    """Run folders of edits; those of one scene and one target prompt are shown side by side. Or splats of any tool."""
    labels: list[str] = field(default_factory=list)
    """Names of the methods, one for each result; empty: the score or editor of each run, the file's name of a splat."""
    source: str = ""
    """Where results are splats: the scene before the edit."""
    target_prompt: str = ""
    """Where results are splats: what was asked for."""
    cameras: str = ""
    """File or folder of cameras, the same for all; empty: those of the first run of each edit, or an orbit."""
    world: World = "auto"
    """Axes and scale of a transforms.json's cameras, as ``data.world`` of an edit."""
    up: str | None = None
    """Up axis of an orbit, +x .. -z; none finds it."""
    views: int = 4
    """Views of each result, shown in one picture, >= 1."""
    video_frames: int = 0
    """Frames of a turntable or flight in place of the picture; 0: pictures."""
    size: int = 384
    """Shorter side of a view, pixels."""
    background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Colour behind the scene, RGB in [0, 1]."""
    show: Literal["all", "pairs"] = "all"
    """all methods of an edit in one question, as in the paper; or pairs of them."""
    seed: int = 0
    """Draws the order of questions and of the results in them."""
    title: str = "Which edit is better?"
    """Of the page."""
    out: str = "outputs/study"
    """Where ``page/`` (for people) and ``study-key.json`` (not for them) go."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """A model that votes as well."""


@dataclass
class OutcomeConfig:
    """Keys of what the votes of a study say."""

    votes: list[str] = field(default_factory=list)
    """CSV files of votes, as the page and the judge write them."""
    key: str = ""
    """study-key.json of the study."""
    resamples: int = 2000
    """Draws of participants for the bootstrap, >= 100."""
    seed: int = 0
    """Of these draws."""
    out: str = "outputs/study-report"
    """Where ``report.md shares.csv report.html`` go."""
