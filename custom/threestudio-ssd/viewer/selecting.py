"""The panel that selects: words, threshold, box, sphere, a brush; saved as ``selection.npy``."""

import copy
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

from threestudio.errors import one_line

from ..cameras import Cameras
from ..errors import InputError
from ..masks import find_selection, save_selection, settle_mask
from .eyes import camera_of, pose_of
from .picking import disc, rectangle, visible_under
from .session import Session
from .shapes import Shape
from .stage import SIZE
from .worker import Latest

OFF, ADD, REMOVE = "off", "adds", "takes away"
THRESHOLDS = (0.01, 0.99)
PARTS = ("text", "picture", "box", "sphere", "saved", "any_of", "none_of")
"""Keys of a mask that select something."""
FIRST_SHARE = 0.4
"""Of the height of the first view, that a box or sphere takes where none is given: all its arrows are in sight."""


class Selecting:
    """Finds the selection by the keys of a mask, as a run does, and changes it by hand.

    Args:
        session: Shared by all panels.
        folder: Where ``selection.npy`` is written unless another path is typed.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, viewed, gui = session, session.viewed, session.server.gui
        self._mask, self._of_texts, self._later = viewed.mask, {}, Latest(session.server.saying)
        self._traced = self._added = self._taken = torch.zeros_like(session.is_selected)
        self._scene = session.before
        self.words = gui.add_text("in words", self._mask.text or "", hint="what the edit may change: the ball")
        self.find, (low, high) = gui.add_button("find it"), THRESHOLDS
        self.threshold = gui.add_slider("threshold", *THRESHOLDS, 0.01, min(max(self._mask.threshold, low), high))
        self.shapes = [self._shape("box"), self._shape("sphere")]
        self.brush = gui.add_dropdown(
            "brush", (OFF, ADD, REMOVE), initial_value=OFF, hint="click; shift and drag: a rectangle"
        )
        self.radius = gui.add_slider("brush size", 0.005, 0.2, 0.005, 0.03)
        self.forget = gui.add_button("forget the brush")
        self.facts = gui.add_markdown("")
        self.path = gui.add_text("save as", str(folder / "selection.npy"))
        self.save = gui.add_button("save the selection")
        self.find.on_click(lambda _: self._look_for(self.words.value))
        self.threshold.on_update(lambda _: self._later(self._find))
        self.brush.on_update(lambda _: self._switch_brush())
        self.forget.on_click(lambda _: self._forget())
        self.save.on_click(lambda _: self._save())
        session.listen(self._changed)
        self._later(self._find)

    def wait(self) -> bool:
        """Until the selection is what the controls say; whether it came to that."""
        return self._later.wait()

    def keys(self) -> DictConfig:
        """The mask that the controls say, as a config has it; the brush is not in it."""
        mask = copy.deepcopy(self._mask)
        mask.threshold = self.threshold.value
        for shape in self.shapes:
            mask[shape.name] = shape.value if shape.is_on else None
        return mask

    def _look_for(self, words: str) -> None:
        """Take the words that were typed; not at every letter, for a segmenter looks for them."""
        self._mask.text = words.strip() or None
        self._later(self._find)

    def _shape(self, name: str) -> Shape:
        views, given = self.session.viewed.views, self._mask[name]
        center, size = views.orbit.center, float(views.orbit.extent.max())
        _, position, fov_y, _ = pose_of(views.test, 0)
        half = FIRST_SHARE * float(np.linalg.norm(position - center.double().numpy())) * math.tan(fov_y / 2)
        first = [*(center - half).tolist(), *(center + half).tolist()] if name == "box" else [*center.tolist(), half]
        scene = self.session.before
        numbers = scene.local(given) if given else first
        return Shape(
            self.session.server, name, numbers, size, given is not None, lambda: self._later(self._find), scene.local
        )

    def _find(self) -> None:
        """Select what the keys say, by the code of a run."""
        session, viewed, mask = self.session, self.session.viewed, self.keys()
        problem = ""
        if not any(mask[part] for part in PARTS):
            self._traced = torch.zeros(len(session.before), dtype=torch.bool)
        else:
            try:
                mask = settle_mask(mask, session.path, viewed.model)
                self._mask.segmenter = mask.segmenter
                with session.lock:
                    capture = viewed.plan.capture
                    selection = find_selection(
                        mask, session.before, viewed.views.train, capture, viewed.background, self._of_texts
                    )
                self._traced = selection.is_selected.cpu()
            except InputError as error:  # said in the panel: a box that is being dragged may be empty for a while
                self._traced, problem = torch.zeros(len(session.before), dtype=torch.bool), one_line(error)
        self._show(problem)

    def _show(self, problem: str = "") -> None:
        is_selected = (self._traced | self._added) & ~self._taken
        count, total = int(is_selected.sum()), len(is_selected)
        nothing = "Nothing is selected; an edit may change everything."
        self.facts.content = problem or (f"{count:,} of {total:,} Gaussians are selected." if count else nothing)
        self.session.change(is_selected=is_selected)

    def _changed(self) -> None:
        """Another scene is edited now: what was found and brushed belongs to the one before."""
        if self.session.before is not self._scene:
            self._scene, self._of_texts = self.session.before, {}
            self._traced = self.session.is_selected
            self._added = self._taken = torch.zeros_like(self._traced)

    def _switch_brush(self) -> None:
        scene = self.session.server.scene
        scene.remove_click_callback("all")
        scene.remove_rect_select_callback("all")
        if self.brush.value != OFF:
            scene.on_click()(self._clicked)
            scene.on_rect_select(modifier="shift")(self._boxed)

    def _clicked(self, event: Any) -> None:
        camera = camera_of(event.client.camera, SIZE)
        size = (int(camera.widths[0]), int(camera.heights[0]))
        self._brush(camera, disc(size, event.screen_pos, self.radius.value))

    def _boxed(self, event: Any) -> None:
        camera = camera_of(event.client.camera, SIZE)
        size = (int(camera.widths[0]), int(camera.heights[0]))
        self._brush(camera, rectangle(size, event.screen_min, event.screen_max))

    def _brush(self, camera: Cameras, mask: Float[Tensor, "h w"]) -> None:
        """Add or take away what is seen under a mask."""
        with self.session.lock:
            is_picked: Bool[Tensor, "n"] = visible_under(self.session.before, camera, mask).cpu()
        is_adding = self.brush.value == ADD
        self._added = self._added | is_picked if is_adding else self._added & ~is_picked
        self._taken = self._taken & ~is_picked if is_adding else self._taken | is_picked
        self._show()

    def _forget(self) -> None:
        self._added = self._taken = torch.zeros_like(self._traced)
        self._show()

    def _save(self) -> None:
        with self.session.server.saying():
            save_selection(self.path.value, self.session.is_selected)
            self.session.server.notice("Saved", shlex.quote(f"mask.saved={self.path.value}"))
