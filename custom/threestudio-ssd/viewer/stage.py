"""The canvas: the splats as the browser draws them, or what our rasteriser sees from there: split, depth, colours."""

import threading
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..rendering import render_depths, render_each
from .eyes import camera_of
from .session import Session
from .splats import splats_of
from .worker import Latest

SCENE, BEFORE, AFTER, SPLIT, RENDERED, DEPTH = "scene", "before", "after", "before | after", "as rendered", "depth"
CHOICES = {
    False: (SCENE, RENDERED, DEPTH),
    True: (SCENE, BEFORE, SPLIT, RENDERED, DEPTH),
}
"""What can be shown, without and with a second scene."""
DRAWN = (SPLIT, RENDERED, DEPTH)
"""What our rasteriser draws behind everything else, in place of the splats."""
SIZE = 400
"""Shorter side of what our rasteriser draws, pixels; the browser enlarges it."""
LINE = (255, 255, 255)


class Stage:
    """Shows the scenes of a session.

    Args:
        session: Shared by all panels.
    """

    def __init__(self, session: Session) -> None:
        self.session, gui = session, session.server.gui
        self._draw = Latest(session.server.saying)
        self.choice = gui.add_dropdown("show", CHOICES[session.after is not None], initial_value=SCENE)
        self.split = gui.add_slider("split at", 0.0, 1.0, 0.01, 0.5, visible=False)
        self.is_tinted = gui.add_checkbox("tint the selection", True)
        self.facts = gui.add_markdown("")
        self._nodes: dict[str, Any] = {}
        self._sent: dict[str, tuple[object, object]] = {}
        self._lock = threading.RLock()
        self.choice.on_update(lambda _: self.refresh())
        self.split.on_update(lambda _: self.refresh())
        self.is_tinted.on_update(lambda _: self._changed())
        session.server.on_client_connect(self._watch)
        session.listen(self._changed)
        self._changed()

    def refresh(self) -> None:
        """Show what the controls say, now or as soon as it is drawn."""
        with self._lock:
            choice, has_after = self.choice.value, AFTER in self._nodes
            self.split.visible = choice == SPLIT
            self.facts.visible = choice == DEPTH
            self._nodes[BEFORE].visible = choice == BEFORE or (choice == SCENE and not has_after)
            if has_after:
                self._nodes[AFTER].visible = choice == SCENE
        self._draw(self._draw_all)

    def _changed(self) -> None:
        """The scenes or the selection are others now."""
        with self._lock:
            session, choices = self.session, CHOICES[self.session.after is not None]
            self._send(BEFORE, session.before, session.is_selected if self.is_tinted.value else None)
            self._send(AFTER, session.after, None)
            if tuple(self.choice.options) != choices:
                kept = self.choice.value if self.choice.value in choices else SCENE
                self.choice.options = choices
                self.choice.value = kept
        self.refresh()

    def _send(self, name: str, gaussians: Gaussians | None, is_tinted: Bool[Tensor, "n"] | None) -> None:
        """Give the browser a scene, unless it has it."""
        was_sent, was_tinted = self._sent.get(name, (None, None))
        if was_sent is gaussians and was_tinted is is_tinted:
            return
        self._sent[name] = (gaussians, is_tinted)
        if gaussians is None:
            if name in self._nodes:
                self._nodes.pop(name).remove()
            return
        splats = splats_of(gaussians, is_tinted)
        if name in self._nodes:
            self._nodes[name].set_gaussians(*splats)
        else:
            self._nodes[name] = self.session.server.scene.add_gaussian_splats(f"/{name}", *splats)

    def _watch(self, client: Any) -> None:
        """A browser came: draw again whenever its camera moved."""
        client.camera.on_update(lambda _: self._draw(self._draw_all) if self.choice.value in DRAWN else None)

    def _draw_all(self) -> None:
        for client in self.session.server.get_clients().values():
            image = None
            if self.choice.value in DRAWN:
                with self.session.lock:
                    image = self._picture(camera_of(client.camera, SIZE))
            client.scene.set_background_image(image, format="jpeg", jpeg_quality=90)

    def _picture(self, camera: Cameras) -> UInt8[np.ndarray, "h w 3"]:
        session, choice = self.session, self.choice.value
        now = session.before if session.after is None else session.after
        if choice == DEPTH:
            depths, alphas = (maps[0].cpu() for maps in render_depths(now, camera))
            picture, (near, far) = depth_picture(depths, alphas)
            self.facts.content = f"depth: {near:.3g} (red) to {far:.3g} (blue) world units"
            return picture
        background = session.viewed.background
        image = next(render_each(now, camera, background))
        if choice == SPLIT:
            image = beside(next(render_each(session.before, camera, background)), image, self.split.value)
        return (image.cpu() * 255 + 0.5).byte().numpy()


def beside(before: Float[Tensor, "h w 3"], after: Float[Tensor, "h w 3"], at: float) -> Float[Tensor, "h w 3"]:
    """One picture left of a line and another one right of it.

    Args:
        before: In [0, 1].
        after: In [0, 1].
        at: Where the line is, as a share of the width.
    """
    column = round(at * before.shape[1])
    image = torch.cat([before[:, :column], after[:, column:]], dim=1)
    image[:, max(column - 1, 0) : column + 1] = image.new_tensor(LINE) / 255
    return image


def depth_picture(
    depths: Float[Tensor, "h w"], alphas: Float[Tensor, "h w"]
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[float, float]]:
    """Depth from red (near) to blue (far), black where nothing is.

    Args:
        depths: Along the viewing axis, world units.
        alphas: How much of a pixel the scene covers, in [0, 1].

    Returns:
        The picture, and the depths of its two ends: all but the nearest and farthest fiftieth of the pixels.
    """
    is_there = alphas > 0.5
    if not is_there.any():
        return np.zeros((*depths.shape, 3), np.uint8), (0.0, 0.0)
    near, far = np.quantile(depths[is_there].numpy(), [0.02, 0.98]).tolist()
    shares = 1 - (depths - near).clamp(0, max(far - near, 1e-9)) / max(far - near, 1e-9)
    colors = cv2.applyColorMap((shares * 255).byte().numpy(), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.ascontiguousarray(colors * is_there.numpy()[..., None]), (near, far)
