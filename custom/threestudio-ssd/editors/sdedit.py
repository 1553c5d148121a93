"""SDEdit: noise the image part of the way, then denoise it with the target prompt (Meng et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.sampling import blend, denoise, guided_by, timesteps_down
from .editor import EditorPrompts, ImageEditor, Views
from .prompted import PromptedBackbone, load_prompted


@dataclass(frozen=True)
class SDEdit(ImageEditor):
    """Stochastic differential editing (arXiv:2108.01073), also called image to image; DDIM steps.

    Outside the masks, what is to be kept is put back at every step at its noise level, so that the model paints the
    inside to fit (blended latent diffusion, Avrahami et al. 2023, arXiv:2206.02779).
    """

    guidance_scale: float = 3.0
    """s of classifier-free guidance."""
    guidance_rescale: float = 0.7
    """How far the guided prediction gets the contrast of the unguided one back, in [0, 1] (Lin et al. 2023)."""
    num_steps: int = 12
    """Denoising steps from pure noise; an edit of strength s takes its share of them."""
    min_steps: int = 4
    """At least so many."""

    def load(
        self, keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str] = ()
    ) -> PromptedBackbone:
        """See ``ImageEditor``."""
        return load_prompted(keys, device, prompts, words)

    def edit(self, network: PromptedBackbone, views: Views) -> Float[Tensor, "b 3 h w"]:
        """See ``ImageEditor``."""
        backbone, num_steps = network.backbone, max(self.min_steps, round(self.num_steps * views.strength))
        latents = backbone.encode(views.images)
        noise = network.noise(views, latents)
        path = timesteps_down(backbone, num_steps, views.strength)
        predict = guided_by(
            backbone, network.target(views), network.null, self.guidance_scale, rescale=self.guidance_rescale
        )
        is_free = network.is_free(views)
        if is_free is None:
            return backbone.decode(denoise(backbone, backbone.add_noise(latents, noise, path[0]), path, predict))
        kept = latents if views.kept is None else backbone.encode(views.kept)
        return backbone.decode(blend(backbone, kept, is_free, noise, path, predict, start=latents))
