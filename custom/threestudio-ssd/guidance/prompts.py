"""The prompts of an edit, embedded once before the loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import threestudio
from threestudio.models.prompt_processors.base import PromptProcessor

from ..diffusion import Backbone, PromptEmbeds
from ..errors import ConfigError
from ..host import Completed

NEGATIVE_PROMPT = (
    "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
)


def check_target(prompt: str) -> None:
    """Refuse an empty target prompt, which leads nowhere.

    Raises:
        ConfigError: If it is.
    """
    if not prompt.strip():
        expected, fix = "a sentence for what should be there", 'set target_prompt="a photo of ..."'
        raise ConfigError(what="target_prompt is empty", expected=expected, fix=fix)


@threestudio.register("ssd-prompt-processor")
class EditPrompts(Completed, PromptProcessor):
    """Source and target prompt, the empty prompt, and NFSD's negative one.

    It is also the interface behind the key ``prompt_processor_type``: processors of other kinds are subclasses.
    """

    @dataclass
    class Config(PromptProcessor.Config):
        """Keys of the prompts."""

        source_prompt: str = ""
        """What is there."""
        target_prompt: str = ""
        """What should be there; for InstructPix2Pix, an instruction."""
        negative_prompt: str = NEGATIVE_PROMPT
        """What NFSD takes for bad images."""

    cfg: Config

    def configure(self) -> None:
        """Reject prompts that cannot lead anywhere."""
        check_target(self.cfg.target_prompt)

    def __call__(self, backbone: Backbone, names: set[str]) -> dict[str, PromptEmbeds]:
        """``rows`` of the one edit that the keys describe."""
        return self.rows(backbone, names, [(self.cfg.source_prompt, self.cfg.target_prompt)])

    def rows(self, backbone: Backbone, names: set[str], pairs: Sequence[tuple[str, str]]) -> dict[str, PromptEmbeds]:
        """Embeddings of the named prompts, one row an edit; the text encoder is then freed.

        Args:
            backbone: Has the text encoder.
            names: Of src, tgt, null and neg, those that the guidance reads.
            pairs: Source and target prompt of each edit.

        Raises:
            ConfigError: If a source prompt is empty although the score reads it.
        """
        sources, targets = zip(*pairs, strict=True)
        self.check_source(names, sources)
        count = len(pairs)
        texts = {"src": sources, "tgt": targets, "null": ("",) * count, "neg": (self.cfg.negative_prompt,) * count}
        distinct = list(dict.fromkeys(text for name in sorted(names) for text in texts[name]))
        backbone.warn_of_unknown_words([*sources, *targets])
        embeds = backbone.encode_prompts(distinct)
        backbone.free_text_encoder()
        return {name: embeds[[distinct.index(text) for text in texts[name]]] for name in names}

    def check_source(self, names: set[str], sources: Sequence[str]) -> None:
        """Refuse edits without a source prompt, where one is read.

        Args:
            names: As for ``rows``.
            sources: The source prompt of each edit.

        Raises:
            ConfigError: If one is empty.
        """
        if "src" in names and not all(source.strip() for source in sources):
            what = "source_prompt is empty"
            expected = "a sentence for what is there; this score compares the two prompts"
            raise ConfigError(what=what, expected=expected, fix='set source_prompt="a photo of ..."')
