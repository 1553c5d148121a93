"""An adapter through which a U-Net draws several views of one object together.

As in MV-Adapter (Huang et al. 2024, arXiv:2412.03632) the U-Net stays as it is, and beside each of its self-attention
layers stands one in which the tokens of all views attend to each other. Rays say where a token looks.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from .attention import Layer, attention_control
from .beside import load_beside
from .waves import num_waves, waves

OCTAVES = 3
MOMENT_SCALE = 3.0
"""Rays that meet an object have moments of up to about a third of the cameras' distance."""
RAY_FEATURES = num_waves(6, OCTAVES)
WIDTH, NUM_HEADS = 128, 4


@runtime_checkable
class SeenObject(Protocol):
    """Views of one object, in a frame of it: a ``cameras.rays.ObjectViews``."""

    def plucker(self, size: tuple[int, int]) -> Float[Tensor, "c n 6"]:
        """Pluecker coordinates of the rays through the cells of each image, so many rows and columns."""
        ...


class ViewGeometry:
    """Where the views look that are drawn together.

    Args:
        groups: Of equally many views each.
    """

    def __init__(self, groups: Sequence[SeenObject]) -> None:
        self.groups = list(groups)
        self._features: dict[tuple[int, int], Tensor] = {}

    def features(self, size: tuple[int, int]) -> Float[Tensor, "g v n f"]:
        """``ray_features`` of the tokens of a feature map of so many rows and columns."""
        if size not in self._features:
            self._features[size] = torch.stack([ray_features(each.plucker(size)) for each in self.groups])
        return self._features[size]


class ViewAttention(nn.Module):
    """Beside one self-attention layer: what the tokens of all views tell each other.

    Its last weights start at zero, so that a new one changes nothing.

    Args:
        channels: Of the layer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.of_hidden = nn.Linear(channels, 3 * WIDTH)
        self.of_rays = nn.Linear(RAY_FEATURES, 3 * WIDTH, bias=False)
        self.mix = nn.Linear(WIDTH + channels, 2 * WIDTH)
        self.out = nn.Linear(2 * WIDTH, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Float[Tensor, "g v n c"], features: Float[Tensor, "g v n f"]) -> Float[Tensor, "g v n c"]:
        """What is added to the layer's own output.

        Args:
            hidden: What the layer gets: views of ``g`` groups, of which each is one object.
            features: Of the tokens' rays, see ``ray_features``.
        """
        normed = self.norm(hidden)
        projected = self.of_hidden(normed) + self.of_rays(features)
        q, k, v = (
            each.flatten(1, 2).unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for each in projected.chunk(3, dim=-1)
        )
        mixed = attention(q, k, v).transpose(1, 2).flatten(2).unflatten(1, hidden.shape[1:3])
        return self.out(silu(self.mix(torch.cat([mixed, normed], dim=-1))))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention; written out where there is a gradient, whose fused form is slow on a CPU."""
    if torch.is_grad_enabled() and q.requires_grad:
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    return scaled_dot_product_attention(q, k, v)


def ray_features(rays: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b f"]:
    """Pluecker coordinates, in units of the cameras' distance, with sines and cosines of their multiples."""
    return waves(rays * rays.new_tensor([1.0] * 3 + [MOMENT_SCALE] * 3), OCTAVES)


class ViewAdapter(nn.Module):
    """A ``ViewAttention`` for each self-attention layer of a U-Net.

    Args:
        unet: A ``UNet2DConditionModel``, which stays as it is.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({
            _key(name): ViewAttention(module.to_q.in_features)
            for name, module in unet.named_modules() if name.endswith(".attn1")
        })  # fmt: skip

    def forward(
        self, name: str, hidden: Float[Tensor, "g v n c"], features: Float[Tensor, "g v n f"]
    ) -> Float[Tensor, "g v n c"]:
        """What is added to the output of the layer of this name; see ``ViewAttention``."""
        return self.layers[_key(name)](hidden, features)


def drawn_together(
    unet: Any, adapter: ViewAdapter, geometry: ViewGeometry, own: Callable[[Layer, Tensor], Tensor]
) -> AbstractContextManager[None]:
    """While entered, a U-Net draws the views of its batches together.

    Args:
        unet: That which the adapter was built for.
        adapter: What is beside it.
        geometry: Where the views look; a batch may hold all of them once for each of some prompts.
        own: What a self-attention layer itself gives for its hidden states.
    """

    def attend(layer: Layer, hidden: Tensor, seen: Tensor) -> Tensor:
        features = geometry.features(layer.size).to(hidden)
        groups = hidden.unflatten(0, (-1, features.shape[1]))
        features = torch.cat([features] * (len(groups) // len(features)))
        return own(layer, hidden) + adapter(layer.name, groups, features).flatten(0, 1)

    return attention_control(unet, attend, has_cross=False)


def load_view_adapter(path: Path, unet: Any, key: str) -> ViewAdapter:
    """The adapter in a .safetensors file, frozen, with the device and dtype of the U-Net that it is for.

    Args:
        path: The file.
        unet: What it was trained for, or another of the same shapes.
        key: Where the path stands in the config, for messages.

    Raises:
        ConfigError: If there is no such file, or it does not fit the network.
    """
    return load_beside(ViewAdapter(unet), path, unet, key)


def _key(name: str) -> str:
    return name.replace(".", "-")
