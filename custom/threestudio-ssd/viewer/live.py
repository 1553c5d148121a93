"""A window onto a run while it is made: the scene as it changes, how far it is, pause, stop and export."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pytorch_lightning.callbacks import Callback

import threestudio

from . import require_viser
from .guard import guard_of

SHARE = 0.015
"""Of the run's time, that its own thread may spend on being looked at; that of the server spends as much again."""
LEAST_SECONDS = 1.0
"""Between two looks."""
POLL = 0.1
"""Seconds between two looks for a click while the run is paused."""


@threestudio.register("run-viewer")
class LiveViewer(Callback):
    """Serves the run to a browser; steps never wait for it, and it takes no more than ``SHARE`` of their time.

    What a look costs is measured, and the next one waits until the steps have taken so much longer. Nothing is sent
    while nobody looks. The result is the one of a run without it: no random number is drawn, no parameter is touched.

    Args:
        host: Address it is served at.
        port: Where; the next free one if somebody has it.
        token: What the link must carry; None: drawn where it is needed.
        is_interrupted: Whether Ctrl-C was pressed, which ends a pause.

    Raises:
        MissingPackageError: If viser is not installed.
        ConfigError: If nothing can be served there.
    """

    def __init__(self, host: str, port: int, token: str | None, is_interrupted: Callable[[], bool]) -> None:
        require_viser()
        from .server import Server

        self._is_interrupted = is_interrupted
        self._is_paused, self._is_stopping = threading.Event(), threading.Event()
        self._spent, self._looked_at, self._begin = 0.0, 0.0, 0.0
        self._first_step, self._splats = 0, None
        self.server = Server(guard_of(host, token), port, "threestudio-ssd")
        gui = self.server.gui
        self._progress = gui.add_progress_bar(0.0)
        self._facts = gui.add_markdown("The run is being laid out.")
        self._pause = gui.add_button("pause")
        self._stop = gui.add_button("stop and export")
        self._picture = gui.add_image(np.zeros((2, 2, 3), np.uint8), visible=False)
        self._pause.on_click(lambda _: self._switch())
        self._stop.on_click(lambda _: self._end())
        threestudio.info(f"Watch the run at {self.server.link}")

    def _switch(self) -> None:
        is_paused = not self._is_paused.is_set()
        (self._is_paused.set if is_paused else self._is_paused.clear)()
        self._pause.label = "go on" if is_paused else "pause"

    def _end(self) -> None:
        self._is_stopping.set()
        self._is_paused.clear()

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Lightning hook: where the scene is looked at from."""
        self._begin, self._first_step = time.monotonic(), module.true_global_step
        views = getattr(module.job, "views", None) if module.scene_now() is not None else None
        if views is not None:
            from .eyes import look_from

            look_from(self.server, views.test, views.orbit)
        self._look(trainer, module)

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Lightning hook: show the step if there is time for it; wait while the run is paused."""
        begin = time.monotonic()
        is_due = begin - self._looked_at > LEAST_SECONDS and self._spent < SHARE * (begin - self._begin)
        if is_due and self.server.get_clients():
            self._look(trainer, module)
            self._spent += time.monotonic() - begin
        if self._is_paused.is_set():
            self._wait(trainer, module)
        if self._is_stopping.is_set():
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Lightning hook: the last state stays to be seen while the report is made."""
        self._look(trainer, module)
        self._facts.content = "The steps are over; report and export follow."

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Lightning hook: nobody is served once the run is over."""
        if stage == "predict":
            self.server.stop()

    def on_exception(self, *unused: Any) -> None:
        """Lightning hook: nor once it has failed."""
        self.server.stop()

    def _wait(self, trainer: Any, module: Any) -> None:
        """Until somebody goes on; the time does not count as the run's."""
        self._look(trainer, module)
        module.clock.stop()
        begin = time.monotonic()
        while self._is_paused.is_set() and not self._is_interrupted():
            time.sleep(POLL)
        self._begin += time.monotonic() - begin
        module.clock.start()

    def _look(self, trainer: Any, module: Any) -> None:
        """Send the scene and the figures."""
        from ..report.edit_report import peak_memory

        done, total, peak = module.true_global_step, trainer.max_steps, peak_memory(module.device)
        seconds = time.monotonic() - self._begin
        here = done - self._first_step
        left = f", {seconds / here * (total - done):.0f} s left" if here and total > 0 else ""
        state = "paused" if self._is_paused.is_set() else "running"
        self._facts.content = f"**{state}**: step {done} of {total}{left}. Memory {peak / 1e9:.1f} GB at most."
        self._progress.value = 100 * done / max(total, 1)
        scene = module.scene_now()
        if scene is None:
            self._show_pictures(module)
        else:
            self._send(scene)
        self._looked_at = time.monotonic()

    def _send(self, scene: Any) -> None:
        from .splats import splats_of

        splats = splats_of(scene)
        if self._splats is None:
            self._splats = self.server.scene.add_gaussian_splats("/scene", *splats)
        else:
            self._splats.set_gaussians(*splats)

    def _show_pictures(self, module: Any) -> None:
        """The pictures of the progress, where no scene is edited."""
        rows = module.progress_images()
        if rows:
            row = np.concatenate([np.asarray(image.detach().cpu()) for image in rows[0]], axis=1)
            self._picture.image = (row.clip(0, 1) * 255 + 0.5).astype(np.uint8)
            self._picture.visible = True
