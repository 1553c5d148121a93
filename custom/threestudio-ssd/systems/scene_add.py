"""The system that adds an object by words: distillation inside a box, everything else frozen."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import threestudio

from ..errors import ConfigError, check_values
from ..gaussians import Gaussians, rotation_matrices
from ..masks import Selection, in_box
from ..seeds import Stream, generator
from .photometric import gaussians_from_points, random_points
from .scene_edit import SceneEditSystem

LARGEST_SCALE = 0.15
"""Gaussians of the new object stay below this share of the box's shortest side."""
COLOR_SPREAD = 0.1
REACH = 2.0
"""Standard deviations of a Gaussian that count as part of the object: these stay inside the box as well."""


@threestudio.register("gs-add-system")
class SceneAddSystem(SceneEditSystem):
    """Generates an object in a box; ``save/edited.<suffix of the scene>`` is the scene with it."""

    @dataclass
    class Config(SceneEditSystem.Config):
        """Keys of the edit; ``mask`` stays empty: what may change is the new object."""

        box: list[float] = field(default_factory=list)
        """x_min y_min z_min x_max y_max z_max, world units: the object lies inside, resting on nothing by itself.
        Every Gaussian stays inside by two standard deviations."""
        num_start: int = 2000
        """Gaussians to start from, a grey ball in the middle of the box."""
        start_size: float = 0.8
        """How much of the box that ball fills along each side, in (0, 1]; an opaque ball hardly shrinks."""
        start_opacity: float = 0.5
        """Their opacity, in (0, 1)."""

    cfg: Config

    def configure(self) -> None:
        """Check the box, then as any edit."""
        box = list(self.cfg.box)
        if not box:
            raise ConfigError(
                what="box is empty", expected="where the object goes: x_min, y_min, z_min, x_max, y_max, z_max",
                fix="set box=[-0.5,-0.5,0,0.5,0.5,1]",
            )  # fmt: skip
        in_box(torch.zeros(1, 3), box, "box")
        check_values("system", self.cfg, self.Config, {
            "num_start": (self.cfg.num_start >= 8, "at least 8"),
            "start_size": (0 < self.cfg.start_size <= 1, "above 0, at most 1"),
            "start_opacity": (0 < self.cfg.start_opacity < 1, "between 0 and 1"),
        })  # fmt: skip
        super().configure()

    def choose(self, views: Any) -> tuple[Gaussians, Selection]:
        """The scene with a ball of new Gaussians, which alone may change."""
        seeds = self.start_object().with_sh_degree(self._source.sh_degree)
        scene = self._source.append(seeds)
        return scene, Selection(torch.arange(len(scene)) >= len(self._source))

    def start_object(self) -> Gaussians:
        """Grey Gaussians, evenly at random in an ellipsoid in the middle of the box."""
        draw = generator(self.cfg.seed, 0, Stream.START)
        low, high = torch.tensor(list(self.cfg.box), dtype=torch.float32).view(2, 3)
        points = random_points(self.cfg.num_start, (low + high) / 2, self.cfg.start_size * (high - low) / 2, draw)
        rgbs = 0.5 + COLOR_SPREAD * torch.randn(self.cfg.num_start, 3, generator=draw)
        return gaussians_from_points(points, rgbs.clamp(0, 1), 0, self.cfg.start_opacity)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Lightning hook: after each step the object is put back into its box."""
        super().optimizer_step(*args, **kwargs)
        self._keep_inside()

    @torch.no_grad()
    def _keep_inside(self) -> None:
        selected = self.editable.selected
        low, high = torch.tensor(list(self.cfg.box), dtype=torch.float32, device=self.device).view(2, 3)
        selected["log_scales"].clamp_(max=math.log(LARGEST_SCALE * float((high - low).min())))
        reach = REACH * extents(self.editable.current())
        selected["means"].copy_(torch.minimum(torch.maximum(selected["means"], low + reach), high - reach))

    def scene_before(self) -> Gaussians:
        """The scene without the object."""
        return self.editable.source.select(~self.editable.is_selected)

    def shown_selection(self) -> tuple[Gaussians, Tensor]:
        """The object as it came out."""
        return self.editable.result(), self.editable.result_selection()


def extents(gaussians: Gaussians) -> Float[Tensor, "n 3"]:
    """How far each Gaussian goes along the world axes: the standard deviations of its marginals, world units."""
    axes = rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :]
    return axes.norm(dim=-1)
