"""The viewer as a whole: its panels, until Ctrl-C."""

import sys
import threading
from pathlib import Path

import threestudio
from threestudio.errors import InterruptedRun

from .captured import Captured
from .editing import Editing
from .eyes import look_from
from .guard import Guard
from .selecting import Selecting
from .server import Server
from .session import Session, Viewed
from .stage import Stage


class Window:
    """A scene in the browser, with all panels.

    Args:
        viewed: What is looked at.
        guard: Where it is served, and to whom.
        port: The next free one is taken if somebody has it.
        folder: Where selections and results are written.

    Raises:
        ConfigError: If it cannot be served there.
    """

    def __init__(self, viewed: Viewed, guard: Guard, port: int, folder: Path) -> None:
        self.server = Server(guard, port, Path(viewed.path).name)
        look_from(self.server, viewed.views.test, viewed.views.orbit)
        self.session = Session(self.server, viewed)
        tabs = self.server.gui.add_tab_group()
        with tabs.add_tab("Look"):
            self.stage, self.captured = Stage(self.session), Captured(self.session)
        with tabs.add_tab("Select"):
            self.selecting = Selecting(self.session, folder)
        with tabs.add_tab("Edit"):
            self.editing = Editing(self.session, folder)

    def serve(self) -> None:
        """Print the link, and serve until Ctrl-C."""
        sys.stdout.write(f"{self.server.link}\n")
        sys.stdout.flush()
        threestudio.info("Open that link in a browser of this machine; Ctrl-C ends the viewer.")
        try:
            threading.Event().wait()
        except (KeyboardInterrupt, InterruptedRun):
            threestudio.info("Stopped.")
        finally:
            self.editing.pause()
            self.server.stop()
