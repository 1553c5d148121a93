"""The new object as a surface: carved from views or from itself, coloured by views, put into the source's light."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ConfigError
from ..gaussians import Gaussians, sh0_from_rgbs
from ..masks.region import Region
from ..metrics import gaussian_blur
from ..rendering import coverage, render
from ..scenes import Scene
from .carve import carved, seen_colors, surface_gaussians
from .editing import ViewEditing
from .hull import Hull
from .light import Light, light_on
from .turning import turned_to_agree

SOLID = 0.9
"""Share of a pixel from which on it shows nothing but the object."""
EDGE_BLUR = 1.0
"""Standard deviation of the blur that carries light over the edge of the object, pixels."""


@dataclass(frozen=True, eq=False)
class Carver:
    """Turns views of a new object into Gaussians.

    Attributes:
        editing: The views, and the scene without the object.
        source: The scene before the edit.
        is_replaced: Which of its Gaussians are the old object.
        cfg: ``CarveConfig``.
        turn_deg: How far edited views are turned to agree, see ``turned_to_agree``.
    """

    editing: ViewEditing
    source: Scene
    is_replaced: Bool[Tensor, "n"]
    cfg: Any
    turn_deg: float = 0.0

    def from_views(self, images: Float[Tensor, "c 3 h w"], shares: Float[Tensor, "c 1 h w"]) -> Gaussians:
        """The object that edited views agree on.

        Args:
            images: All of them, [0, 1].
            shares: How far each pixel belongs to the object.
        """
        cfg = self.cfg
        hull = turned_to_agree(self.hull(shares), self.turn_deg)
        points, normals = self._surface(hull, cfg.agreement)
        return self.recolored(self._discs(points, normals, cfg.spacing, cfg.opacity), images, shares)

    def from_renders(
        self, current: Gaussians, images: Float[Tensor, "c 3 h w"], shares: Float[Tensor, "c 1 h w"]
    ) -> Gaussians:
        """The object as it is now, as far as views show it, with a surface of one piece; see ``from_views``."""
        cfg = self.cfg
        seen = torch.minimum(self.covered(current), shares)
        points, normals = self._surface(self.hull(seen, cfg.fine_spacing), cfg.fine_agreement)
        return self.recolored(self._discs(points, normals, cfg.fine_spacing, cfg.fine_opacity), images, shares)

    def recolored(
        self, current: Gaussians, images: Float[Tensor, "c 3 h w"], shares: Float[Tensor, "c 1 h w"]
    ) -> Gaussians:
        """The object in the colours that views show it in."""
        rgbs = self._seen(current, images, shares)
        return current.replace(sh0=sh0_from_rgbs(rgbs)[:, None], shN=torch.zeros_like(current.shN))

    def light_maps(self, current: Gaussians) -> Float[Tensor, "c 1 h w"]:
        """What to multiply views of the evenly lit object with, to put it into the light of the old one.

        Args:
            current: The object.
        """
        cfg, editing = self.cfg, self.editing
        covered = self.covered(current)
        points, normals = self._surface(self.hull(covered, cfg.fine_spacing), cfg.fine_agreement)
        discs = self._discs(points, normals, cfg.fine_spacing, cfg.fine_opacity)
        whole, _ = self._whole(current)
        rgbs = self._seen(discs, editing.renders(whole), (covered > SOLID).to(covered))
        whole, is_new = self._whole(discs)
        values = torch.zeros(len(whole), 2, device=whole.device)
        values[is_new] = torch.stack([self.light.factors(normals, rgbs), torch.ones_like(rgbs[:, 0])], dim=1)
        behind = torch.zeros(2, device=whole.device)
        maps = [render(whole, editing.cameras[row], behind, values)[0][0] for row in range(len(editing.cameras))]
        blurred = gaussian_blur(torch.stack(maps).permute(0, 3, 1, 2), EDGE_BLUR)
        return torch.where(blurred[:, 1:] > 0.02, blurred[:, :1] / blurred[:, 1:].clamp_min(0.02), 1.0)

    @cached_property
    def light(self) -> Light:
        """The light that the old object stands in."""
        cfg, editing, covered = self.cfg, self.editing, self.covered_before
        points, normals = self._surface(self.hull(covered, cfg.fine_spacing), cfg.fine_agreement)
        discs = self._discs(points, normals, cfg.fine_spacing, cfg.fine_opacity)
        return light_on(normals, self._seen(discs, editing.sources, (covered > SOLID).to(covered)))

    @cached_property
    def covered_before(self) -> Float[Tensor, "c 1 h w"]:
        """How much of each pixel of the views the old object makes up."""
        return coverage(self.source, self.is_replaced, self.editing.cameras)[:, None]

    def covered(self, new: Gaussians) -> Float[Tensor, "c 1 h w"]:
        """How much of each pixel of the views the object makes up."""
        return coverage(*self._whole(new), self.editing.cameras)[:, None]

    def hull(self, shares: Float[Tensor, "c 1 h w"], spacing: float | None = None) -> Hull:
        """How far views agree on which points belong to an object.

        Args:
            shares: How far each of their pixels does.
            spacing: Of the points, in units of the region's size; None: as for a first shape.
        """
        between = (self.cfg.spacing if spacing is None else spacing) * self.region.size
        return Hull(self.region, self.editing.cameras, shares, between)

    @property
    def region(self) -> Region:
        """Where the object may be."""
        region = self.editing.region
        assert region is not None  # rounds that carve are refused where nothing is replaced
        return region

    def _surface(self, hull: Hull, agreement: float | None) -> tuple[Tensor, Tensor]:
        points, normals = carved(hull, hull.best_agreement() if agreement is None else agreement)
        if len(points) == 0:
            raise ConfigError(
                what="no shape can be carved: the views agree on no point of it",
                expected="an object that most edited views show in one place",
                fix="look at save/views; lower system.carve.agreement, or set another system.editing.editor or model",
            )
        return points, normals

    def _discs(self, points: Tensor, normals: Tensor, spacing: float, opacity: float) -> Gaussians:
        size = self.region.size
        discs = surface_gaussians(points, normals, spacing * size, opacity, self.cfg.flatness)
        return discs.with_sh_degree(self.source.sh_degree)

    def _seen(self, new: Gaussians, images: Tensor, shares: Tensor) -> Float[Tensor, "m 3"]:
        return seen_colors(*self._whole(new), self.editing.cameras, images, shares)

    def _whole(self, new: Gaussians) -> tuple[Gaussians, Bool[Tensor, "n"]]:
        """The empty scene with the object, and which of its Gaussians that is."""
        empty = self.editing.empty
        fields: Any = {name: torch.cat([getattr(empty, name), t.detach()]) for name, t in new.parameters().items()}
        whole = Gaussians(**fields, is_antialiased=empty.is_antialiased)
        return whole, torch.arange(len(whole), device=whole.device) >= len(empty)
