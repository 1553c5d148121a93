"""What a model family is: the one interface through which the backbone knows its network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..prompts import PromptEmbeds, TextEncoders

TINY_WIDTH = 32
"""Width of the text networks of the random twins."""


@dataclass(frozen=True)
class Family(ABC):
    """One kind of diffusion model: what its folders hold, how its prompts are embedded, how its network is called.

    A subclass names its facts as class variables and implements five methods; the others are right for most networks of
    diffusers. Instances hold no weights: whatever a method needs of them is passed.

    Attributes:
        name: Short name, as in ``random_backbone(kind=...)``.
        pipelines: Pipeline classes of diffusers whose folders it reads; the first is written for text to image.
        network_part: Folder of the network.
        text_parts: Folders of the text networks, in order; each has a tokenizer folder of the same ending.
        optional_parts: Text parts that a model may lack; they count as zeros then.
        clip_heads: For each text network that is a CLIP, whether it has a projection (and so pooled embeddings).
        taesd: The tiny VAE that fits.
        latent_scale: Scaling factor of the models' own VAE, which the tiny one's latents have built in.
        half_dtype: The half precision that suits the network.
        is_flow: Whether its models predict a rectified flow, whatever else is asked of a random one.
        classes: Classes of parts that are in neither diffusers nor transformers, by the name in ``model_index.json``.
    """

    name: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    network_part: ClassVar[str] = "unet"
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    optional_parts: ClassVar[frozenset[str]] = frozenset()
    clip_heads: ClassVar[tuple[bool, ...]] = (False,)
    taesd: ClassVar[str] = "taesd"
    latent_scale: ClassVar[float] = 0.18215
    half_dtype: ClassVar[torch.dtype] = torch.float16
    is_flow: ClassVar[bool] = False
    classes: ClassVar[Mapping[str, type]] = {}

    # -- what every family says itself -----------------------------------------------------------------------
    @abstractmethod
    def embed(self, texts: TextEncoders, prompts: Sequence[str], network: Any) -> PromptEmbeds:
        """Embed prompts, one row each, in float32.

        Args:
            texts: The tokenizers and text networks.
            prompts: "" is the null prompt.
            network: What will read the embeddings; for the widths in its config alone.
        """

    @abstractmethod
    def predict(
        self,
        network: Callable[..., Any],
        config: Any,
        latents: Float[Tensor, "b c zh zw"],
        times: Tensor,
        prompts: PromptEmbeds,
        downscale: int,
    ) -> Float[Tensor, "b c2 zh zw"]:
        """One forward pass with the conditioning that this kind of network reads.

        Args:
            network: The network, possibly compiled.
            config: The network's own.
            latents: What it reads, an image condition beside them, in its precision.
            times: (b) on the scale it was trained on.
            prompts: One row for each latent, in its precision.
            downscale: Pixels per latent cell along one side.
        """

    @abstractmethod
    def make_network(self, config: Mapping[str, Any]) -> nn.Module:
        """A network of random weights, on the current default device."""

    @abstractmethod
    def tiny_config(self, in_channels: int, num_cells: int) -> dict[str, Any]:
        """Config of a network of about 0.1 M weights whose latents are ``num_cells`` wide, for tests."""

    @abstractmethod
    def prompt_widths(self, network: Any) -> tuple[int, int | None]:
        """Width of a token's embedding, and of a prompt's pooled one (None where the network reads none)."""

    # -- right for most networks of diffusers ----------------------------------------------------------------
    def num_channels(self, network: Any) -> tuple[int, int]:
        """Latent channels that a network reads, an image condition included, and those it writes."""
        return network.config.in_channels, network.config.out_channels or network.config.in_channels

    def num_cells(self, network: Any) -> int:
        """Side in latent cells of the images that a network was trained on."""
        sample_size = network.config.sample_size
        return sample_size if isinstance(sample_size, int) else max(sample_size)

    def cell_multiple(self, network: Any) -> int:
        """Latent sides must be multiples of this: the patch of a transformer."""
        return network.config.get("patch_size", 1)

    def pipeline_of(self, network: Any, has_image_condition: bool) -> str:
        """The pipeline class that reads such a network, as saving writes it."""
        return self.pipelines[0]

    def index_entries(self, zero_empty_prompts: bool) -> dict[str, Any]:
        """What ``model_index.json`` says beside the parts."""
        return {}

    @property
    def token_parts(self) -> tuple[str, ...]:
        """Folders of the tokenizers, in the order of ``text_parts``."""
        return tuple(part.replace("text_encoder", "tokenizer") for part in self.text_parts)

    def make_clips(self, configs: Sequence[Mapping[str, Any]]) -> list[nn.Module]:
        """The CLIP text networks of random weights, on the current default device."""
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        kinds = [CLIPTextModelWithProjection if has_head else CLIPTextModel for has_head in self.clip_heads]
        return [make(CLIPTextConfig(**config)) for make, config in zip(kinds, configs, strict=True)]

    # -- LoRA files ------------------------------------------------------------------------------------------
    @property
    def lora_prefixes(self) -> dict[str, str]:
        """Prefix of a layer's name in a LoRA file -> part: those of diffusers and PEFT, then those of kohya."""
        names = {f"{part}.": part for part in (self.network_part, *self.text_parts)}
        numbers = [""] if len(self.text_parts) == 1 else range(1, len(self.text_parts) + 1)
        kohya = {f"lora_te{number}_": part for number, part in zip(numbers, self.text_parts, strict=True)}
        return names | kohya | {f"lora_{self.network_part}_": self.network_part}

    def lora_layer(self, name: str, network: Any) -> str:
        """Flat name (underscores for dots) that diffusers gives to a layer which a LoRA file may name otherwise."""
        return name
