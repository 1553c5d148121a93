"""What editors with a source branch compute with: a U-Net, its prompts, and which tokens belong to which word."""

from collections.abc import Sequence

from ...diffusion import Backbone
from ...diffusion.words import PromptWords, prompt_words
from ...errors import ConfigError
from ..editor import EditorPrompts, Views
from ..prompted import PromptedBackbone, prompt_texts


class BranchedBackbone(PromptedBackbone):
    """A U-Net whose attention layers answer to an editor, with the words of its prompts."""

    controls_attention = True

    def __init__(self, backbone: Backbone, prompts: EditorPrompts, words: Sequence[str] = ()) -> None:
        if not hasattr(backbone.network, "up_blocks"):
            raise ConfigError(
                what=f"system.editing.model '{backbone.model_id}' has no U-Net whose attention can be changed",
                expected="a model with a U-Net (SD 1.x, 2.x, XL)",
                fix="choose such a model, or the editor inversion",
            )  # fmt: skip
        if backbone.text_encoders is not None:
            self._words = prompt_words(backbone.text_encoders, prompt_texts(prompts, words))
        super().__init__(backbone, prompts, words)

    def words_of(self, views: Views) -> list[tuple[PromptWords, PromptWords]]:
        """The words of each view's source and target prompt."""
        pairs = zip(self.source_texts(views), self.target_texts(views), strict=True)
        return [self.words_in(source, target) for source, target in pairs]

    def words_in(self, source: str, target: str) -> tuple[PromptWords, PromptWords]:
        """The words of two prompts that the network was loaded with."""
        return self._words[source], self._words[target]
