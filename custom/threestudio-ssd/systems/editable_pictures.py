"""Pictures under an edit: latents or pixels as the parameter, everything known of their sources computed once."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..diffusion import Backbone, PromptEmbeds
from ..guidance import EditGuidance, GuidanceOutput
from .detail import new_detail
from .inward import inward_clamp

Parametrisation = Literal["latent", "pixel"]
LatentSteps = Literal["sgd", "adam"]


class EditablePictures(nn.Module):
    """One or more pictures of one size, edited side by side; each moves as it would alone.

    Args:
        backbone: Encodes and decodes.
        images: Sources in [0, 1]; sides in multiples of ``backbone.size_multiple``.
        parametrisation: What is optimised: latents (as DDS does), or pixels through the encoder.
        masks: White (1) may change: elsewhere the score is dropped, and the result is the source.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Float[Tensor, "b 3 h w"],
        parametrisation: Parametrisation = "latent",
        masks: Float[Tensor, "b 1 h w"] | None = None,
    ) -> None:
        super().__init__()
        self.parametrisation, self.images_src, self.masks, self._backbone = parametrisation, images, masks, backbone
        with torch.no_grad():
            self.latents_src = backbone.encode(images)
            self.condition = backbone.encode_condition(images) if backbone.has_image_condition else None
        self.values = nn.Parameter((self.latents_src if parametrisation == "latent" else images).clone())
        self._latent_masks = None if masks is None else nn.functional.max_pool2d(masks, backbone.downscale)

    def step(
        self,
        guidance: EditGuidance,
        prompts: Mapping[str, PromptEmbeds],
        *,
        step: int,
        num_steps: int,
        seed: int | Sequence[int],
        detail_weight: float = 0.0,
    ) -> tuple[Float[Tensor, ""], GuidanceOutput]:
        """Loss whose gradient on each picture is its own score's, and what the guidance said; arguments as its own.

        ``seed`` is one for each picture, or one for all of them.

        ``detail_weight`` times what ``detail`` says is added for pixels.
        """
        is_latent = self.parametrisation == "latent"
        latents = self.values if is_latent else self._backbone.encode(inward_clamp(self.values))
        seeds = [seed] * len(latents) if isinstance(seed, int) else seed
        output = guidance.latent_step(
            latents, self.latents_src, prompts, step=step, num_steps=num_steps, seed=seeds,
            image_condition=self.condition, latent_mask=self._latent_masks,
        )  # fmt: skip
        has_detail = detail_weight and not is_latent
        return (output.loss + detail_weight * self.detail() if has_detail else output.loss), output

    def detail(self) -> Float[Tensor, ""]:
        """Squared change of the pixels finer than a latent cell, summed: what the encoder does not see; for pixels."""
        shown = torch.ones_like(self.values[:, :1]) if self.masks is None else self.masks
        return new_detail(self.values - self.images_src, shown, self._backbone.downscale).pow(2).sum()

    @torch.no_grad()
    def result(self) -> Float[Tensor, "b 3 h w"]:
        """The pictures as they are now, in [0, 1]; outside the masks they are the sources."""
        values = self.values.detach()
        images = self._backbone.decode(values) if self.parametrisation == "latent" else values.clamp(0, 1)
        return images if self.masks is None else self.images_src.lerp(images, self.masks)

    def make_optimizer(self, latent_steps: LatentSteps = "sgd") -> torch.optim.Optimizer:
        """For latents as named (their gradient is the score itself), Adam for pixels; the rate is set at each step."""
        if self.parametrisation == "latent" and latent_steps == "sgd":
            return torch.optim.SGD(self.parameters(), lr=0.0)
        return torch.optim.Adam(self.parameters(), lr=0.0)
