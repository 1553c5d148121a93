"""The 3DGS system: render random views, encode, score, optimise the selection."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

import threestudio
from threestudio.systems.base import BaseSystem

from ..data import SceneViews, view_order
from ..errors import ConfigError
from ..gaussians import Gaussians
from ..gaussians.io import load_gaussians, save_gaussians
from ..guidance import guidance_class, prompts_class
from ..masks import MaskConfig, Selection, check_mask, find_selection, save_previews
from ..rendering import coverage, render, render_each, render_with_info
from .detail import new_detail
from .editable import EditableGaussians
from .growth import Growth, GrowthConfig, check_growth, loss_scale
from .inward import inward_clamp
from .report import EditReport, check_report_model, grid_row, make_report, peak_memory, save_before_after
from .visible_adam import COLORS, VisibleAdam, color_step_weights

PRECOMPUTE_BATCH = 8
LATENT_COVERAGE = 0.05
"""Share of a pixel that the selection has to make up for its latent cell to be masked in."""
SCENE_EXTENT = 1.1
"""Extent of a scene in units of the distance its cameras stand off, which scales of Gaussians are measured by."""


@dataclass
class LearningRates:
    """Adam's learning rate per attribute, a number or schedule [step, value, value, step]; 0 keeps the attribute."""

    means: Any = 1.6e-4
    """Times the orbit's radius."""
    log_scales: Any = 5e-3
    """Of the natural logs."""
    raw_quats: Any = 1e-3
    """Of the quaternions as stored."""
    logit_opacities: Any = 0.05
    """Of the logits."""
    sh0: Any = 0.0125
    """Of the degree 0 coefficients; times 0.28 in colour."""
    shN: Any = 0.000625
    """Of the higher degrees."""


@dataclass
class Anchors:
    """Weights of the mean squared distance of each attribute from its anchor, >= 0: the source, or the last growth."""

    means: float = 0.0
    log_scales: float = 0.0
    raw_quats: float = 0.0
    logit_opacities: float = 0.0
    sh0: float = 0.0
    shN: float = 0.0


@threestudio.register("ssd-gs-system")
class SceneEditSystem(BaseSystem):
    """Edits a splat scene by words; ``save/edited.<suffix of the scene>`` is the result."""

    @dataclass
    class Config(BaseSystem.Config):
        """Keys of the edit."""

        scene: str = ""
        """Splat file to edit."""
        num_steps: int = 1500
        """Optimisation steps, >= 1."""
        seed: int = 0
        """Decides views, timesteps and noise."""
        background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
        """Colour behind the scene, RGB in [0, 1]."""
        mask: MaskConfig = field(default_factory=MaskConfig)
        """What may change; empty: everything."""
        guidance_type: str = "ssd-guidance"
        """Registered guidance."""
        guidance: dict = field(default_factory=dict)
        """Its keys."""
        prompt_processor_type: str = "ssd-prompt-processor"
        """Registered prompt processor."""
        prompt_processor: dict = field(default_factory=dict)
        """Its keys."""
        learning_rates: LearningRates = field(default_factory=LearningRates)
        """Per attribute."""
        color_steps: Literal["adam", "visible-weight"] = "adam"
        """adam: each Gaussian's colour is normalised by its own history, as published; visible-weight: one second
        moment for all, gradients per visible pixel, so that what the score hardly touches hardly moves."""
        adam_betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
        """Adam's betas."""
        lambda_guidance: Any = 1.0
        """Weight of the guidance loss, number or schedule."""
        lambda_anchor: Anchors = field(default_factory=Anchors)
        """Weights of the anchors."""
        lambda_detail: Any = 0.0
        """Weight of changes finer than a latent cell, number or schedule, >= 0: an autoencoder that cannot see them
        lets them grow into speckles."""
        growth: GrowthConfig = field(default_factory=GrowthConfig)
        """Whether and how the selection grows."""
        mask_latents: bool = False
        """Also drop the score where no selected Gaussian is visible."""
        clip_model: str = "tiny-clip"
        """CLIP of the report, see docs/metrics.md."""
        preview_every: int = 250
        """Steps between pictures of the progress in save/progress; 0: none, and none of the mask in save/mask."""

    cfg: Config

    def configure(self) -> None:
        """Read the scene and load the model; everything that can be wrong is found here, before any work."""
        if self.cfg.num_steps < 1:
            raise ConfigError(what=f"steps is {self.cfg.num_steps}", expected="at least 1", fix="set steps=1500")
        check_mask(self.cfg.mask)
        check_growth(self.cfg.growth)
        self._source = load_gaussians(self.cfg.scene)
        if len(self._source) == 0:
            raise ConfigError(
                what=f"scene {self.cfg.scene} holds no Gaussians", expected="at least one", fix="check the file"
            )
        if not any(t.numel() and self.cfg.learning_rates[name] != 0 for name, t in self._source.parameters().items()):
            raise ConfigError(
                what="all of system.learning_rates are 0",
                expected="one above 0",
                fix="set system.learning_rates.sh0=0.0125",
            )
        self.prompt_processor = prompts_class(self.cfg.prompt_processor_type)(self.cfg.prompt_processor)
        self.guidance = guidance_class(self.cfg.guidance_type)(self.cfg.guidance)
        self._prompts = self.prompt_processor(self.guidance.backbone, self.guidance.prompt_names)
        self.editable: EditableGaussians | None = None
        self.train_seconds = 0.0

    def setup(self, stage: str) -> None:
        """Lightning hook: choose the views and the selection, once; the report's CLIP must be there by now."""
        if self.editable is not None:
            return
        if stage in ("fit", "test"):
            check_report_model(self.cfg.clip_model, self.guidance.cfg.offline)
        backbone = self.guidance.backbone
        data = self.trainer.datamodule
        self.views = data.views(self._source, backbone.image_size, backbone.size_multiple)
        scene, self.selection = self.choose(self.views)
        self.editable = EditableGaussians(scene, self.selection.is_selected)
        on_device = scene.to(backbone.device), self.selection.is_selected.to(backbone.device)
        self.views = data.cropped(self.views, *on_device)
        extent = SCENE_EXTENT * self.views.orbit.radius
        self.growth = Growth(self.cfg.growth, self.editable, extent, self.cfg.seed)

    def choose(self, views: SceneViews) -> tuple[Gaussians, Selection]:
        """What is optimised: the scene, and which of its Gaussians may change."""
        capture, device = self.trainer.datamodule.capture, self.guidance.backbone.device
        found = find_selection(
            self.cfg.mask, self._source.to(device), views.train, capture, self._background.to(device)
        )
        return self._source, replace(found, is_selected=found.is_selected.cpu())

    def scene_before(self) -> Gaussians:
        """The scene as the user gave it, where the edit runs."""
        return self.editable.source

    def shown_selection(self) -> tuple[Gaussians, Tensor]:
        """A scene and which of its Gaussians say where the pictures may change."""
        return self.editable.source, self.editable.is_selected

    def on_fit_start(self) -> None:
        """Lightning hook: everything known before the loop is computed before the loop."""
        self.views_on_device = self.views.train.to(self.device)
        if self.cfg.preview_every:
            save_previews(self, self.editable.source, self.selection, self.views.train, self._background)
        self._precompute()
        self._begin = time.monotonic()

    @torch.no_grad()
    def _precompute(self) -> None:
        """Source latents of every training view (and the condition an InstructPix2Pix model reads)."""
        backbone, source = self.guidance.backbone, self.scene_before()
        pictures, latents, conditions = [], [], []
        for start in range(0, len(self.views_on_device), PRECOMPUTE_BATCH):
            cameras = self.views_on_device[slice(start, start + PRECOMPUTE_BATCH)]
            images = self._as_fed(render(source, cameras, self._background)[0]).clamp(0, 1)
            latents.append(backbone.encode(images))
            if self.cfg.lambda_detail != 0:
                pictures.append(images)
            if self.guidance.reads_image:
                conditions.append(backbone.encode_condition(images))
        self._latents_src = torch.cat(latents)
        self._images_src = torch.cat(pictures) if pictures else None
        self._conditions = torch.cat(conditions) if conditions else None
        self._shown = self._latent_masks = None
        if self.cfg.mask_latents or self.cfg.lambda_detail != 0:
            shown = coverage(self.editable.source, self.editable.is_selected, self.views_on_device)
            self._shown = self._as_fed(shown[..., None])
            self._latent_masks = self._visible_masks(shown) if self.cfg.mask_latents else None

    def _as_fed(self, images: Float[Tensor, "b h w d"]) -> Float[Tensor, "b d h2 w2"]:
        """Renders at the size the diffusion model gets."""
        images, size = images.permute(0, 3, 1, 2), self.views.size[::-1]
        if images.shape[-2:] == size:
            return images
        return torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def _visible_masks(self, shown: Float[Tensor, "v h w"]) -> Tensor:
        """(v 1 zh zw) 1 where the selection shows in a latent's pixels."""
        cells = [side // self.guidance.backbone.downscale for side in self.views.size[::-1]]
        return (torch.nn.functional.adaptive_max_pool2d(shown[:, None], cells) > LATENT_COVERAGE).float()

    def training_step(self, batch: dict, batch_idx: int) -> Tensor:
        """Render, encode, one batched prediction, one backward."""
        step = self.true_global_step
        self.growth.before_step(step, self.trainer.optimizers[0])
        size = self.trainer.datamodule.cfg.batch_size
        rows = view_order(len(self.views_on_device), step, size, self.cfg.seed).to(self.device)
        cameras, options = self.views_on_device[rows], {"absgrad": self.cfg.growth.absgrad}
        images, _, info = render_with_info(self.editable.scene(), cameras, self._background, **options)
        self.growth.watch(info, step)
        images = self._as_fed(images)
        output = self.guidance.latent_step(
            self.guidance.backbone.encode(inward_clamp(images)),
            self._latents_src[rows],
            self._prompts,
            step=step,
            num_steps=self.cfg.num_steps,
            seed=self.cfg.seed,
            image_condition=None if self._conditions is None else self._conditions[rows],
            latent_mask=None if self._latent_masks is None else self._latent_masks[rows],
        )
        loss = self.C(self.cfg.lambda_guidance) * output.loss
        if self._images_src is not None:
            detail = new_detail(images - self._images_src[rows], self._shown[rows], self.guidance.backbone.downscale)
            loss = loss + self.C(self.cfg.lambda_detail) * detail.pow(2).sum() / len(images)
        for name, parameter in self.editable.selected.items():
            weight = self.cfg.lambda_anchor[name]
            if weight > 0 and parameter.numel():
                loss = loss + weight * self.editable.drift(name, self.growth.generation_weights(step))
        self.log("train/timestep", float(output.timestep))
        self.log("train/score", output.score.pow(2).mean().sqrt(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with one group per attribute that moves."""
        groups = self.editable.optimizer_groups(self.cfg.learning_rates)
        if self.cfg.color_steps == "visible-weight":
            scene, count = self.editable.scene(), self.editable.num_fixed
            weights = color_step_weights(scene, torch.arange(len(scene)) >= count, self.views.train)
            for group in groups:
                if group["name"] in COLORS:
                    group["visible_weights"] = weights
        return VisibleAdam(groups, betas=tuple(self.cfg.adam_betas))

    def on_after_backward(self) -> None:
        """Lightning hook: gradients on the screen decide what grows."""
        self.growth.record(loss_scale(self.trainer))

    def on_before_optimizer_step(self, optimizer: VisibleAdam) -> None:
        """Lightning hook: the learning rates of this step."""
        optimizer.set_rates(self.cfg.learning_rates, self.views.orbit.radius, self.C)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lightning hook: pictures of the progress; stop at once when a parameter is no longer finite."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        every = self.cfg.preview_every
        if every and self.global_step % every == 0:
            self._save_progress()
        if self.global_step % 50 == 0 and not self._is_usable():
            self.trainer.should_stop = True

    def _is_usable(self) -> bool:
        """Whether every parameter is finite; if not, says so once, and the run ends with exit code 3."""
        if self.editable.is_finite():
            return True
        if self.exit_code != 3:
            threestudio.warn(
                f"Step {self.true_global_step}: the edit is not finite; nothing is written. Lower the learning rates."
            )
        self.exit_code = 3
        return False

    def on_fit_end(self) -> None:
        """Lightning hook: how long the steps took."""
        self.train_seconds += time.monotonic() - self._begin

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: the time spent so far goes on in a resumed run."""
        elapsed = time.monotonic() - self._begin if hasattr(self, "_begin") else 0.0
        checkpoint["train_seconds"] = self.train_seconds + elapsed
        checkpoint["guidance"] = self.guidance.state_dict()

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Lightning hook: see on_save_checkpoint."""
        self.train_seconds = checkpoint.get("train_seconds", 0.0)
        self.guidance.load_state_dict(checkpoint.get("guidance", {}))

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        """One picture of where the edit stands."""
        self._save_progress()

    @torch.no_grad()
    def _save_progress(self) -> None:
        cameras = self.views.test[slice(0, 4)].scaled(0.5)
        after = list(render_each(self.editable.scene(), cameras, self._background))
        self.save_image_grid(f"progress/step-{self.true_global_step:05d}.png", [grid_row(after)])

    @torch.no_grad()
    def test_step(self, batch: dict, batch_idx: int) -> None:
        """Before/after grid and video, report."""
        if not self._is_usable():
            return
        source, result = self.scene_before(), self.editable.result()
        report = make_report(
            EditReport(
                source=source,
                edited=result,
                shown=self.shown_selection(),
                cameras=self.views.test,
                background=self._background,
                source_prompt=self.prompt_processor.cfg.source_prompt,
                target_prompt=self.prompt_processor.cfg.target_prompt,
                clip_model=self.cfg.clip_model,
                offline=self.guidance.cfg.offline,
            ),
            self,
            self._run_facts(),
        )
        if not report["changed_visibly"]:
            threestudio.warn(
                "The edit changed nothing visible: give it more steps, or a prompt further from the source."
            )
            self.exit_code = 3
        save_before_after(self, source, result, self.views.video, self._background)

    @torch.no_grad()
    def predict_step(self, batch: dict, batch_idx: int) -> None:
        """Write the edited splat, in the format of the scene."""
        if not self._is_usable():
            return
        path = Path(self.get_save_path(f"edited{splat_suffix(self.cfg.scene)}"))
        save_gaussians(self.editable.result().to("cpu"), path)
        self.save_data("selection", self.editable.is_selected.cpu())
        if self.growth.is_on or len(self.scene_before()) != len(self.editable.source):
            self.save_data("edited_selection", self.editable.result_selection().cpu())
        self.result_path = str(path)

    def _run_facts(self) -> dict[str, Any]:
        guidance = self.guidance
        return {
            "scene": self.cfg.scene,
            "score": dict(guidance.cfg.score),
            **guidance.backbone.provenance,
            "seed": self.cfg.seed,
            "steps": self.true_global_step,
            "seconds": round(self.train_seconds, 2),
            "peak_memory_bytes": peak_memory(self.device),
            "device": str(self.device),
            "network_calls": guidance.backbone.counters.network_calls,
            "noise_predictions": guidance.backbone.counters.rows,
            "encodes": guidance.backbone.counters.encodes,
        }

    @property
    def _background(self) -> Tensor:
        return torch.tensor(list(self.cfg.background), dtype=torch.float32, device=self.device)


def splat_suffix(path: str) -> str:
    """Suffix of a splat file, ``.compressed.ply`` whole; formats that cannot be written become ``.ply``."""
    name = Path(path).name.lower()
    if name.endswith(".compressed.ply"):
        return ".compressed.ply"
    suffix = Path(name).suffix
    return suffix if suffix in (".ply", ".splat", ".spz", ".sog") else ".ply"
