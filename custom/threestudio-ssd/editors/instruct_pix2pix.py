"""InstructPix2Pix: a model that reads the original image beside an instruction (Brooks et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

from ..diffusion.sampling import Predict, guided_by_image
from .editor import Views
from .prompted import DenoisingEditor, PromptedBackbone


@dataclass(frozen=True)
class InstructPix2Pix(DenoisingEditor):
    """Instruction editing (arXiv:2211.09800, Eq. 3), as Instruct-NeRF2NeRF does it (Haque et al. 2023, 2303.12789).

    The model's condition is the view before any edit; what is noised and denoised is the view as it is now. An image
    on its own is both, and at strength 1 forgets what it looks like now: that is InstructPix2Pix itself.
    """

    text_scale: float = 7.5
    """s_T, towards the instruction."""
    image_scale: float = 1.5
    """s_I, towards the original image: more keeps more of it."""
    guidance_rescale: float = 0.0
    """As in ``DenoisingEditor``; none is published."""
    num_steps: int = 20
    """Denoising steps, >= 1."""
    min_steps: int = 20
    """At least so many: as published, an edit of any strength takes all of them. 1 takes the strength's share."""

    reads_image: ClassVar[bool] = True

    @property
    def reads_instruction(self) -> bool:
        """The target prompt is an instruction."""
        return True

    def predict(self, network: PromptedBackbone, views: Views) -> Predict:
        """See ``DenoisingEditor``."""
        condition = network.backbone.encode_condition(views.sources)
        return guided_by_image(
            network.backbone, network.target(views), network.null, condition, self.text_scale, self.image_scale,
            rescale=self.guidance_rescale,
        )  # fmt: skip


@dataclass(frozen=True)
class InstructPix2PixSmall(InstructPix2Pix):
    """The same, told what should be there, with the constants that suit the embedded model: little guidance."""

    text_scale: float = 3.0
    """s_T."""
    image_scale: float = 1.0
    """s_I; at 1 the prediction without the image is not evaluated."""
    guidance_rescale: float = DenoisingEditor.guidance_rescale
    """As in ``DenoisingEditor``."""
    num_steps: int = DenoisingEditor.num_steps
    """As in ``DenoisingEditor``."""
    min_steps: int = DenoisingEditor.min_steps
    """As in ``DenoisingEditor``."""

    @property
    def reads_instruction(self) -> bool:
        """The target prompt is a description: the embedded model is trained with both."""
        return False


@dataclass(frozen=True)
class InstructPix2PixUnguided(InstructPix2PixSmall):
    """The same without guidance, for a model that is told enough: one prediction a step."""

    text_scale: float = 1.0
    """s_T; at 1 the prediction without the prompt is not evaluated."""
