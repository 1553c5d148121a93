"""The prompts of an edit, embedded once before the loop."""

from dataclasses import dataclass

import threestudio
from threestudio.models.prompt_processors.base import PromptProcessor

from ..diffusion import Backbone, PromptEmbeds
from ..errors import ConfigError

NEGATIVE_PROMPT = (
    "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
)


@threestudio.register("ssd-prompt-processor")
class SSDPromptProcessor(PromptProcessor):
    """Source and target prompt, the empty prompt, and NFSD's negative one."""

    @dataclass
    class Config(PromptProcessor.Config):
        """Keys of the prompts."""

        source_prompt: str = ""
        """What is there."""
        target_prompt: str = ""
        """What should be there; for InstructPix2Pix, an instruction."""
        negative_prompt: str = NEGATIVE_PROMPT
        """What NFSD takes for bad pictures."""

    cfg: Config

    def configure(self) -> None:
        """Reject prompts that cannot lead anywhere."""
        if not self.cfg.target_prompt.strip():
            raise ConfigError(
                what="target_prompt is empty",
                expected="a sentence for what should be there",
                fix='set target_prompt="a photo of ..."',
            )

    def __call__(self, backbone: Backbone, names: set[str]) -> dict[str, PromptEmbeds]:
        """Embeddings of the named prompts (src tgt null neg), one row each; the text encoder is then freed.

        Raises:
            ConfigError: If the source prompt is empty although the score reads it.
        """
        if "src" in names and not self.cfg.source_prompt.strip():
            raise ConfigError(
                what="source_prompt is empty",
                expected="a sentence for what is there; this score compares the two prompts",
                fix='set source_prompt="a photo of ..."',
            )
        texts = {
            "src": self.cfg.source_prompt,
            "tgt": self.cfg.target_prompt,
            "null": "",
            "neg": self.cfg.negative_prompt,
        }
        ordered = sorted(names)
        rows = backbone.encode_prompts([texts[name] for name in ordered])
        backbone.free_text_encoder()
        return {name: rows[i] for i, name in enumerate(ordered)}
