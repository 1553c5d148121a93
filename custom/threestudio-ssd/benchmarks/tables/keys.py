"""The keys of a published table: which edits of which captures, and by which methods."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import MISSING, DictConfig, OmegaConf

import threestudio
from threestudio.registry import did_you_mean
from threestudio.utils.base import Configurable
from threestudio.utils.config import parse_structured

from ...errors import ConfigError

PAIR = 2


@dataclass
class TableEdit:
    """Keys of one edit of a table."""

    dataset: str = MISSING
    """A name of ``data.datasets``."""
    scene: str = MISSING
    """Folder of the scene, as its publishers call it."""
    source_prompt: str = MISSING
    """Caption of the scene."""
    target_prompt: str = MISSING
    """Caption of the wanted edit; the figures are measured with both captions."""
    captions_by: str = "ours"
    """Who published the captions; ours: nobody did."""
    instruction: str = ""
    """The same edit as an instruction; empty: methods that read instructions leave it out."""
    instruction_by: str = ""
    """Who published the instruction."""
    mask: str = ""
    """What may change, in words; empty: everything."""


@threestudio.register("table-edits")
class TableEditsData(Configurable):
    """The data of a table: captures that the user has, and what is edited in them."""

    @dataclass
    class Config:
        """Keys of the edits."""

        datasets: dict = field(default_factory=dict)
        """Name -> folders that it may stand in, below the user's folder; its scenes may stand there without any."""
        edits: dict = field(default_factory=dict)
        """Name -> keys of ``TableEdit``."""
        scenes: list[str] = field(default_factory=list)
        """Only the edits of these scenes; none given: all."""
        only: list[str] = field(default_factory=list)
        """Only the edits of these names; none given: all."""

    cfg: Config


@threestudio.register("edit-table")
class EditTable(Configurable):
    """A published table of 3D edits; ``--run reproduce-table1`` runs it, and goes on if stopped."""

    @dataclass
    class Config:
        """Keys of the table."""

        methods: dict = field(default_factory=dict)
        """Name -> [config, key=value, ...]."""
        chosen: list[str] = field(default_factory=list)
        """Which of the methods are run; none given: all."""
        caption_model: str | None = None
        """Model of the methods that read captions; none: that of their configs."""
        instruction_model: str | None = None
        """Model of the methods that read instructions (InstructPix2Pix)."""
        steps: int | None = None
        """Steps of every edit; none: those of the configs."""
        overrides: list[str] = field(default_factory=list)
        """Changes to every method, before its own."""
        has_masks: bool = True
        """Whether edits with a mask in words are masked; it needs a segmenter."""
        fits_missing: bool = True
        """Whether a scene without a splat is fitted to its photographs first; if not, it is left out."""
        fit: list[str] = field(default_factory=lambda: ["configs/fit-gs.yaml"])
        """Config of such a fit, then changes."""
        clip_model: str = "auto"
        """CLIP of the figures; auto: ViT-L/14 as published, but tiny-clip where every model is an embedded one."""
        protocol: Literal["paired-views", "ssd-released-script"] = "paired-views"
        """How the two CLIP figures are measured: docs/metrics.md."""
        num_views: int = 20
        """Poses of each edit, drawn once by ``pose_seed``, >= 2."""
        pose_seed: int = 0
        """Which poses of a capture are drawn."""
        path_frames: int = 24
        """Frames of the path on which neighbours are compared, >= 2."""
        view_size: int = 512
        """Shorter side of the renders that are measured, pixels."""
        published: dict = field(default_factory=dict)
        """Method -> its two figures in the paper, printed below the table."""
        title: str = "Edits of captures"
        """Of the table."""

    cfg: Config


def edits_of(data: DictConfig) -> dict[str, TableEdit]:
    """The edits that are asked for, by name.

    Raises:
        ConfigError: For keys that an edit does not have, a dataset that is not declared, or names that none has.
    """
    keys = {str(name): parse_structured(TableEdit, data.edits[name]) for name in data.edits}
    edits: dict[str, Any] = {name: OmegaConf.to_object(each) for name, each in keys.items()}
    for name, edit in edits.items():
        if edit.dataset not in data.datasets:
            raise ConfigError(
                what=f"data.edits.{name}.dataset is {edit.dataset}",
                expected=f"one of data.datasets: {', '.join(map(str, data.datasets))}", fix="declare it there",
            )  # fmt: skip
    scenes = list(dict.fromkeys(edit.scene for edit in edits.values()))
    chosen_scenes = chosen("data.scenes", data.scenes, scenes)
    names = chosen("data.only", data.only, list(edits))
    picked = {name: edits[name] for name in names if edits[name].scene in chosen_scenes}
    if not picked:
        raise ConfigError(
            what=f"no edit of the table is of data.scenes={list(data.scenes)} and in data.only={list(data.only)}",
            expected="at least one", fix="leave one of the two out",
        )  # fmt: skip
    return picked


def chosen(key: str, names: Sequence[str], choices: Sequence[str]) -> list[str]:
    """The choices that are named, in their order; all of them where none is.

    Args:
        key: What the names were given as.
        names: From the config.
        choices: What there is.

    Raises:
        ConfigError: For a name that is no choice.
    """
    for name in names:
        if name not in choices:
            near = did_you_mean(name, choices)
            fix = f"did you mean {near}?" if near else "use one of these"
            raise ConfigError(what=f"{key} has {name}", expected=f"some of: {', '.join(choices)}", fix=fix)
    return [choice for choice in choices if not names or choice in names]


def published_figures(cfg: DictConfig) -> dict[str, tuple[float, float]]:
    """The two CLIP figures of the paper's rows.

    Raises:
        ConfigError: For a row that is not two numbers.
    """
    rows = {}
    for name, values in cfg.published.items():
        if len(list(values)) != PAIR:
            raise ConfigError(
                what=f"system.published.{name} is {values}", expected="CLIP similarity and directional similarity",
                fix=f"write {name}: [0.18, 0.07]",
            )  # fmt: skip
        rows[str(name)] = (float(values[0]), float(values[1]))
    return rows
