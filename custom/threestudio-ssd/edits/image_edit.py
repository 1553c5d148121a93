"""Edits of images: the one loop body of picture edits, PIE-Bench and the toy benchmark in 2D."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor
from torch.optim import Optimizer

from ..diffusion import PromptEmbeds
from ..errors import ConfigError
from ..guidance import EditGuidance
from ..images import read_mask
from .edit import Edit, Facts, value_at, values_of
from .editable_images import EditableImages
from .keys import DistillationConfig, check_not_negative, check_num_steps, load_guidance
from .strength import at_strength


@dataclass
class ImageEditConfig(DistillationConfig):
    """Keys of an edit of an image."""

    num_steps: int = 200
    """Optimisation steps, >= 1."""
    parametrisation: Literal["latent", "pixel"] = "latent"
    """What is optimised: the latent (as DDS does), or the pixels through the encoder."""
    latent_steps: Literal["sgd", "adam"] = "sgd"
    """How latents move: sgd, by the score itself, as published; adam, whatever the score's size is."""
    learning_rate: Any = 0.02
    """Of the steps on latents, or of Adam's on pixels; number or schedule, >= 0."""
    lambda_detail: Any = 0.0
    """Weight of changes finer than a latent cell, for pixels, number or schedule, >= 0: an encoder that cannot see
    them lets them grow into a grid."""
    mask_picture: str | None = None
    """White may change; the rest is put back after the edit and masked in latent space during it."""


class ImageBatchEdit(Edit):
    """Images of one size that move by a score, each as it would alone.

    Args:
        images: Sources in [0, 1]; sides in multiples of the backbone's ``size_multiple``.
        guidance: Network and score.
        prompts: Embeddings by name, one row for all images or one for each.
        cfg: Keys of ``ImageEditConfig``.
        seeds: One for each image: they decide timesteps and noise.
        masks: White (1) may change: elsewhere the score is dropped, and the result is the source.
        start: Where the edit starts from, if not from the sources.
    """

    def __init__(
        self,
        images: Float[Tensor, "b 3 h w"],
        guidance: EditGuidance,
        prompts: Mapping[str, PromptEmbeds],
        cfg: Any,
        seeds: Sequence[int],
        masks: Float[Tensor, "b 1 h w"] | None = None,
        start: Float[Tensor, "b 3 h w"] | None = None,
    ) -> None:
        super().__init__(cfg.num_steps)
        self.guidance, self.prompts, self.cfg, self.seeds = guidance, prompts, cfg, list(seeds)
        self.editable = EditableImages(guidance.backbone, images, cfg.parametrisation, masks, start)

    def make_optimizers(self) -> list[Optimizer]:
        """For latents as ``latent_steps`` says (their gradient is the score itself), Adam for pixels."""
        if self.cfg.parametrisation == "latent" and self.cfg.latent_steps == "sgd":
            return [torch.optim.SGD(self.parameters(), lr=0.0, fused=True)]
        return [torch.optim.Adam(self.parameters(), lr=0.0, fused=True)]

    def loss(self, step: int) -> tuple[Tensor, Facts]:
        """One batched prediction; for pixels, one encode with gradient before it and the detail term after it."""
        output = self.guidance.latent_step(
            self.editable.latents(), self.editable.latents_src, self.prompts, step=step, num_steps=self.num_steps,
            seed=self.seeds, image_condition=self.editable.condition, latent_mask=self.editable.latent_masks,
        )  # fmt: skip
        loss, weight = output.loss, value_at(self.cfg.lambda_detail, step)
        if self.cfg.parametrisation == "pixel" and weight != 0:
            loss = loss + weight * self.editable.detail()
        return loss, output.facts

    def set_rates(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """The learning rate of this step."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = value_at(self.cfg.learning_rate, step)

    def shrink(self) -> str | None:
        """The encoder's activations, which can be computed again; there are none where latents move."""
        return self.guidance.backbone.shrink() if self.cfg.parametrisation == "pixel" else None

    def result(self) -> Float[Tensor, "b 3 h w"]:
        """The images as they are now, in [0, 1]; outside the masks they are the sources."""
        return self.editable.result()

    def is_finite(self) -> bool:
        """Whether every parameter is finite, and the result: finite latents may decode to anything."""
        return super().is_finite() and bool(torch.isfinite(self.result()).all())

    def get_extra_state(self) -> dict[str, Any]:
        """What the guidance has learned."""
        return self.guidance.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.guidance.load_state_dict(state)


class ImageEdit:
    """One image and the edit of it; systems and the Python call drive its ``edit``.

    Making it loads the model, so that everything that can be wrong is found before any work.

    Args:
        cfg: Keys of ``ImageEditConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used.

    Attributes:
        guidance: Network and score.
        edit: The edit, after ``open``.
    """

    edit: ImageBatchEdit

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_num_steps(cfg, ImageEditConfig)
        check_not_negative("system", cfg, ImageEditConfig, ("learning_rate", "lambda_detail"))
        if not any(values_of(cfg.learning_rate)):
            fix = f"set system.learning_rate={ImageEditConfig.learning_rate}"
            raise ConfigError(what="system.learning_rate is 0", expected="above 0", fix=fix)
        self.cfg = cfg = at_strength(cfg)
        self.prompts, self.guidance, self.embeddings = load_guidance(cfg)

    def open(self, image: Float[Tensor, "1 3 h w"]) -> None:
        """Lay out the edit of an image in [0, 1], sides in multiples of the backbone's ``size_multiple``."""
        image = image.to(self.guidance.backbone.device)
        path = self.cfg.mask_picture
        mask = read_mask(path, "system.mask_picture", image) if path else None
        self.edit = ImageBatchEdit(image, self.guidance, self.embeddings, self.cfg, [self.cfg.seed], mask)
