"""Stable Diffusion 1.x and 2.x, InstructPix2Pix, SD-Turbo and LCM: a U-Net that reads the tokens of one CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..prompts import PromptEmbeds, TextEncoders
from .unet import UNetFamily

LCM = "LatentConsistencyModelPipeline"


@dataclass(frozen=True)
class StableDiffusion(UNetFamily):
    """Rombach et al. 2021, arXiv:2112.10752."""

    name: ClassVar[str] = "sd"
    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        LCM,
    )

    def embed(self, texts: TextEncoders, prompts: Sequence[str], network: Any) -> PromptEmbeds:
        """The CLIP's last layer."""
        return PromptEmbeds(texts.networks[0](texts.token_ids(0, prompts)).last_hidden_state.float())

    def pipeline_of(self, network: Any, has_image_condition: bool) -> str:
        """A network that is told the guidance scale is an LCM."""
        return LCM if network.config.time_cond_proj_dim else super().pipeline_of(network, has_image_condition)

    def index_entries(self, zero_empty_prompts: bool) -> dict[str, Any]:
        """There is no safety checker."""
        absent = [None, None]
        return {"safety_checker": absent, "feature_extractor": absent, "requires_safety_checker": False}


SD = StableDiffusion()
