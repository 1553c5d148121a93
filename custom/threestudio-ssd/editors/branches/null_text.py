"""Null-text inversion: the null prompt is fitted at every step, until guidance leads back to the picture."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ...diffusion import PromptEmbeds
from .picture_inversion import FittedInversion, ddim_inverse, guided_step, mse
from .setting import Inverted, Setting


@dataclass(frozen=True)
class NullText(FittedInversion):
    """Null-text inversion (Mokady et al. 2022, arXiv:2211.09794, Algorithm 1).

    The inverted latents z* are the pivot. At each step down the embedding of the null prompt is fitted so that a step
    with guidance leads from where the source branch is to z*_{t-1}; the next step starts from the embedding found.
    Both branches are then led away from these embeddings. A null edit gives the picture back, as far as they fit.
    """

    def invert(self, setting: Setting, latents: Float[Tensor, "b c zh zw"]) -> Inverted:
        """See ``PictureInversion``."""
        pivot = ddim_inverse(setting, latents)
        now_at, null, nulls = pivot[0], setting.null, []
        for step in range(setting.num_steps):
            stepped = _Step(setting, step, now_at, null)
            hidden = null.hidden.detach().clone().requires_grad_()
            self.fit(
                [hidden],
                lambda stepped=stepped, hidden=hidden, step=step: mse(stepped(hidden), pivot[step + 1]),
                step, self.inner_steps,
            )  # fmt: skip
            null = PromptEmbeds(hidden.detach(), null.pooled)
            nulls.append(null)
            now_at = stepped(null.hidden)
        return Inverted(pivot, nulls=nulls)


class _Step:
    """One step down with guidance, of the embedding that it leads away from."""

    def __init__(self, setting: Setting, step: int, latents: Tensor, null: PromptEmbeds) -> None:
        self.setting, self.step, self.latents, self.pooled = setting, step, latents, null.pooled
        self.eps_source = setting.backbone.predict_noise(latents, setting.path[step], setting.source)

    def __call__(self, hidden: Float[Tensor, "b l d"]) -> Float[Tensor, "b c zh zw"]:
        setting, null = self.setting, PromptEmbeds(hidden, self.pooled)
        eps_null = setting.backbone.predict_noise(self.latents, setting.path[self.step], null, with_grad=True)
        return guided_step(setting, self.step, self.latents, self.eps_source, eps_null)
