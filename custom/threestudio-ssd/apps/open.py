"""Opens a splat in SuperSplat: ``launch.py --run open RESULT``; the file stays on this machine."""

import sys
from dataclasses import dataclass

import threestudio
from threestudio.errors import InterruptedRun
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..viewer.open_file import EDITOR, FileServer


@threestudio.register("app-open")
class Open(Configurable):
    """Open a splat in the SuperSplat editor: --run open RESULT; the file is served to this machine alone."""

    needs_config = False
    positional = ("path",)

    @dataclass
    class Config:
        """Keys of the server."""

        path: str = ""
        """The splat file: .ply .splat .spz .sog .ksplat."""
        port: int = 0
        """Where it is served, on loopback; 0: any port that is free."""
        editor: str = EDITOR
        """The page that reads it; another one is a SuperSplat of your own."""

    def __call__(self, experiment: object) -> int:
        """Serve until Ctrl-C."""
        if not self.cfg.path:
            fix = "launch.py --run open outputs/ssd-gs/.../save/edited.ply"
            raise ConfigError(what="--run open was given no file", expected="a splat file", fix=fix)
        with FileServer(self.cfg.path, self.cfg.port, self.cfg.editor) as server:
            sys.stdout.write(f"{server.link}\n")
            sys.stdout.flush()
            threestudio.info(f"Open that link here; {server.file} is at {server.address} until Ctrl-C.")
            try:
                server.serve_forever()
            except (KeyboardInterrupt, InterruptedRun):
                threestudio.info("Stopped.")
        return 0
