"""Inversion: the noise that an image comes from under its own prompt, denoised with the target prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..diffusion.sampling import Predict, guided_by, invert, noise_in
from .editor import Views
from .prompted import DenoisingEditor, PromptedBackbone


@dataclass(frozen=True)
class Inversion(DenoisingEditor):
    """DDIM inversion (Song et al. 2020, arXiv:2010.02502, section 4.3) with the source prompt, then the target prompt.

    The way up is without guidance, s = 1, since only there does the way down lead back; the way down has it. A strength
    of s inverts up to that share of the timesteps. Where both prompts are the same and the guidance is 1, the image
    comes back, to first order in the length of a step.

    What is kept outside the masks is put back at every step with the noise that inversion led to. DiffEdit (Couairon et
    al. 2022, arXiv:2210.11427) puts the inverted latents of each step back instead, which is the same only where the
    image is itself what is kept, and only to first order.
    """

    guidance_scale: float = 3.0
    """s of the way down; published baselines take 7.5."""
    num_steps: int = 20
    """Steps up to pure noise, and down again; an edit of strength s takes its share. Published baselines take 50."""

    def noise(
        self, network: PromptedBackbone, views: Views, latents: Float[Tensor, "b c zh zw"], timesteps: Sequence[int]
    ) -> Float[Tensor, "b c zh zw"]:
        """The noise between the image's latents and their inverse."""
        predict = guided_by(network.backbone, network.source(views), network.null, 1.0)
        inverted = invert(network.backbone, latents, timesteps, predict)
        return noise_in(network.backbone, inverted, latents, timesteps[0])

    def predict(self, network: PromptedBackbone, views: Views) -> Predict:
        """See ``DenoisingEditor``."""
        return guided_by(
            network.backbone, network.target(views), network.null, self.guidance_scale, rescale=self.guidance_rescale
        )
