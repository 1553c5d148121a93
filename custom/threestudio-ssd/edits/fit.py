"""A splat from posed photographs, for those who have no splat yet (Kerbl et al. 2023)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio
from threestudio.utils.misc import get_device

from ..cameras import Cameras
from ..data.photos import PhotoCapture
from ..errors import check_values
from ..seeds import Stream, generator
from .editable_gaussians import EditableGaussians
from .gaussian_edit import GaussianEdit, LearningRates, Movement, SceneJob, SceneUnderEdit
from .growth import Growth, GrowthConfig, check_growth
from .keys import EditConfig, check_not_negative, check_num_steps
from .objectives import Photometric
from .photometric import gaussians_from_points, random_points

EXTENT_MARGIN = 1.1
"""Extent of a scene: this times the largest distance of a camera from the middle of all (INRIA's code)."""


@dataclass
class FitConfig(EditConfig):
    """Keys of a fit."""

    num_steps: int = 6000
    """Optimisation steps, one photograph each, >= 1."""
    seed: int = 0
    """Decides the order of photographs and where Gaussians split."""
    background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Colour behind the scene, RGB in [0, 1]."""
    num_random_points: int = 5000
    """Gaussians to start from, in the cameras' midst, where a capture has no sparse points."""
    sh_degree: int = 2
    """Highest degree of view-dependent colour, 0 to 4."""
    sh_every: int = 1000
    """Steps between its degrees; the first is fitted with degree 0."""
    start_opacity: float = 0.1
    """Opacity of the Gaussians at the start, in (0, 1)."""
    learning_rates: LearningRates = field(default_factory=LearningRates)
    """Per attribute; that of means is times the scene's extent, its schedule falls by a constant ratio."""
    lambda_ssim: float = 0.2
    """Share of 1 - SSIM in the loss, in [0, 1]; the rest is L1."""
    growth: GrowthConfig = field(default_factory=lambda: GrowthConfig(kind="default"))
    """How Gaussians are added and removed."""
    preview_every: int = 1000
    """Steps between pictures of the progress in save/progress; 0: none."""


class SceneFit(SceneJob):
    """Photographs and the Gaussians that are fitted to them.

    Args:
        cfg: Keys of ``FitConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_growth(cfg.growth)
        check_num_steps(cfg, FitConfig)
        check_not_negative("system.learning_rates", cfg.learning_rates, LearningRates)
        check_values("system", cfg, FitConfig, {
            "sh_degree": (0 <= cfg.sh_degree <= 4, "0 to 4"),
            "sh_every": (cfg.sh_every >= 1, "at least 1"),
            "start_opacity": (0 < cfg.start_opacity < 1, "between 0 and 1"),
            "lambda_ssim": (0 <= cfg.lambda_ssim <= 1, "0 to 1"),
        })  # fmt: skip
        self.device = get_device()

    def open(self, capture: PhotoCapture) -> None:
        """Read the photographs and place the first Gaussians.

        Args:
            capture: Has the photographs, and sparse points if there are any.
        """
        cfg = self.cfg
        photos, self.judges = capture.split(cfg.background)
        self.photos = photos.to(self.device)
        centers = photos.cameras.centers
        extent = EXTENT_MARGIN * float((centers - centers.mean(dim=0)).norm(dim=1).max())
        points, rgbs = capture.points() or self._random_points(photos.cameras, extent)
        start = gaussians_from_points(points, rgbs, cfg.sh_degree, cfg.start_opacity).to(self.device)
        editable = EditableGaussians(start, torch.ones(len(start), dtype=torch.bool, device=self.device))
        growth = Growth(cfg.growth, editable, extent, cfg.seed)
        self.edit = GaussianEdit(
            [SceneUnderEdit(editable, self.photos.cameras, cfg.seed, extent, growth)],
            Photometric(self.photos.images, cfg.lambda_ssim, self.photos.inside),
            Movement(cfg.learning_rates, interpolations={"means": "exp"}),
            num_steps=cfg.num_steps,
            background=self.background,
            sh_degree_at=lambda step: step // cfg.sh_every,
        )
        threestudio.info(
            f"{len(photos.images)} photographs, {len(self.judges.images)} that judge, {len(start):,} points."
        )

    def _random_points(self, cameras: Cameras, extent: float) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Points in the ball that the cameras look into, and their colours."""
        threestudio.warn("The capture has no sparse points; starting from random ones, which costs detail.")
        draws = generator(self.cfg.seed, 0, Stream.START)
        middle = (cameras.centers + extent * cameras.forwards).mean(dim=0)
        points = random_points(self.cfg.num_random_points, middle, extent, draws)
        return points, torch.rand(self.cfg.num_random_points, 3, generator=draws)
