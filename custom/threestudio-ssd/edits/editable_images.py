"""Images under an edit: latents or pixels as the parameter, everything known of their sources computed once."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..diffusion import Backbone
from .detail import new_detail
from .inward import inward_clamp

Parametrisation = Literal["latent", "pixel"]


class EditableImages(nn.Module):
    """One or more images of one size, edited side by side.

    Args:
        backbone: Encodes and decodes.
        images: Sources in [0, 1]; sides in multiples of ``backbone.size_multiple``.
        parametrisation: What is optimised: latents (as DDS does), or pixels through the encoder.
        masks: White (1) may change; elsewhere the result is the source.
        start: Where the edit starts from, if not from the sources.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Float[Tensor, "b 3 h w"],
        parametrisation: Parametrisation = "latent",
        masks: Float[Tensor, "b 1 h w"] | None = None,
        start: Float[Tensor, "b 3 h w"] | None = None,
    ) -> None:
        super().__init__()
        self.parametrisation, self.images_src, self.masks, self._backbone = parametrisation, images, masks, backbone
        with torch.no_grad():
            self.latents_src = backbone.encode(images)
            self.condition = backbone.encode_condition(images) if backbone.has_image_condition else None
            begin = self.latents_src if start is None else backbone.encode(start)
        values = begin if parametrisation == "latent" else images if start is None else start
        self.values = nn.Parameter(values.clone())
        self.latent_masks = None if masks is None else nn.functional.max_pool2d(masks, backbone.downscale)

    def latents(self) -> Float[Tensor, "b c zh zw"]:
        """The latents as they are now, with gradient to what is optimised."""
        if self.parametrisation == "latent":
            return self.values
        return self._backbone.encode(inward_clamp(self.values))

    def detail(self) -> Float[Tensor, ""]:
        """Squared change of the pixels finer than a latent cell, summed: what the encoder does not see; for pixels."""
        covered = torch.ones_like(self.values[:, :1]) if self.masks is None else self.masks
        return new_detail(self.values - self.images_src, covered, self._backbone.downscale).pow(2).sum()

    def result(self) -> Float[Tensor, "b 3 h w"]:
        """The images as they are now, in [0, 1]; outside the masks they are the sources."""
        return self._shown(self.values.detach())

    def unedited(self) -> Float[Tensor, "b 3 h w"]:
        """What ``result`` is before anything changed: for latents, what the autoencoder makes of the sources."""
        return self._shown(self.latents_src if self.parametrisation == "latent" else self.images_src)

    @torch.no_grad()
    def _shown(self, values: Tensor) -> Float[Tensor, "b 3 h w"]:
        images = self._backbone.decode(values) if self.parametrisation == "latent" else values.clamp(0, 1)
        return images if self.masks is None else self.images_src.lerp(images, self.masks)
