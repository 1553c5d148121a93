"""SDEdit: noise the image part of the way, then denoise it with the target prompt (Meng et al. 2021)."""

from dataclasses import dataclass

from ..diffusion.sampling import Predict, guided_by
from .editor import Views
from .prompted import DenoisingEditor, PromptedBackbone


@dataclass(frozen=True)
class SDEdit(DenoisingEditor):
    """Stochastic differential editing (arXiv:2108.01073), also called image to image."""

    guidance_scale: float = 3.0
    """s of classifier-free guidance."""

    def predict(self, network: PromptedBackbone, views: Views) -> Predict:
        """See ``DenoisingEditor``."""
        return guided_by(
            network.backbone, network.target(views), network.null, self.guidance_scale, rescale=self.guidance_rescale
        )
