"""A backbone with the prompts of an edit embedded: what editors on our own sampling compute with."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from ..diffusion import Backbone, PromptEmbeds, backbone_of
from ..seeds import Stream, generator
from .editor import EditorNetwork, EditorPrompts, Views


class PromptedBackbone(EditorNetwork):
    """A backbone whose text encoders are freed, and the embeddings that an edit may ask for.

    Args:
        backbone: The model.
        prompts: Of the edit.
        words: Everything that ``Views.words`` may say.
    """

    def __init__(self, backbone: Backbone, prompts: EditorPrompts, words: Sequence[str] = ()) -> None:
        self.backbone, self.prompts = backbone, prompts
        self.image_size, self.size_multiple = backbone.image_size, backbone.size_multiple
        self.counters = backbone.counters
        texts = list(dict.fromkeys([
            "", prompts.negative, *(_with(text, word) for text in prompts[:2] for word in ("", *words)),
        ]))  # fmt: skip
        embeds = backbone.encode_prompts(texts)
        self._rows = {text: embeds[index] for index, text in enumerate(texts)}
        backbone.free_text_encoder()

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the backbone."""
        return self.backbone.provenance

    def target(self, views: Views) -> PromptEmbeds:
        """The target prompt of each view, with its words."""
        return self._of_each(self.prompts.target, views)

    def source(self, views: Views) -> PromptEmbeds:
        """The source prompt of each view, with its words."""
        return self._of_each(self.prompts.source, views)

    @property
    def null(self) -> PromptEmbeds:
        """What guidance leads away from: the negative prompt, one row; empty unless one is given."""
        return self._rows[self.prompts.negative]

    def noise(self, views: Views, like: Float[Tensor, "b c zh zw"]) -> Float[Tensor, "b c zh zw"]:
        """Standard normal noise, each view's from its own seed and the round."""
        draws = [generator(seed, views.round, Stream.EDITOR) for seed in views.seeds]
        return torch.stack([torch.randn(like.shape[1:], generator=each) for each in draws]).to(like)

    def is_free(self, views: Views) -> Tensor | None:
        """(b 1 zh zw) cells of the latents in which some pixel may change; None: all."""
        if views.masks is None:
            return None
        cells = [side // self.backbone.downscale for side in views.images.shape[-2:]]
        return adaptive_max_pool2d(views.masks, cells) > 0

    def _of_each(self, text: str, views: Views) -> PromptEmbeds:
        words = views.words or [""] * len(views)
        return PromptEmbeds.cat([self._rows[_with(text, word)] for word in words])


def load_prompted(keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str]) -> PromptedBackbone:
    """The backbone that ``ModelKeys`` name, for an edit; see ``ImageEditor.load``."""
    return PromptedBackbone(backbone_of(keys, device), prompts, words)


def _with(text: str, words: str) -> str:
    """A prompt with what a view adds to it."""
    return f"{text}, {words}" if text and words else text or words
