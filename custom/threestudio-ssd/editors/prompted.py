"""A backbone with the prompts of an edit embedded: what editors on our own sampling compute with."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from ..diffusion import Backbone, PromptEmbeds, backbone_of
from ..diffusion.sampling import Predict, blend, denoise, timesteps_down
from ..errors import ConfigError, check_values
from ..seeds import Stream, generator
from .editor import EditorNetwork, EditorPrompts, ImageEditor, Views


class PromptedBackbone(EditorNetwork):
    """A backbone whose text encoders are freed, and the embeddings that an edit may ask for.

    Args:
        backbone: The model.
        prompts: Of the edit.
        words: Everything that ``Views.words`` may say.
    """

    controls_attention = False
    """Whether its editor changes the attention layers, so that nothing else may."""

    def __init__(self, backbone: Backbone, prompts: EditorPrompts, words: Sequence[str] = ()) -> None:
        self.backbone, self.prompts = backbone, prompts
        self.image_size, self.size_multiple = backbone.image_size, backbone.size_multiple
        self.counters = backbone.counters
        texts = prompt_texts(prompts, words)
        backbone.warn_of_unknown_words([prompts.source, prompts.target])
        embeds = backbone.encode_prompts(texts)
        self._rows = {text: embeds[index] for index, text in enumerate(texts)}
        backbone.free_text_encoder()

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the backbone."""
        return self.backbone.provenance

    def target(self, views: Views) -> PromptEmbeds:
        """The target prompt of each view, with its words."""
        return self._of_each(self.target_texts(views))

    def source(self, views: Views) -> PromptEmbeds:
        """The source prompt of each view, with its words."""
        return self._of_each(self.source_texts(views))

    def target_texts(self, views: Views) -> list[str]:
        """The same in words."""
        return [with_words(each.target, word) for each, word in self._asked_of(views)]

    def source_texts(self, views: Views) -> list[str]:
        """The same in words."""
        return [with_words(each.source, word) for each, word in self._asked_of(views)]

    def prompts_of(self, views: Views) -> list[EditorPrompts]:
        """The prompts of each view, without its words."""
        return [self.prompts] * len(views) if views.prompts is None else list(views.prompts)

    @property
    def null(self) -> PromptEmbeds:
        """What guidance leads away from: the negative prompt, one row; empty unless one is given."""
        return self._rows[self.prompts.negative]

    @property
    def empty(self) -> PromptEmbeds:
        """The empty prompt, one row."""
        return self._rows[""]

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

    def _asked_of(self, views: Views) -> Iterator[tuple[EditorPrompts, str]]:
        return zip(self.prompts_of(views), views.words or [""] * len(views), strict=True)

    def _of_each(self, texts: Sequence[str]) -> PromptEmbeds:
        return PromptEmbeds.cat([self._rows[text] for text in texts])


Prompted = TypeVar("Prompted", bound=PromptedBackbone)


def prompt_texts(prompts: EditorPrompts, words: Sequence[str]) -> list[str]:
    """Every text that views may ask for, once.

    Args:
        prompts: Of the edit, and the others.
        words: Everything that ``Views.words`` may say.
    """
    pairs = ((each.source, each.target) for each in prompts.all)
    texts = [with_words(text, word) for pair in pairs for text in pair for word in ("", *words)]
    return list(dict.fromkeys(["", *(each.negative for each in prompts.all), *texts]))


def load_prompted(
    keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str], *, reads_image: bool | None = None,
    kind: type[Prompted] = PromptedBackbone,
) -> Prompted:  # fmt: skip
    """The backbone that ``ModelKeys`` name, for an edit; see ``ImageEditor.load``.

    Args:
        keys: ``ModelKeys``.
        device: Where it runs.
        prompts: Of the edit.
        words: Everything that ``Views.words`` may say.
        reads_image: Whether it has to be a model that reads an image beside its latents; None: either will do.
        kind: What is made of it.

    Raises:
        ConfigError: If the model cannot be used, or is of the other kind.
    """
    backbone = backbone_of(keys, device)
    if reads_image is not None and backbone.has_image_condition != reads_image:
        what = "is an InstructPix2Pix model" if backbone.has_image_condition else "reads no image beside its prompt"
        fix = "ip2p" if backbone.has_image_condition else "sdedit"
        raise ConfigError(
            what=f"system.editing.model '{backbone.model_id}' {what}",
            expected="an InstructPix2Pix model" if reads_image else "a text-to-image model",
            fix=f"set system.editing.editor.name={fix}, or another model",
        )
    return kind(backbone, prompts, words)


@dataclass(frozen=True)
class DenoisingEditor(ImageEditor):
    """An editor that noises the latents of an image part of the way and denoises them anew, by DDIM steps.

    A subclass says which noise and which prediction. Outside the masks, what is to be kept is put back at every step
    at its noise level, so that the model paints the inside to fit (blended latent diffusion, Avrahami et al. 2023,
    arXiv:2206.02779).
    """

    guidance_rescale: float = 0.7
    """How far the guided prediction gets the contrast of the unguided one back, in [0, 1] (Lin et al. 2023)."""
    num_steps: int = 12
    """Denoising steps from pure noise, >= 1; an edit of strength s takes its share of them."""
    min_steps: int = 4
    """At least so many, >= 1."""

    reads_image: ClassVar[bool] = False
    """Whether its model reads an image beside the latents, as InstructPix2Pix does."""

    def check(self, key: str) -> None:
        """See ``ImageEditor``."""
        rules = {
            "guidance_rescale": (0 <= self.guidance_rescale <= 1, "from 0 to 1"),
            "num_steps": (self.num_steps >= 1, "at least 1"),
            "min_steps": (self.min_steps >= 1, "at least 1"),
        }
        check_values(key, self, type(self)(), rules)

    def load(
        self, keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str] = ()
    ) -> PromptedBackbone:
        """See ``ImageEditor``."""
        return load_prompted(keys, device, prompts, words, reads_image=self.reads_image)

    @abstractmethod
    def predict(self, network: PromptedBackbone, views: Views) -> Predict:
        """The noise in latents of the views, with guidance."""

    def noise(
        self, network: PromptedBackbone, views: Views, latents: Float[Tensor, "b c zh zw"], timesteps: Sequence[int]
    ) -> Float[Tensor, "b c zh zw"]:
        """What the latents are noised with: random, unless a subclass has better.

        Args:
            network: The model.
            views: What is edited.
            latents: Of ``views.images``.
            timesteps: The path down.
        """
        return network.noise(views, latents)

    def edit(self, network: PromptedBackbone, views: Views) -> Float[Tensor, "b 3 h w"]:
        """See ``ImageEditor``."""
        backbone, num_steps = network.backbone, max(self.min_steps, round(self.num_steps * views.strength))
        path = timesteps_down(backbone, num_steps, views.strength)
        latents = backbone.encode(views.images)
        noise, predict = self.noise(network, views, latents, path), self.predict(network, views)
        is_free = network.is_free(views)
        if is_free is None:
            return backbone.decode(denoise(backbone, backbone.add_noise(latents, noise, path[0]), path, predict))
        kept = latents if views.kept is None else backbone.encode(views.kept)
        return backbone.decode(blend(backbone, kept, is_free, noise, path, predict, start=latents))


def with_words(text: str, words: str) -> str:
    """A prompt with what a view adds to it: after a space, unless that begins with a comma of its own."""
    return f"{text}{'' if words.startswith(',') else ' '}{words}" if text and words else text or words
