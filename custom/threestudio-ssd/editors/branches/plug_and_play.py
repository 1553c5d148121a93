"""Plug-and-Play: features and self-attention of the decoder come from the source branch."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from ...diffusion.attention import Layer
from ...errors import check_values
from .control import Control, Controlling, replacing_output
from .setting import Rows, Setting


@dataclass(frozen=True)
class PlugAndPlay(Control):
    """Plug-and-play diffusion features (Tumanyan et al. 2022, arXiv:2211.12572, Algorithm 1).

    For the first steps both rows of the target, with its prompt and with the null prompt, have the source's features
    in one residual block of the decoder, before its input is added, and the source's queries and keys in the
    self-attention from there on. The source branch is the way down without guidance.
    """

    feature_steps: float = 0.8
    """tau_f: share of the steps with the source's features, in [0, 1]."""
    attention_steps: float = 0.5
    """tau_A: share of the steps with the source's queries and keys, in [0, 1]."""
    layers_from: float = 4 / 12
    """Which residual block of the decoder, as a share of them in [0, 1): as published, 4 of 12 counted from 0."""

    def check(self, key: str) -> None:
        """See ``Control``."""
        rules = {name: (0 <= getattr(self, name) <= 1, "from 0 to 1") for name in ("feature_steps", "attention_steps")}
        check_values(key, self, PlugAndPlay(), rules | {"layers_from": (0 <= self.layers_from < 1, "from 0, below 1")})

    def begin(self, setting: Setting, rows: Rows) -> "ByFeatures":
        """See ``Control``."""
        return ByFeatures(self, setting, rows)


class ByFeatures(Controlling):
    """Plug-and-Play during one edit."""

    def __init__(self, constants: PlugAndPlay, setting: Setting, rows: Rows) -> None:
        super().__init__(setting, rows)
        self.constants = constants
        blocks = setting.backbone.network.up_blocks
        places = [(up, index) for up, block in enumerate(blocks) for index in range(len(block.resnets))]
        chosen = places[round(constants.layers_from * len(places)) :]
        up, index = chosen[0]
        self.residual = blocks[up].resnets[index].conv2
        self.layers = tuple(f"up_blocks.{up}.attentions.{index}." for up, index in chosen)
        self.order = rows.order(target=rows.source, target_null=rows.source)

    def mix(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See ``Controlling``."""
        is_chosen = not layer.is_cross and layer.name.startswith(self.layers)
        if is_chosen and self.step < self.setting.steps_of(self.constants.attention_steps):
            q, k = q[self.order], k[self.order]
        return layer.mix(q, k, v)

    def hooked(self) -> AbstractContextManager[None]:
        """See ``Controlling``; the last convolution of the residual block."""
        return replacing_output(self.residual, self._features)

    def _features(self, output: Tensor) -> Tensor:
        if self.step >= self.setting.steps_of(self.constants.feature_steps):
            return output
        return output.unflatten(0, (self.rows.count, -1))[self.order].flatten(0, 1)
