"""What renders of an edited scene are held against: a diffusion model's score, or images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from ..diffusion import PromptEmbeds
from ..guidance import EditGuidance
from ..ranks import Rank
from ..rendering import coverage
from ..scenes import Scene
from .background import KeptBackground, latent_change
from .detail import new_detail
from .edit import Facts, value_at
from .gaussian_edit import Objective, SceneUnderEdit
from .inward import inward_clamp
from .photometric import mean_inside, photometric_loss

LATENT_COVERAGE = 0.05
"""Share of a pixel that the selection has to make up for its latent cell to be masked in."""


class Distillation(Objective):
    """Score distillation: renders are encoded, and the guidance's score is the gradient of their latents.

    Args:
        guidance: Network and score, the same for all scenes.
        prompts: Embeddings by name, one row for all scenes or one for each.
        sources: Each scene before the edit.
        size: Width and height of the images that the diffusion model gets, pixels.
        background: Colour behind the scenes, RGB in [0, 1].
        cfg: Of the keys of ``SceneEditConfig``: num_steps, lambda_guidance, lambda_detail, mask_latents, keep.
        kept: What changes of the background cost; None: nothing.
    """

    def __init__(
        self,
        guidance: EditGuidance,
        prompts: Mapping[str, PromptEmbeds],
        sources: Sequence[Scene],
        size: tuple[int, int],
        background: Float[Tensor, "3"],
        cfg: Any,
        kept: KeptBackground | None = None,
    ) -> None:
        self.kept, self.keeps_images = kept, kept is not None or cfg.lambda_detail != 0
        self.guidance, self.prompts, self.sources = guidance, prompts, list(sources)
        self.size, self.background, self.cfg, self.is_masked = size, background, cfg, cfg.mask_latents
        self.latents_src: list[Tensor] = []
        """(v c zh zw) of each scene's views before the edit."""
        self.images_src: list[Tensor] = []
        """(v 3 h w), for what a change costs; not clamped, so that what nobody changed has no detail of its own."""
        self.conditions: list[Tensor] = []
        """(v c zh zw), for a model that reads the source image."""
        self.coverages: list[Tensor] = []
        """(v 1 h w) share of each pixel that the selection makes up."""
        self.latent_masks: list[Tensor] = []
        """(v 1 zh zw) 1 where the selection is visible."""

    def join(self, rank: Rank) -> None:
        """Each view gets the noise that it would get beside all others."""
        self.guidance.join(rank)

    @torch.no_grad()
    def prepare(self, scenes: Sequence[SceneUnderEdit], views_per_step: int) -> None:
        """Render and encode every training view before the edit, once.

        As many at a time as in a step: an encoder's last bits depend on how many images it gets, and where nothing is
        asked for source and edit have to be the same to the last bit.
        """
        self.seeds = [scene.seed for scene in scenes]
        for scene, source in zip(scenes, self.sources, strict=True):
            self._encode_views(scene, source, views_per_step * len(scenes))
            if self.is_masked or self.keeps_images or self.cfg.keep.lambda_latent:
                covered = coverage(scene.editable.source, scene.in_mask, scene.cameras)
                self.coverages.append(self._as_fed(covered[..., None]))
                self.latent_masks.append(self._visible_cells(covered))

    def _encode_views(self, scene: SceneUnderEdit, source: Scene, count: int) -> None:
        images, latents, conditions = [], [], []
        last = len(scene.cameras) - 1
        for start in range(0, last + 1, count):
            rows = torch.arange(start, start + count).clamp(max=last)
            image = self._shown(self.look(source, scene.cameras[rows], self.background)[0])
            latents.append(self._latents(image))
            if self.keeps_images:
                images.append(image)
            if self.guidance.reads_image:
                conditions.append(self.guidance.backbone.encode_condition(self._pictures(image)))
        for parts, views in ((latents, self.latents_src), (images, self.images_src), (conditions, self.conditions)):
            if parts:
                views.append(torch.cat(parts)[: last + 1])

    def _shown(self, images: Float[Tensor, "b h w d"]) -> Float[Tensor, "b d h2 w2"]:
        """What ``look`` gives, as it is compared."""
        return self._as_fed(images)

    def _latents(self, renders: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c zh zw"]:
        """Latents of that, with gradient."""
        return self.guidance.backbone.encode(inward_clamp(renders))

    def _pictures(self, renders: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        """Pictures of that, in [0, 1]."""
        return renders.clamp(0, 1)

    def _as_fed(self, images: Float[Tensor, "b h w d"]) -> Float[Tensor, "b d h2 w2"]:
        """Renders at the size the diffusion model gets."""
        images, size = images.permute(0, 3, 1, 2), self.size[::-1]
        if images.shape[-2:] == size:
            return images
        return interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def _visible_cells(self, covered: Float[Tensor, "v h w"]) -> Float[Tensor, "v 1 zh zw"]:
        """1 where the selection is visible in a latent's pixels."""
        cells = [side // self.guidance.backbone.downscale for side in self.size[::-1]]
        return (adaptive_max_pool2d(covered[:, None], cells) > LATENT_COVERAGE).float()

    def __call__(
        self, images: Sequence[Float[Tensor, "b h w d"]], rows: Sequence[Int[Tensor, "b"]], step: int
    ) -> tuple[Tensor, Facts]:
        """One encode with gradient, one batched prediction, for all scenes at once."""

        def of_step(views: list[Tensor]) -> Tensor:
            return torch.cat([view[row] for view, row in zip(views, rows, strict=True)])

        fed, views_per_scene = self._shown(torch.cat(list(images))), len(rows[0])
        latents = self._latents(fed)
        output = self.guidance.latent_step(
            latents, of_step(self.latents_src),
            self._prompts_of(views_per_scene), step=step, num_steps=self.cfg.num_steps, seed=self.seeds,
            image_condition=of_step(self.conditions) if self.conditions else None,
            latent_mask=of_step(self.latent_masks) if self.is_masked else None,
        )  # fmt: skip
        loss = value_at(self.cfg.lambda_guidance, step) * output.loss
        if self.cfg.keep.lambda_latent:
            change = latent_change(latents, of_step(self.latents_src), of_step(self.latent_masks))
            loss = loss + self.cfg.keep.lambda_latent * change / views_per_scene
        if self.kept is not None:
            loss = loss + self.kept(fed, of_step(self.images_src), of_step(self.coverages)) / views_per_scene
        if self.cfg.lambda_detail != 0:
            change = fed - of_step(self.images_src)
            detail = new_detail(change, of_step(self.coverages), self.guidance.backbone.downscale)
            loss = loss + value_at(self.cfg.lambda_detail, step) * detail.pow(2).sum() / views_per_scene
        return loss, output.facts

    def _prompts_of(self, views_per_scene: int) -> Mapping[str, PromptEmbeds]:
        """One row for all views, or one for each view."""
        if len(self.seeds) == 1:
            return self.prompts
        order = [scene for scene in range(len(self.seeds)) for _ in range(views_per_scene)]
        return {name: row if len(row) == 1 else row[order] for name, row in self.prompts.items()}

    def shrink(self) -> str | None:
        """The encoder's activations, which can be computed again."""
        return self.guidance.backbone.shrink()

    def state_dict(self) -> dict[str, Any]:
        """What the guidance has learned."""
        return self.guidance.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.guidance.load_state_dict(state)


class Photometric(Objective):
    """Renders are compared with images of the same views, as 3D Gaussian splatting is trained; for one scene.

    Args:
        targets: (h w 3) images of all training views in [0, 1], in their order; of one size where a step shows several.
        lambda_ssim: Share of 1 - SSIM in the loss; the rest is L1.
        inside: (h w) pixels of each that say something; None: all.
    """

    def __init__(
        self,
        targets: Sequence[Float[Tensor, "_ _ 3"]],
        lambda_ssim: float,
        inside: Sequence[Bool[Tensor, "_ _"]] | None = None,
    ) -> None:
        self.targets, self.lambda_ssim, self.inside = targets, lambda_ssim, inside

    def __call__(
        self, images: Sequence[Float[Tensor, "b h w 3"]], rows: Sequence[Int[Tensor, "b"]], step: int
    ) -> tuple[Tensor, Facts]:
        """The loss of a step's views, and their PSNR in dB."""
        (image,), places = images, rows[0].tolist()
        target = torch.stack([self.targets[place] for place in places])
        inside = None if self.inside is None else torch.stack([self.inside[place] for place in places])
        loss = photometric_loss(image, target, self.lambda_ssim, inside)
        error = mean_inside((image.detach() - target).pow(2), inside)
        return loss, {"loss": loss.detach(), "psnr": -10 * torch.log10(error)}
