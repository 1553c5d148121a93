"""The system that makes a radiance field of latents, from posed photographs or from the renders of a splat."""

from typing import Any

import threestudio

from ..edits.latent_fit import LatentFit, LatentFitConfig
from .field_fit import FieldFitSystem
from .identity import Identity, of_model


@threestudio.register("latent-nerf-fit-system")
class LatentFitSystem(FieldFitSystem):
    """Fits a field of latents and its refining layer; results are those of ``FieldFitSystem``."""

    Config = LatentFitConfig
    made = "A radiance field of latents"
    job: LatentFit

    def make(self) -> None:
        """Check the keys; load the model; read the splat, if one is fitted."""
        self.job = LatentFit(self.cfg)

    def identity(self, data: Any) -> Identity:
        """That of any field, and the model."""
        return {**super().identity(data), "model": of_model(self.cfg.autoencoder)}

    def facts(self) -> dict[str, Any]:
        """The autoencoder, and how well it does alone."""
        provenance = self.job.backbone.provenance
        names = ("model", "revision", "vae", "vae_revision")
        return {"psnr_autoencoder": self.job.autoencoder_psnr(), **{name: provenance[name] for name in names}}
