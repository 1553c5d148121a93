"""Faint Gaussians in and around a selection, from which a new shape can grow by score distillation."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import check_values
from ..gaussians import Gaussians, rgbs_from_sh0
from ..masks.region import HEIGHT_ROOM, RADIUS_ROOM, Region, region_around
from ..neighbors import Neighbors
from ..seeds import Stream, generator
from .photometric import gaussians_from_points, random_places


@dataclass
class SeedConfig:
    """Keys of the seeds that a selection is given."""

    count: int = 0
    """How many, >= 0; 0: none, and the selection may go anywhere."""
    opacity: float = 0.05
    """Of all, in (0, 1): what no view wants stays invisible."""
    room: list[float] | None = None
    """How much wider and higher than the selection the upright cylinder is in which they are, each >= 1; nothing that
    moves leaves it. None: 1.3 and 1.35."""


def check_seeds(key: str, cfg: Any) -> None:
    """Refuse values that cannot be used.

    Raises:
        ConfigError: For the first.
    """
    check_values(key, cfg, SeedConfig, {
        "count": (cfg.count >= 0, "at least 0"),
        "opacity": (0 < cfg.opacity < 1, "between 0 and 1"),
        "room": (cfg.room is None or (len(cfg.room) == 2 and min(cfg.room) >= 1), "two numbers, each at least 1"),
    })  # fmt: skip


def seeded(
    cfg: Any, scene: Gaussians, is_selected: Bool[Tensor, "n"], up: Float[Tensor, "3"], seed: int
) -> tuple[Gaussians, Bool[Tensor, "n2"], Region]:
    """A scene with seeds behind its Gaussians, the selection with them, and the region that they are in.

    Each seed has the colour of the selected Gaussian that is nearest, and is as large as the gaps between them.

    Args:
        cfg: ``SeedConfig`` with a count above 0.
        scene: The scene.
        is_selected: What may change; not empty.
        up: Of the scene, a unit vector.
        seed: Decides where they are.
    """
    room = (RADIUS_ROOM, HEIGHT_ROOM) if cfg.room is None else tuple(cfg.room)
    chosen = scene.select(is_selected)
    region = region_around(chosen.means, up, room)
    points = region.world(random_places(cfg.count, generator(seed, 0, Stream.START)).to(region.half))
    places = (each.detach().cpu().double().numpy() for each in (chosen.means, points))
    tree, asked = Neighbors(next(places)), next(places)
    _, nearest = tree.nearest(asked, 1)
    rgbs = rgbs_from_sh0(chosen.sh0[:, 0]).clamp(0, 1)[torch.from_numpy(nearest[:, 0])]
    seeds = gaussians_from_points(points.cpu(), rgbs.cpu(), scene.sh_degree, cfg.opacity).to(scene.device)
    return scene.append(seeds), torch.cat([is_selected, is_selected.new_ones(cfg.count)]), region
