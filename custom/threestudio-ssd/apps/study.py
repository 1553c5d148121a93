"""``--run study A B C...``: a page on which people compare results without knowing whose they are."""

import sys
from dataclasses import dataclass
from pathlib import Path

import threestudio
from threestudio.utils.base import Configurable

from ..study.keys import OutcomeConfig, StudyConfig


@threestudio.register("app-study")
class Study(Configurable):
    """Make a user study of edits: run folders, or splats; a blinded page, its key, and votes of a judge model."""

    needs_config = False
    positional = ("results",)
    is_resumable = True

    @dataclass
    class Config(StudyConfig):
        """Keys of a study."""

    cfg: Config

    def __call__(self, experiment: object) -> int:
        """Write the page and the key; ask the judge, if there is one."""
        from ..study.judge import ask_judge, check_judge
        from ..study.make import KEY, PAGE, make_study

        cfg, out = self.cfg, Path(self.cfg.out)
        if cfg.judge.url:
            check_judge(cfg.judge, cfg.video_frames)
        key = make_study(cfg)
        threestudio.info(
            f"Questions: {len(key['questions'])}, on {', '.join(key['methods'])}; keep {out / KEY} to yourself."
        )
        if cfg.judge.url:
            ask_judge(cfg.judge, out, key)
        sys.stdout.write(f"{out / PAGE / 'index.html'}\n")
        return 0


@threestudio.register("app-study-report")
class StudyReport(Configurable):
    """Say what the votes of a study come to: VOTES... key=study-key.json; shares with intervals, and pairs."""

    needs_config = False
    positional = ("votes",)

    @dataclass
    class Config(OutcomeConfig):
        """Keys of the outcome."""

    cfg: Config

    def __call__(self, experiment: object) -> int:
        """Read the votes, write tables and page."""
        from ..study.outcome import write_outcome

        sys.stdout.write(write_outcome(self.cfg))
        return 0
