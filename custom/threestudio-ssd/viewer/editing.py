"""The panel that edits: words, method, strength; try, run, pause, keep or undo, save. All of it is the Python call."""

import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from threestudio.utils.config_compare import plain
from threestudio.utils.config_files import read_file

from ..api import Mask, Progress, SceneRun, edit_scene, refit_scene
from ..data.keys import GSViewsConfig
from ..early import repository
from ..masks import save_selection
from .session import Session

KINDS = {"ssd-gs-system": edit_scene, "idu-gs-system": refit_scene}
"""System -> the call that runs its configs."""
WHERE = ("world", "dataparser", "up", "center", "radius", "elevation_deg", "radius_scale", "fov_y_deg", "check_capture")
"""Keys of the views that belong to the scene, not to the method."""
USUAL, OWN = ("shape-gs", "ssd-gs"), "another config"
"""Methods that stand first, the last of them chosen; and what names none of the repository's."""
SHOW_EVERY, LOOK_SHARE = 1.0, 0.1
"""Least seconds between two looks at a running edit, and the most of its time that goes into them."""


class Method(NamedTuple):
    """A config that the panel can run.

    Attributes:
        path: The file.
        words: What stands at its top.
    """

    path: Path
    words: Mapping[str, Any]

    @property
    def has_strength(self) -> bool:
        """Whether one key says how strong the edit is."""
        return "strength" in self.words


class Editing:
    """Edits the scene of a session by words.

    Args:
        session: Shared by all panels.
        folder: Where selections and kept results are written.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, self.folder, gui = session, folder, session.server.gui
        self._methods = methods()
        self._run: SceneRun | None = None
        self._laid_out: dict[str, Any] = {}
        self._history: list[tuple[dict[str, Any], SceneRun]] = []
        self._thread: threading.Thread | None = None
        self._is_pausing = threading.Event()
        first = USUAL[-1]
        self.method = gui.add_dropdown("method", (*self._methods, OWN), initial_value=first, hint="a file of configs/")
        self.config = gui.add_text("config", "", visible=False, hint="a file of your own")
        self.source = gui.add_text("what is there", session.viewed.words.get("source", ""))
        self.target = gui.add_text("what should be", session.viewed.words.get("target", ""))
        self.strength = gui.add_slider("strength", 0.0, 2.0, 0.05, 1.0)
        self.steps = gui.add_number("steps", 1, min=1, step=1)
        self.tried = gui.add_number("steps of a preview", 20, min=1, step=1)
        self.model = gui.add_text("model", "", hint="folder or hub id")
        self.seed = gui.add_number("seed", 0, min=0, step=1)
        buttons = ("preview", "run", "pause", "keep", "undo")
        self.buttons = {name: gui.add_button(name) for name in buttons}
        self.progress = gui.add_progress_bar(0.0, animated=False)
        self.facts = gui.add_markdown("Nothing was edited yet.")
        self.pictures = gui.add_image(np.zeros((2, 2, 3), np.uint8), visible=False)
        self.path = gui.add_text("save result as", str(folder / "edited.ply"), hint=".ply .splat .spz .sog ...")
        self.save = gui.add_button("save the result")
        self.method.on_update(lambda _: self._take_defaults())
        self.config.on_update(lambda _: self._take_defaults())
        actions = (partial(self._start, is_preview=True), self._start, self.pause, self._keep, self._undo)
        for button, action in zip(self.buttons.values(), actions, strict=True):
            button.on_click(lambda _, action=action: action())
        self.save.on_click(lambda _: self._save())
        self._take_defaults()

    @property
    def is_running(self) -> bool:
        """Whether steps are being made."""
        return self._thread is not None and self._thread.is_alive()

    def pause(self) -> None:
        """Stop after the step that is being made; ``run`` goes on."""
        self._is_pausing.set()

    def _chosen(self) -> Method:
        """The method that the controls name.

        Raises:
            ConfigError: If its config cannot be read.
        """
        if self.method.value != OWN:
            return self._methods[self.method.value]
        return Method(Path(self.config.value), read_file(self.config.value))

    def _take_defaults(self) -> None:
        """Steps and model as the method's config has them."""
        self.config.visible = self.method.value == OWN
        if self.config.visible and not Path(self.config.value).is_file():
            return
        with self.session.server.saying():
            method = self._chosen()
            self.strength.visible = method.has_strength
            self.steps.value = int(method.words["steps"])
            self.model.value = str(method.words["model"])

    def _words(self) -> dict[str, Any]:
        """What the Python call is given."""
        session, method, plan = self.session, self._chosen(), self.session.viewed.plan.cfg
        defaults = GSViewsConfig()
        changes = {f"data.{key}": plain(plan[key]) for key in WHERE if plain(plan[key]) != getattr(defaults, key)}
        if method.has_strength:
            changes["strength"] = float(self.strength.value)
        return {
            "scene": session.path, "cameras": plan.cameras or None, "source": self.source.value,
            "target": self.target.value, "model": self.model.value, "steps": int(self.steps.value),
            "seed": int(self.seed.value), "config": method.path, "changes": changes,
            "selection": session.is_selected.clone(),
        }  # fmt: skip

    def _start(self, *, is_preview: bool = False) -> None:
        """Make steps in a thread: some first ones, or all that are left."""
        if self.is_running:
            return
        self._is_pausing.clear()
        self._thread = threading.Thread(target=self._work, args=(is_preview,), daemon=True)
        self._thread.start()

    def _work(self, is_preview: bool) -> None:
        with self.session.server.saying():
            words = self._words()
            if self._run is None or not _same(words, self._laid_out):
                self.facts.content = "Reading scene and model ..."
                self._run, self._laid_out = self._lay_out(words), words
            run = self._run
            last = min(run.num_steps, run.step + int(self.tried.value)) if is_preview else run.num_steps
            self._make_steps(run, last)
            with self.session.lock:
                pairs = torch.cat([run.images(before=True), run.images()], dim=2)
            self._show_pictures(pairs, f"before | after, step {run.step}")

    def _lay_out(self, words: dict[str, Any]) -> SceneRun:
        """The edit, by the Python call.

        Raises:
            InputError: For what is wrong with a word or a file.
        """
        words = dict(words)
        is_selected = words.pop("selection")
        if is_selected.any():
            path = self.folder / f"selection-{len(self._history)}.npy"
            save_selection(path, is_selected)
            words["mask"] = Mask(saved=str(path))
        call: Any = KINDS[self._chosen().words["system_type"]]
        if call is refit_scene:
            words["on_views"] = self._show_views
        with self.session.lock:
            return call(**words)

    def _make_steps(self, run: SceneRun, last: int) -> None:
        """One at a time, so that others may render in between; looked at now and then."""
        looked, cost = time.monotonic(), 0.0
        while run.step < last and not self._is_pausing.is_set():
            with self.session.lock:
                run.run(1, on_step=self._say)
            begin = time.monotonic()
            if begin - looked > max(SHOW_EVERY, cost / LOOK_SHARE):
                self._show(run)
                looked, cost = time.monotonic(), time.monotonic() - begin
        self._show(run)

    def _say(self, progress: Progress) -> None:
        left = f"{progress.remaining_seconds:.0f} s left" if progress.step < progress.num_steps else "done"
        self.progress.value = 100 * progress.step / progress.num_steps
        self.facts.content = f"Step {progress.step} of {progress.num_steps}, {left}."

    def _show(self, run: SceneRun) -> None:
        """The scene as it is now, beside the one before."""
        with self.session.lock:
            now = run.result().to(self.session.before.device)
        self.session.change(after=now)

    def _show_views(self, number: int, names: list[str], images: Float[Tensor, "b 3 h w"]) -> None:
        """The views that a refit is fitted to, as they were edited."""
        self._show_pictures(images.permute(0, 2, 3, 1)[:4].cpu(), f"edited views {number}")

    def _show_pictures(self, images: Float[Tensor, "b h w 3"], label: str) -> None:
        self.pictures.label = label
        self.pictures.image = (torch.cat(list(images)).clamp(0, 1) * 255 + 0.5).byte().numpy()
        self.pictures.visible = True

    def _keep(self) -> None:
        """The result becomes the scene that the next edit starts from."""
        session, run = self.session, self._run
        if self.is_running or run is None or run.step == 0:
            return
        path = self.folder / f"kept-{len(self._history) + 1}.ply"
        with session.server.saying():
            run.save(path)
            was = {name: getattr(session, name) for name in ("path", "before", "is_selected")}
            self._history.append((was, run))
            self._run = None
            before = run.result().to(session.before.device)
            session.change(path=str(path), before=before, after=None, is_selected=run.result_selection())
            self.facts.content = f"Kept as {path}."

    def _undo(self) -> None:
        """Forget the edit that was not kept; if there is none, go back to before the last one that was."""
        if self.is_running:
            return
        if self._run is not None:
            self._run = None
            self.session.change(after=None)
        elif self._history:
            was, _ = self._history.pop()
            self.session.change(**was, after=None)
        self.progress.value, self.facts.content = 0.0, f"Undone; {len(self._history)} edits are kept."

    def _save(self) -> None:
        """Write what is shown; the suffix decides the format."""
        run = self._run or (self._history[-1][1] if self._history else None)
        if run is None:
            self.session.server.notice("There is no result yet", "Run an edit first.")
            return
        with self.session.server.saying(), self.session.lock:
            run.save(self.path.value)
            self.session.server.notice("Saved", self.path.value)


def methods() -> dict[str, Method]:
    """The configs of the repository that edit a scene by words, by name, the usual ones first."""
    by_name = {}
    for path in sorted((repository() / "configs").glob("*.yaml"), key=lambda path: (path.stem not in USUAL, path.stem)):
        words = read_file(path)
        if words.get("system_type") in KINDS and "steps" in words:
            by_name[path.stem] = Method(path, words)
    return by_name


def _same(words: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether two sets of words ask for the same edit."""
    plain = [{key: value for key, value in each.items() if key != "selection"} for each in (words, others)]
    return plain[0] == plain[1] and torch.equal(words["selection"], others["selection"])
