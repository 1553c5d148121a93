"""Adding an object by words: distillation inside a box, everything else frozen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

from ..data import SceneViews, ViewPlan
from ..errors import ConfigError, check_values
from ..gaussians import Gaussians, rotation_matrices
from ..masks import Selection
from ..masks.box import checked_box
from ..scenes import load_splat
from ..seeds import Stream, generator
from .editable_gaussians import EditableGaussians
from .photometric import gaussians_from_points, random_points
from .scene_edit import SceneEdit, SceneEditConfig

LARGEST_SCALE = 0.15
"""Gaussians of the new object stay below this share of the box's shortest side."""
COLOR_SPREAD = 0.1
REACH = 2.0
"""Standard deviations of a Gaussian that count as part of the object: these stay inside the box as well."""


@dataclass
class SceneAddConfig(SceneEditConfig):
    """Keys of an addition; ``mask`` stays empty: what may change is the new object."""

    box: list[float] = field(default_factory=list)
    """x_min y_min z_min x_max y_max z_max, world units: the object lies inside, resting on nothing by itself.
    Every Gaussian stays inside by two standard deviations."""
    num_start: int = 2000
    """Gaussians to start from, a grey ball in the middle of the box."""
    start_size: float = 0.8
    """How much of the box that ball fills along each side, in (0, 1]; an opaque ball hardly shrinks."""
    start_opacity: float = 0.5
    """Their opacity, in (0, 1)."""


class SceneAdd(SceneEdit):
    """A scene with a new object in a box.

    Args:
        cfg: Keys of ``SceneAddConfig``, checked against it.
    """

    load = staticmethod(load_splat)

    def __init__(self, cfg: DictConfig) -> None:
        check_place(cfg.box)
        check_values("system", cfg, SceneAddConfig, {
            "num_start": (cfg.num_start >= 8, "at least 8"),
            "start_size": (0 < cfg.start_size <= 1, "above 0, at most 1"),
            "start_opacity": (0 < cfg.start_opacity < 1, "between 0 and 1"),
        })  # fmt: skip
        super().__init__(cfg)
        self.low, self.high = torch.tensor(list(cfg.box), dtype=torch.float32).view(2, 3)

    def choose(self, views: SceneViews, plan: ViewPlan) -> tuple[Gaussians, Selection]:
        """The scene with a ball of new Gaussians, which alone may change."""
        self.low, self.high = torch.tensor(self.source.local(self.cfg.box)).view(2, 3)  # which may be far out
        start = self.start_object().with_sh_degree(self.source.sh_degree)
        scene = self.source.append(start).to(self.device)
        return scene, Selection(torch.arange(len(scene), device=self.device) >= len(self.source))

    def start_object(self) -> Gaussians:
        """Grey Gaussians, evenly at random in an ellipsoid in the middle of the box."""
        cfg, draws = self.cfg, generator(self.cfg.seed, 0, Stream.START)
        middle, half_axes = (self.low + self.high) / 2, cfg.start_size * (self.high - self.low) / 2
        points = random_points(cfg.num_start, middle, half_axes, draws)
        rgbs = 0.5 + COLOR_SPREAD * torch.randn(cfg.num_start, 3, generator=draws)
        return gaussians_from_points(points, rgbs.clamp(0, 1), 0, cfg.start_opacity)

    @torch.no_grad()
    def keep_inside(self, editable: EditableGaussians) -> None:
        """Put the object back into its box after a step."""
        low, high = self.low.to(editable.source.device), self.high.to(editable.source.device)
        selected = editable.selected
        selected["log_scales"].clamp_(max=math.log(LARGEST_SCALE * float((high - low).min())))
        reach = REACH * extents(editable.current())
        selected["means"].copy_(torch.minimum(torch.maximum(selected["means"], low + reach), high - reach))

    def scene_before(self) -> Gaussians:
        """The scene without the object."""
        return self.scene.select(~self.selection.is_selected)

    def selection_in_view(self) -> tuple[Gaussians, Bool[Tensor, "n"]]:
        """The object as it came out."""
        return self.editable.result(), self.editable.result_selection()

    @property
    def num_selected(self) -> int:
        """How many Gaussians the object has."""
        return int(self.editable.result_selection().sum())


def check_place(box: Sequence[float]) -> None:
    """Refuse an addition without a place.

    Raises:
        ConfigError: If the box is empty or no box.
    """
    if not box:
        what, expected = "box is empty", "where the object goes: x_min, y_min, z_min, x_max, y_max, z_max"
        raise ConfigError(what=what, expected=expected, fix="set box=[-0.5,-0.5,0,0.5,0.5,1]")
    checked_box(box, "box")


def extents(gaussians: Gaussians) -> Float[Tensor, "n 3"]:
    """How far each Gaussian goes along the world axes: the standard deviations of its marginals, world units."""
    axes = rotation_matrices(gaussians.quats) * gaussians.scales[:, None, :]
    return axes.norm(dim=-1)
