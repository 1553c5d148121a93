"""The panel of cameras: go where a photograph was taken, and see it beside the render."""

from typing import Any

import torch

from ..rendering import render_each
from .eyes import pose_of, send
from .session import Session
from .worker import Latest

NOWHERE = "choose a view"
SHOWN_AT = 320
"""Height of photograph and render, pixels."""
MOST_FRUSTUMS = 100
"""Cameras of a large capture that are drawn, evenly spread; all can be chosen by name."""


class Captured:
    """The cameras of the capture, or the held-out views of an orbit where there is none.

    Args:
        session: Shared by all panels.
    """

    def __init__(self, session: Session) -> None:
        self.session, gui, plan = session, session.server.gui, session.viewed.plan
        self.cameras = plan.capture if plan.capture is not None else session.viewed.views.test
        self._draw = Latest(session.server.saying)
        self.chosen = gui.add_dropdown("view", (NOWHERE, *self.cameras.names), initial_value=NOWHERE)
        self.are_drawn = gui.add_checkbox("draw the cameras", False)
        self.picture = gui.add_image(torch.zeros(2, 2, 3, dtype=torch.uint8).numpy(), visible=False)
        self._frustums: list[Any] = []
        self.chosen.on_update(lambda _: self._go())
        self.are_drawn.on_update(lambda _: self._draw_frustums())

    def _go(self) -> None:
        if self.chosen.value == NOWHERE:
            self.picture.visible = False
            return
        row = self.cameras.names.index(self.chosen.value)
        for client in self.session.server.get_clients().values():
            send(client, self.cameras, row, self.session.viewed.views.orbit.center)
        self._draw(lambda: self._show(row))

    def _show(self, row: int) -> None:
        """The photograph and what our rasteriser sees from there."""
        session = self.session
        camera = self.cameras[row].scaled(SHOWN_AT / int(self.cameras.heights[row]))
        with session.lock:
            now = session.before if session.after is None else session.after
            images = [next(render_each(now, camera, session.viewed.background)).cpu()]
        has_photograph = camera.image_paths[0] is not None and camera.image_paths[0].is_file()
        if has_photograph:
            images.insert(0, camera.load_image(0, session.viewed.background.tolist()))
        self.picture.label = "photograph | render" if has_photograph else "render"
        self.picture.image = (torch.cat(images, dim=1).clamp(0, 1) * 255 + 0.5).byte().numpy()
        self.picture.visible = True

    def _draw_frustums(self) -> None:
        for frustum in self._frustums:
            frustum.remove()
        self._frustums = []
        if not self.are_drawn.value:
            return
        count = len(self.cameras)
        scale = 0.05 * float(self.session.viewed.views.orbit.radius)
        for row in torch.linspace(0, count - 1, min(count, MOST_FRUSTUMS)).round().long().tolist():
            wxyz, position, fov_y, aspect = pose_of(self.cameras, row)
            frustum = self.session.server.scene.add_camera_frustum(
                f"/cameras/{row}", fov_y, aspect, scale=scale, thickness=0.03 * scale, wxyz=wxyz, position=position
            )
            frustum.on_click(lambda _, name=self.cameras.names[row]: self._choose(name))
            self._frustums.append(frustum)

    def _choose(self, name: str) -> None:
        self.chosen.value = name
        self._go()
