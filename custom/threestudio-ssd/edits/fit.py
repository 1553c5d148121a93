"""A splat from posed photographs, for those who have no splat yet (Kerbl et al. 2023)."""

from bisect import bisect_right
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio

from ..cameras import Cameras, cameras_extent
from ..data.photos import PhotoCapture
from ..errors import check_values
from ..gaussians import Gaussians
from ..host import get_device
from ..seeds import Stream, generator
from .edit import AN_INTERVAL, due_steps, is_interval
from .editable_gaussians import EditableGaussians
from .gaussian_edit import GaussianEdit, LearningRates, Movement, SceneJob, SceneUnderEdit, check_learning_rates
from .growth import Growth, GrowthConfig, check_growth
from .keys import EditConfig, check_background, check_num_steps
from .objectives import Photometric
from .photometric import gaussians_from_points, random_points


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
    sh_every: int | float = 0.1667
    """The degree goes up by one at its multiples, from 0: steps, >= 1, or a share of the run, in (0, 1]."""
    start_opacity: float = 0.1
    """Opacity of the Gaussians at the start, in (0, 1)."""
    learning_rates: LearningRates = field(default_factory=LearningRates)
    """Per attribute."""
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
        check_num_steps(cfg, FitConfig)
        check_background(cfg)
        check_growth(cfg.growth, cfg.num_steps)
        check_learning_rates(cfg.learning_rates)
        check_values("system", cfg, FitConfig, {
            "sh_degree": (0 <= cfg.sh_degree <= 4, "0 to 4"),
            "sh_every": (is_interval(cfg.sh_every), AN_INTERVAL),
            "start_opacity": (0 < cfg.start_opacity < 1, "between 0 and 1"),
            "lambda_ssim": (0 <= cfg.lambda_ssim <= 1, "0 to 1"),
        })  # fmt: skip
        self._degree_steps = due_steps(0, cfg.num_steps, cfg.sh_every, cfg.num_steps)
        if self.sh_degree_reached < cfg.sh_degree:
            threestudio.warn(
                f"The fit reaches degree {self.sh_degree_reached} of {cfg.sh_degree} in {cfg.num_steps} steps, as it "
                f"goes up by one every {cfg.sh_every} of them. A share of the run, such as system.sh_every=0.25, suits "
                "any number of steps."
            )
        self.device = get_device()

    def scene(self) -> Gaussians:
        """The splat as it is now."""
        return self.editable.scene().detach()

    def sh_degree_at(self, step: int) -> int:
        """Highest degree of view-dependent colour that a step fits."""
        return min(bisect_right(self._degree_steps, step), self.cfg.sh_degree)

    @property
    def sh_degree_reached(self) -> int:
        """That of the last step."""
        return self.sh_degree_at(self.cfg.num_steps - 1)

    def open(self, capture: PhotoCapture) -> None:
        """Read the photographs and place the first Gaussians.

        Args:
            capture: Has the photographs, and sparse points if there are any.
        """
        cfg = self.cfg
        photos, self.judges = capture.split(cfg.background)
        self.photos = photos.to(self.device)
        cloud = capture.points()
        extent = cameras_extent(photos.cameras, None if cloud is None else cloud[0])
        points, rgbs = cloud or self._random_points(photos.cameras, extent)
        start = gaussians_from_points(points, rgbs, cfg.sh_degree, cfg.start_opacity).to(self.device)
        editable = EditableGaussians(start, torch.ones(len(start), dtype=torch.bool, device=self.device))
        growth = Growth(cfg.growth, editable, extent=extent, num_steps=cfg.num_steps, seed=cfg.seed)
        self.edit = GaussianEdit(
            [SceneUnderEdit(editable, self.photos.cameras, cfg.seed, growth)],
            Photometric(self.photos.images, cfg.lambda_ssim, self.photos.inside),
            Movement(cfg.learning_rates),
            num_steps=cfg.num_steps,
            background=self.background,
            sh_degree_at=self.sh_degree_at,
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
