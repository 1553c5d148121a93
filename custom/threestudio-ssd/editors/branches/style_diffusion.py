"""StyleDiffusion: what cross-attention takes its values from is fitted to the picture, its maps are held."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, layer_norm, leaky_relu

from ...diffusion.attention import Layer, attention_control
from ...diffusion.sampling import guided_by
from ...errors import check_values
from ...seeds import Stream, generator
from .maps import AttentionMaps
from .picture_inversion import FittedInversion, ddim_inverse, guided_step, mse
from .setting import Inverted, Setting


@dataclass(frozen=True)
class StyleDiffusion(FittedInversion):
    """Prompt-embedding inversion (Li et al. 2023, arXiv:2303.15649), with the constants of its public code.

    At each step down a mapping network makes, of the picture, a scale and a shift of the prompt's embedding. Only the
    values of the cross-attention read the embedding so changed; its keys read the prompt. The network is fitted so
    that a step with guidance leads to the inverted latents, and so that the attention maps are those of the inversion.
    Steps of Adam fall by exp(-inner_decay) from one step down to the next, whose network starts from the last one.
    A null edit gives the picture back, as far as they fit, only where tau_v is 1.

    The published network sees the picture by CLIP's 197 tokens. Here it sees its latents in as many patches, which
    every model has; the picture does not change while the network is fitted. The last layer starts at no change.
    """

    inner_steps: int = 100
    inner_decay: float = 0.1
    """See above, >= 0."""
    value_steps: float = 0.5
    """tau_v: share of the steps in which the target branch has the fitted values, in [0, 1]; the source has them in
    all."""
    map_cells: int = 16
    """Attention maps are held at the level whose longer side is nearest to so many cells, >= 1."""
    patches: int = 14
    """Patches along a side of the picture that the network sees, >= 1."""

    def check(self, key: str) -> None:
        """See ``PictureInversion``."""
        super().check(key)
        rules = {
            "inner_decay": (self.inner_decay >= 0, "at least 0"),
            "value_steps": (0 <= self.value_steps <= 1, "from 0 to 1"),
            "map_cells": (self.map_cells >= 1, "at least 1"),
            "patches": (self.patches >= 1, "at least 1"),
        }
        check_values(key, self, StyleDiffusion(), rules)

    def inner_steps_at(self, step: int) -> int:
        """Steps of Adam at a step down, at most."""
        return math.ceil(self.inner_steps * math.exp(-self.inner_decay * step))

    def invert(self, setting: Setting, latents: Float[Tensor, "b c zh zw"]) -> Inverted:
        """See ``PictureInversion``."""
        pivot, held = self._inverse_with_maps(setting, latents)
        patches = adaptive_avg_pool2d(latents, self.patches).flatten(2)
        now_at, mapping, mappings = pivot[0], Mapping.of(patches, setting), []
        for step in range(setting.num_steps):
            stepped, mapping = _Step(setting, step, now_at), mapping.copy()

            def losses(stepped: "_Step" = stepped, mapping: Mapping = mapping, step: int = step) -> Tensor:
                maps = AttentionMaps()
                loss = mse(stepped(mapping, maps), pivot[step + 1])
                for seen, wanted in zip(maps.nearest(self.map_cells), held[step], strict=True):
                    loss = loss + mse(seen, wanted)
                return loss

            self.fit(mapping.parameters, losses, step, self.inner_steps_at(step))
            mappings.append(mapping)
            with torch.no_grad():
                now_at = stepped(mapping, AttentionMaps())
        return Inverted(pivot, values=mappings, value_steps=setting.steps_of(self.value_steps))

    def _inverse_with_maps(self, setting: Setting, latents: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The inverse, and for each step down the maps that its latents had; the first step has those of the second,
        since inversion does not look at the noisiest latents.
        """
        predict = guided_by(setting.backbone, setting.source, setting.network.null, 1.0)
        held: list[list[Tensor]] = []

        def watched(latents_noisy: Tensor, timestep: int) -> Tensor:
            maps = AttentionMaps()
            with attention_control(setting.backbone.network, maps.attend):
                eps = predict(latents_noisy, timestep)
            held.append(maps.nearest(self.map_cells))
            return eps

        pivot = ddim_inverse(setting, latents, watched)
        return pivot, [held[-1], *held[:0:-1]]


@dataclass(frozen=True)
class Mapping:
    """A mapping network for each view: of its patches, a scale and a shift of the prompt's embedding.

    Three layers along the tokens, as published; the second keeps the width, with a norm and a leaky rectifier.

    Attributes:
        patches: (b d p) what it sees, a channel of the prompt's embedding each.
        parameters: Weight and bias of each layer; the first dimension is the view's.
    """

    patches: Float[Tensor, "b d p"]
    parameters: list[Tensor]

    @classmethod
    def of(cls, patches: Float[Tensor, "b c p"], setting: Setting) -> "Mapping":
        """One that changes nothing yet, of the views' seeds.

        Args:
            patches: Of the latents.
            setting: Of the edit.
        """
        length, width = setting.source.hidden.shape[1:]
        sizes = [(2 * length, patches.shape[-1]), (2 * length, 2 * length), (2 * length, 2 * length)]
        drawn: list[list[Tensor]] = []
        for seed in setting.views.seeds:
            draw = generator(seed, setting.views.round, Stream.EDITOR)
            mixing = torch.randn(width, patches.shape[1], generator=draw) / math.sqrt(patches.shape[1])
            layers = [mixing]
            for rows, columns in sizes[:2]:
                bound = 1 / math.sqrt(columns)
                layers += [(torch.rand(shape, generator=draw) * 2 - 1) * bound for shape in ((rows, columns), (rows,))]
            drawn.append([*layers, torch.zeros(sizes[2]), torch.zeros(sizes[2][0])])
        mixing, *parameters = (torch.stack(each).to(patches) for each in zip(*drawn, strict=True))
        return cls(mixing @ patches, parameters)

    def copy(self) -> "Mapping":
        """The same, to be fitted further."""
        return Mapping(self.patches, [each.detach().clone().requires_grad_() for each in self.parameters])

    def __call__(self, embeds: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """The embedding that values are made of."""
        first, first_bias, second, second_bias, last, last_bias = (each.to(embeds) for each in self.parameters)
        tokens = first @ self.patches.to(embeds).mT + first_bias[..., None]
        tokens = second @ tokens + second_bias[..., None]
        tokens = leaky_relu(layer_norm(tokens, tokens.shape[-1:]), 0.01)
        scale, shift = (last @ tokens + last_bias[..., None]).chunk(2, dim=1)
        return embeds * (1 + scale) + shift


class _Step:
    """One step down with guidance, of what the values of its cross-attention are made of."""

    def __init__(self, setting: Setting, step: int, latents: Tensor) -> None:
        self.setting, self.step, self.latents = setting, step, latents
        self.eps_null = setting.backbone.predict_noise(latents, setting.path[step], setting.null)

    def __call__(self, mapping: Mapping, maps: AttentionMaps) -> Float[Tensor, "b c zh zw"]:
        setting = self.setting

        def attend(layer: Layer, hidden: Tensor, seen: Tensor) -> Tensor:
            return maps.attend(layer, hidden, seen, mapping(seen) if layer.is_cross else seen)

        with attention_control(setting.backbone.network, attend):
            eps = setting.backbone.predict_noise(self.latents, setting.path[self.step], setting.source, with_grad=True)
        return guided_step(setting, self.step, self.latents, eps, self.eps_null)
