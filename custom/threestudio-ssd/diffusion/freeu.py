"""FreeU (Si et al. 2023, arXiv:2309.11497): stronger backbone features, weaker low frequencies in the skips.

Two readings, both visible options, neither a default of the networks:

- ``paper``: the official repository's rule, which the SSD code uses. Every up-block layer whose incoming
  features have the largest channel count of the network (1280 in Stable Diffusion) takes (b1, s1); the
  second largest (640) takes (b2, s2).
- ``diffusers``: ``enable_freeu``: the first up block takes (b1, s1), the second (b2, s2).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError


@dataclass(frozen=True)
class FreeU:
    """Which FreeU, and how strong; the defaults of b and s are those of the SSD code."""

    kind: Literal["none", "paper", "diffusers"] = "none"
    b1: float = 1.1
    """Factor on half of the backbone channels at the widest layers; 1 is off."""
    b2: float = 1.1
    """The same at the second widest layers."""
    s1: float = 0.9
    """Factor on the lowest frequencies of the skip at the widest layers; 1 is off."""
    s2: float = 0.2
    """The same at the second widest layers."""

    @classmethod
    def of(cls, value: "FreeU | Mapping[str, Any] | None") -> "FreeU":
        """A FreeU from itself, from a mapping with the same keys, or (None) switched off.

        Raises:
            ConfigError: If the mapping has a key or a kind that FreeU has not.
        """
        if value is None or isinstance(value, FreeU):
            return value or cls()
        names = [field.name for field in fields(cls)]
        for key in value:
            if key not in names:
                what = f"freeu.{key} is not a FreeU setting"
                raise ConfigError(what=what, expected=f"some of {', '.join(names)}", fix=f"remove freeu.{key}")
        kind = value.get("kind", "none")
        if kind not in ("none", "paper", "diffusers"):
            raise ConfigError(
                what=f"freeu.kind is {kind!r}", expected="none, paper or diffusers", fix="set freeu.kind=none"
            )
        return cls(kind, **{key: float(number) for key, number in value.items() if key != "kind"})


def low_frequencies(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The part of `features` in the frequencies {0, -1} x {0, -1}, its real part.

    This is what multiplying the centre 2x2 block of the shifted FFT selects, written as inner products with
    the
    at most seven real waves of those frequencies: no FFT, any size, any dtype.
    """
    height, width = features.shape[-2:]
    waves = _waves(height, width, features.device, features.dtype)
    flat = features.flatten(2)
    return (flat @ waves.mT @ waves / (height * width)).reshape(features.shape)


def _waves(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "k hw"]:
    rows = torch.arange(height, device=device, dtype=torch.float64)[:, None] / height
    columns = torch.arange(width, device=device, dtype=torch.float64)[None] / width
    waves = []
    for frequency_y in {0, -1 % height}:
        for frequency_x in {0, -1 % width}:
            phase = 2 * torch.pi * (frequency_y * rows + frequency_x * columns)
            waves += [phase.cos(), phase.sin()]
    return torch.stack(waves).flatten(1).to(dtype)


def apply_freeu(
    hidden: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s h w"], backbone_scale: float, skip_scale: float
) -> Float[Tensor, "b cs h w"]:
    """`hidden` with the first half of its channels scaled, beside `skip` with its lowest frequencies scaled.

    Nothing is changed in place, so gradients pass.
    """
    half = hidden.shape[1] // 2
    skip = skip + (skip_scale - 1) * low_frequencies(skip)
    return torch.cat([hidden[:, :half] * backbone_scale, hidden[:, half:], skip], dim=1)


def install_freeu(unet: Any, freeu: FreeU) -> None:
    """Switch `unet` (a UNet2DConditionModel without FreeU) to `freeu`.

    Raises:
        ConfigError: If the network has no up blocks with skips, as SD 3's transformer.
    """
    if freeu.kind == "none":
        return
    if not hasattr(unet, "up_blocks"):
        what = f"freeu.kind={freeu.kind} with a {type(unet).__name__}, which has no skip connections"
        raise ConfigError(what=what, expected="a U-Net (SD 1.x, 2.x, XL, InstructPix2Pix)", fix="set freeu.kind=none")
    if freeu.kind == "diffusers":
        unet.enable_freeu(**{key: value for key, value in asdict(freeu).items() if key != "kind"})
        return
    widths = sorted({*unet.config.block_out_channels}, reverse=True)
    scales = dict(zip(widths, [(freeu.b1, freeu.s1), (freeu.b2, freeu.s2)], strict=False))
    for resnet, num_hidden in hidden_channels(unet):
        if num_hidden in scales:
            resnet.register_forward_pre_hook(_FreeUHook(num_hidden, *scales[num_hidden]))


def hidden_channels(unet: Any) -> list[tuple[nn.Module, int]]:
    """Each up-block layer with the channels of the features that reach it, its skip not counted."""
    incoming = unet.config.block_out_channels[-1]
    layers = []
    for block in unet.up_blocks:
        for resnet in block.resnets:
            layers.append((resnet, incoming))
            incoming = resnet.out_channels
    return layers


class _FreeUHook:
    """Forward pre-hook of an up-block resnet, whose input is the features and the skip, concatenated."""

    def __init__(self, num_hidden: int, backbone_scale: float, skip_scale: float) -> None:
        self.num_hidden, self.backbone_scale, self.skip_scale = num_hidden, backbone_scale, skip_scale

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        joined, *rest = inputs
        hidden, skip = joined[:, : self.num_hidden], joined[:, self.num_hidden :]
        return apply_freeu(hidden, skip, self.backbone_scale, self.skip_scale), *rest
