"""The system that takes the selection out of a scene and closes the hole: 2D inpainting, then a fit."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

import threestudio
from threestudio.systems.base import BaseSystem
from threestudio.utils.misc import get_device

from ..data import view_order
from ..errors import ConfigError, check_values
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians, save_gaussians
from ..masks import MaskConfig, check_mask, find_selection, save_previews
from ..masks.holes import hole_masks, rim_of, seeds_in_hole
from ..rendering import coverage, render, render_each
from .editable import EditableGaussians
from .inpaint import Inpainter, check_inpainter, load_inpainter
from .photometric import gaussians_from_points, photometric_loss
from .report import grid_row, measure_change, package_versions, peak_memory, save_before_after
from .scene_edit import LearningRates, splat_suffix
from .visible_adam import VisibleAdam

SEED_OPACITY = 0.9
MIN_SEED_VIEWS = 4


@threestudio.register("gs-delete-system")
class SceneDeleteSystem(BaseSystem):
    """Removes the selection; ``save/edited.<suffix of the scene>`` is the result."""

    @dataclass
    class Config(BaseSystem.Config):
        """Keys of the removal."""

        scene: str = ""
        """Splat file to edit."""
        num_steps: int = 400
        """Optimisation steps that close the hole, >= 1."""
        seed: int = 0
        """Decides views and the inpainter's noise."""
        background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
        """Colour behind the scene, RGB in [0, 1]."""
        mask: MaskConfig = field(default_factory=MaskConfig)
        """What is removed; it must not be empty."""
        rim: float = 0.5
        """What lies within this share of the object's size of it touched it or has its shadow, and is fitted anew."""
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
        learning_rates: LearningRates = field(default_factory=LearningRates)
        """Per attribute."""
        lambda_ssim: float = 0.2
        """Share of 1 - SSIM in the loss, the rest is L1."""
        preview_every: int = 250
        """0: no pictures of the mask in save/mask."""

    cfg: Config

    def configure(self) -> None:
        """Read the scene; everything that can be wrong is found here, before any work."""
        check_mask(self.cfg.mask)
        if self.cfg.num_steps < 1:
            raise ConfigError(what=f"steps is {self.cfg.num_steps}", expected="at least 1", fix="set steps=400")
        rules = {name: (self.cfg[name] >= 0, "at least 0") for name in ("rim", "dilate")}
        check_values("system", self.cfg, self.Config, rules)
        check_inpainter(self.cfg.inpainter, self.cfg.dtype)
        self._scene = load_gaussians(self.cfg.scene)
        self.editable: EditableGaussians | None = None
        self.train_seconds = 0.0

    def setup(self, stage: str) -> None:
        """Lightning hook: remove, inpaint every view once, and put the first Gaussians into the hole."""
        if self.editable is not None:
            return
        cfg, data, device = self.cfg, self.trainer.datamodule, get_device()
        background = torch.tensor(list(cfg.background), dtype=torch.float32, device=device)
        views = data.views(self._scene, 512, 8)
        self._scene = self._scene.to(device)
        self.selection = find_selection(cfg.mask, self._scene, views.train, data.capture, background)
        self.is_removed = self.selection.is_selected
        if self.is_removed.all():
            raise ConfigError(
                what=f"the mask selects all {len(self._scene)} Gaussians", expected="something that stays",
                fix="say by mask.text, mask.picture or mask.box what is to be removed",
            )  # fmt: skip
        self.views = data.cropped(views, self._scene, self.is_removed)
        is_rim = rim_of(self._scene.means, self.is_removed, cfg.rim)
        left = self._scene.select(~self.is_removed)
        widened = round(cfg.dilate * int(torch.stack([self.views.train.widths, self.views.train.heights]).min()))
        self.masks = hole_masks(self._scene, self.is_removed, is_rim, self.views.train, widened)
        self.targets = self._inpainted(left, background)
        start, is_changing = self._with_seeds(left, is_rim[~self.is_removed], background)
        self.editable = EditableGaussians(start.to("cpu"), is_changing.cpu())

    @torch.no_grad()
    def _inpainted(self, left: Gaussians, background: Tensor) -> Tensor:
        """(v h w 3) training views of what is left, their holes filled."""
        images = torch.stack(list(render_each(left, self.views.train, background))).permute(0, 3, 1, 2)
        self.network = {"model": None, "revision": None}
        if not self.masks.any():
            return images.permute(0, 2, 3, 1)
        inpainter = self._load_inpainter(images)
        self.network = {"model": inpainter.model_id, "revision": inpainter.revision}
        pairs = zip(images.split(4), self.masks.split(4), strict=True)
        return torch.cat([inpainter.fill(*pair) for pair in pairs]).permute(0, 2, 3, 1)

    def _load_inpainter(self, images: Tensor) -> Inpainter:
        cfg = self.cfg
        found = load_inpainter(
            cfg.inpainter, model=cfg.model, prompt=cfg.prompt, num_steps=cfg.inpaint_steps,
            guidance_scale=cfg.guidance_scale, seed=cfg.seed, device=get_device(), dtype=cfg.dtype,
            revision=cfg.revision, is_offline=cfg.offline,
        )  # fmt: skip
        side = min(images.shape[-2:])
        if found.image_size is not None and side != found.image_size:
            threestudio.warn(
                f"The views are filled at {side} px by a model made for {found.image_size} px; "
                f"data.size={found.image_size} suits it better."
            )
        return found

    def _with_seeds(self, left: Gaussians, is_rim: Tensor, background: Tensor) -> tuple[Gaussians, Tensor]:
        """What is left with new Gaussians in the hole, and which of these may change: the rim and the new ones."""
        count = len(self.views.train)
        rows = torch.linspace(0, count - 1, min(MIN_SEED_VIEWS, count)).round().long()
        points, rgbs, widths = seeds_in_hole(
            left, self.views.train[rows], self.targets[rows], self.masks[rows], background
        )
        self.num_seeds = len(points)
        if self.num_seeds:
            seeds = gaussians_from_points(points.cpu(), rgbs.cpu(), left.sh_degree, SEED_OPACITY).to(left.device)
            left = left.append(seeds.replace(log_scales=widths.log()[:, None].repeat(1, 3)))
        is_changing = torch.cat([is_rim, is_rim.new_ones(self.num_seeds)])
        return left, is_changing

    def on_fit_start(self) -> None:
        """Lightning hook: the pictures go where the Gaussians are."""
        self.targets, self.views_on_device = self.targets.to(self.device), self.views.train.to(self.device)
        if self.cfg.preview_every:
            save_previews(self, self._scene, self.selection, self.views.train, self._background)
            shown = [self.targets[row].cpu() for row in range(min(8, len(self.targets)))]
            holes = [mask[..., None].cpu().float().expand(-1, -1, 3) for mask in self.masks[: len(shown)]]
            self.save_image_grid("inpainted.png", [grid_row(holes), grid_row(shown)])
        self._begin = time.monotonic()

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Render one view of what is left and compare it with its filled picture."""
        row = view_order(len(self.views_on_device), self.true_global_step, 1, self.cfg.seed).to(self.device)
        images = render(self.editable.scene(), self.views_on_device[row], self._background)[0]
        loss = photometric_loss(images, self.targets[row], self.cfg.lambda_ssim)
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with one group per attribute that moves."""
        return VisibleAdam(self.editable.optimizer_groups(self.cfg.learning_rates))

    def on_before_optimizer_step(self, optimizer: VisibleAdam) -> None:
        """Lightning hook: the learning rates of this step."""
        optimizer.set_rates(self.cfg.learning_rates, self.views.orbit.radius, self.C)

    def on_fit_end(self) -> None:
        """Lightning hook: how long the steps took."""
        self.train_seconds += time.monotonic() - self._begin

    @torch.no_grad()
    def test_step(self, batch: dict, batch_idx: int) -> None:
        """Held-out views before, with the object merely removed, and filled; report and video."""
        source, result = self._scene.to(self.device), self.editable.result()
        bare = source.select(~self.is_removed.to(self.device))
        rows = [torch.stack(list(render_each(s, self.views.test, self._background))) for s in (source, bare, result)]
        before, _, after = rows
        shown = coverage(source, self.is_removed.to(self.device), self.views.test)
        change = measure_change(shown, before, after)
        report = {
            "scene": self.cfg.scene,
            "inpainter": self.cfg.inpainter,
            **self.network,
            "prompt": self.cfg.prompt,
            "seed": self.cfg.seed,
            "steps": self.true_global_step,
            "seconds": round(self.train_seconds, 2),
            "num_gaussians_before": len(source),
            "num_gaussians_after": len(result),
            "num_removed": int(self.is_removed.sum()),
            "num_added": self.num_seeds,
            "num_changed": int(len(self.editable)),
            "change_inside": change["change_inside"],
            "psnr_outside": change["psnr_outside"],
            "device": str(self.device),
            "peak_memory_bytes": peak_memory(self.device),
            "versions": package_versions(),
        }
        self.save_image_grid("grid.png", [grid_row(row) for row in rows])
        self.save_json("report.json", report)
        save_before_after(self, source, result, self.views.video, self._background)

    @torch.no_grad()
    def predict_step(self, batch: dict, batch_idx: int) -> None:
        """Write the splat, in the format of the scene."""
        path = Path(self.get_save_path(f"edited{splat_suffix(self.cfg.scene)}"))
        save_gaussians(self.editable.result().to("cpu"), path)
        self.save_data("selection", self.is_removed.cpu())
        self.result_path = str(path)

    @property
    def _background(self) -> Tensor:
        return torch.tensor(list(self.cfg.background), dtype=torch.float32, device=self.device)
