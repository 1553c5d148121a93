"""Shows scenes in the browser: select, compare, edit: ``launch.py --run view SCENE [OTHER]``."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable

from ..masks import MaskConfig
from ..viewer import require_viser
from ..viewer.guard import guard_of


@threestudio.register("app-view")
class View(Configurable):
    """Look at a scene in the browser, select, compare and edit: --run view SCENE [OTHER]; needs viser."""

    needs_config = False
    positional = ("before", "after")
    of_experiment = ("cameras", "mask")

    @dataclass
    class Config:
        """Keys of the viewer."""

        before: str = ""
        """The splat file; empty: the scene of --config."""
        after: str = ""
        """A second one to compare with, such as the result of an edit."""
        cameras: str = ""
        """File or folder of the capture's cameras; empty: views all around."""
        mask: MaskConfig = field(default_factory=MaskConfig)
        """What is selected at first."""
        out: str = "outputs/view"
        """Folder for what is saved."""
        host: str = "127.0.0.1"
        """Address it is served at; any other than this machine's own needs the token."""
        port: int = 8080
        """Where; the next free one if somebody has it."""
        token: str | None = None
        """What the link must carry; none: drawn where it is needed."""

    cfg: Config

    def __call__(self, experiment: DictConfig | None) -> int:
        """Serve until Ctrl-C."""
        require_viser()
        from ..viewer.session import load_viewed
        from ..viewer.window import Window

        cfg = self.cfg
        guard = guard_of(cfg.host, cfg.token)
        viewed = load_viewed(cfg.before, cfg.after, cfg.cameras, cfg.mask, experiment)
        Window(viewed, guard, cfg.port, Path(cfg.out)).serve()
        return 0
