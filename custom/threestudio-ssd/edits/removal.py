"""Taking the selection out of a scene: views of what stays have their holes filled in 2D, and these are fitted."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio

from ..cameras import Cameras
from ..data import ViewPlan
from ..errors import ConfigError, check_values
from ..gaussians import Gaussians, quats_along
from ..gaussians.model import FIELD_NAMES
from ..host import get_device
from ..masks import MaskConfig, check_mask, find_selection
from ..masks.holes import hole_masks, open_share, rim_of, seeds_in_hole
from ..neighbors import normals_of
from ..rendering import render_each
from ..scenes import load_splat
from .editable_gaussians import EditableGaussians
from .gaussian_edit import GaussianEdit, LearningRates, Movement, SceneJob, SceneUnderEdit, check_learning_rates
from .growth import Growth, GrowthConfig
from .inpaint import Inpainter, check_inpainter, load_inpainter
from .keys import EditConfig, check_background, check_not_negative, check_num_steps
from .objectives import Photometric
from .photometric import gaussians_from_points

SEED_OPACITY, SEED_FLATNESS = 0.9, 0.25
"""Discs on the surface that goes on; round ones would stand out of it."""
MIN_SEED_VIEWS = 4
FILL_BATCH = 4
"""Views that are filled at once."""
IMAGE_SIZE, SIZE_MULTIPLE = 512, 8
"""Shorter side of the views where ``data.size`` leaves it open, and what their sides are multiples of, pixels."""


@dataclass
class FillKeys:
    """Keys of how a hole is closed."""

    rim: float = 0.5
    """What lies within this share of the object's size of it touched it or has its shadow."""
    dilate: float = 0.1
    """Share of the views' shorter side by which holes are widened, so that they take in the shadow, >= 0."""
    inpainter: str = "telea"
    """telea (no network), model (the diffusion model below), or a folder or hub id of a diffusers pipeline."""
    model: str = "data/tiny-ldm"
    """Diffusion model of inpainter=model."""
    prompt: str = ""
    """What should be there instead; networks read it."""
    dtype: str | None = None
    """Precision of the networks: fp32, bf16, fp16; none chooses for the device."""
    revision: str | None = None
    """Commit or branch of a hub model."""
    offline: bool = False
    """Never ask the hub; use what is on disk."""
    inpaint_steps: int = 30
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Of the networks."""


@dataclass
class RemovalConfig(FillKeys, EditConfig):
    """Keys of a removal; what touched the object is fitted anew."""

    scene: str = ""
    """Splat file to edit."""
    num_steps: int = 400
    """Optimisation steps that close the hole, >= 1."""
    background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Colour behind the scene, RGB in [0, 1]."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """What is removed; it must not be empty."""
    learning_rates: LearningRates = field(default_factory=LearningRates)
    """Per attribute."""
    lambda_ssim: float = 0.2
    """Share of 1 - SSIM in the loss, in [0, 1]; the rest is L1."""
    preview_every: int = 250
    """0: no pictures of the mask in save/mask."""


def check_fill(prefix: str, cfg: Any, keys: type) -> None:
    """Find what is wrong with ``FillKeys`` before any work.

    Raises:
        ConfigError: For the first that cannot be used.
    """
    check_not_negative(prefix, cfg, keys, ("rim", "dilate"))
    check_inpainter(cfg.inpainter, cfg.dtype)


class Hole:
    """A scene without some of its Gaussians, its views filled where these were, and new Gaussians in the hole.

    Args:
        cfg: ``FillKeys``.
        scene: The scene with the object, where the work runs.
        is_removed: The object.
        cameras: Views of one size that are filled.
        background: Behind the scene, RGB in [0, 1].
        seed: Of an inpainter's noise.
        device: Where networks run.

    Attributes:
        bare: What is left.
        is_rim: Which of it touched the object.
        masks: (c h w) where each view was filled.
        targets: (c h w 3) the filled views.
        start: ``bare``, and after it the new Gaussians.
        num_seeds: How many these are.
        inpainter: What filled.
    """

    def __init__(
        self, cfg: Any, scene: Gaussians, is_removed: Bool[Tensor, "n"], cameras: Cameras,
        background: Float[Tensor, "3"], seed: int, device: torch.device,
    ) -> None:  # fmt: skip
        self.cfg, self._cameras, self._background, self._seed, self._device = cfg, cameras, background, seed, device
        self.bare = scene.select(~is_removed)
        is_rim = rim_of(scene.means, is_removed, cfg.rim)
        self.is_rim = is_rim[~is_removed]
        widened = round(cfg.dilate * int(torch.stack([cameras.widths, cameras.heights]).min()))
        self.masks = hole_masks(scene, is_removed, is_rim, cameras, widened)
        self.inpainter = Inpainter(fill=lambda images, masks: images)
        self.targets = self._filled_views()
        self.start = self._with_seeds()
        self.num_seeds = len(self.start) - len(self.bare)

    @torch.no_grad()
    def _filled_views(self) -> Float[Tensor, "v h w 3"]:
        """Views of what is left, their holes filled."""
        images = torch.stack(list(render_each(self.bare, self._cameras, self._background))).permute(0, 3, 1, 2)
        if self.masks.any():
            self.inpainter = self._load_inpainter(min(images.shape[-2:]))
            pairs = zip(images.split(FILL_BATCH), self.masks.split(FILL_BATCH), strict=True)
            images = torch.cat([self.inpainter.fill(*pair) for pair in pairs])
        return images.permute(0, 2, 3, 1)

    def _load_inpainter(self, side: int) -> Inpainter:
        cfg = self.cfg
        inpainter = load_inpainter(
            cfg.inpainter, model=cfg.model, prompt=cfg.prompt, num_steps=cfg.inpaint_steps,
            guidance_scale=cfg.guidance_scale, seed=self._seed, device=self._device, dtype=cfg.dtype,
            revision=cfg.revision, is_offline=cfg.offline,
        )  # fmt: skip
        if inpainter.image_size is not None and side != inpainter.image_size:
            threestudio.warn(
                f"The views are filled at {side} px by a model made for {inpainter.image_size} px; "
                f"data.size={inpainter.image_size} suits it better."
            )
        return inpainter

    def _with_seeds(self) -> Gaussians:
        """What is left with new Gaussians in the hole."""
        count = len(self._cameras)
        rows = torch.linspace(0, count - 1, min(MIN_SEED_VIEWS, count)).round().long()
        points, rgbs, widths = seeds_in_hole(self.bare, self._cameras[rows], self.targets[rows], self.masks[rows])
        if not len(points):
            return self.bare
        seeds = gaussians_from_points(points.cpu(), rgbs.cpu(), self.bare.sh_degree, SEED_OPACITY).to(points.device)
        normals = torch.from_numpy(normals_of(points.cpu().double().numpy())).to(points)
        scales = widths[:, None] * widths.new_tensor([1.0, 1.0, SEED_FLATNESS])
        return self.bare.append(seeds.replace(log_scales=scales.log(), raw_quats=quats_along(normals)))

    @property
    def open_share(self) -> float:
        """Share of the filled pixels that show what is far behind, or nothing."""
        return open_share(self.bare, self._cameras, self.masks)

    def closing(
        self, is_changing: Bool[Tensor, "n2"], learning_rates: Any, extent: float, cameras: Cameras, *,
        num_steps: int, seed: int, lambda_ssim: float,
    ) -> GaussianEdit:  # fmt: skip
        """The fit that closes the hole.

        Args:
            is_changing: Which Gaussians of ``start`` are fitted.
            learning_rates: ``LearningRates``.
            extent: ``cameras_extent``, world units.
            cameras: The views that were filled, where the fit runs.
            num_steps: Its length.
            seed: Decides the order of views.
            lambda_ssim: Share of 1 - SSIM in the loss.
        """
        editable = EditableGaussians(self.start, is_changing)
        growth = Growth(GrowthConfig(), editable, extent=extent, num_steps=num_steps, seed=seed)
        rates = {name: getattr(learning_rates, name) for name in FIELD_NAMES}
        return GaussianEdit(
            [SceneUnderEdit(editable, cameras, seed, growth)], Photometric(list(self.targets), lambda_ssim),
            Movement(rates), num_steps=num_steps, background=self._background,
        )  # fmt: skip


class SceneRemoval(SceneJob):
    """A scene, what is taken out of it, and the fit that closes the hole.

    Args:
        cfg: Keys of ``RemovalConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used.
        SceneFormatError: For a scene that cannot be read.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_mask(cfg.mask)
        check_num_steps(cfg, RemovalConfig)
        check_background(cfg)
        check_learning_rates(cfg.learning_rates)
        check_values("system", cfg, RemovalConfig, {"lambda_ssim": (0 <= cfg.lambda_ssim <= 1, "0 to 1")})
        check_fill("system", cfg, RemovalConfig)
        self.device = get_device()
        self.source = load_splat(cfg.scene)
        self.mask = self.mask_of(cfg)
        self.scene = self.source.to(self.device)

    def open(self, plan: ViewPlan) -> None:
        """Remove, fill every view once, and put the first Gaussians into the hole.

        Args:
            plan: Says which views there are.

        Raises:
            ConfigError: If the mask selects everything.
        """
        cfg, views = self.cfg, plan.views(self.source, IMAGE_SIZE, SIZE_MULTIPLE)
        self.selection = find_selection(self.mask, self.scene, views.train, plan.capture, self.background)
        self.is_removed = self.selection.is_selected
        if self.is_removed.all():
            expected, fix = "something that stays", "say by mask.text, mask.picture or mask.box what is to be removed"
            raise ConfigError(what=f"the mask selects all {len(self.scene)} Gaussians", expected=expected, fix=fix)
        self.views = plan.cropped(views, self.scene, self.is_removed)
        self.hole = Hole(cfg, self.scene, self.is_removed, self.views.train, self.background, cfg.seed, self.device)
        is_new = self.hole.is_rim.new_ones(self.hole.num_seeds)
        is_changing = torch.cat([self.hole.is_rim, is_new])
        self.edit = self.hole.closing(
            is_changing, cfg.learning_rates, self.views.extent, self.views.train.to(self.device),
            num_steps=cfg.num_steps, seed=cfg.seed, lambda_ssim=cfg.lambda_ssim,
        )  # fmt: skip

    def scene_before(self) -> Gaussians:
        """The scene as the user gave it, where the work runs."""
        return self.scene

    def facts(self) -> dict[str, Any]:
        """What a report says of the removal beside its figures."""
        counts = {"num_removed": int(self.is_removed.sum()), "num_added": self.hole.num_seeds}
        inpainter = self.hole.inpainter
        network = {"model": inpainter.model_id, "revision": inpainter.revision, "prompt": self.cfg.prompt}
        keys = {"scene": self.cfg.scene, "inpainter": self.cfg.inpainter}
        return {**keys, **network, **counts, "num_changed": len(self.editable)}
