"""MasaCtrl: the target branch asks, and the source branch's keys and values answer."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...diffusion.attention import Layer
from ...errors import check_values
from .control import Control, Controlling, last_of, self_attention_layers
from .setting import Rows, Setting


@dataclass(frozen=True)
class MasaCtrl(Control):
    """Mutual self-attention control (Cao et al. 2023, arXiv:2304.08465, section 3.2).

    After the first steps, in the later layers of self-attention, queries of the target attend to the source: what
    things look like stays, and where they are may change. Under the null prompt it attends to the source under the
    null prompt. The source branch is told nothing.
    """

    has_empty_source: ClassVar[bool] = True

    steps_from: float = 4 / 50
    """Share of the steps that are left alone first, in [0, 1]: 4 of 50 as published."""
    layers_from: float = 10 / 16
    """Share of the layers of self-attention that are left alone, in [0, 1]: 10 of 16 as published."""

    def check(self, key: str) -> None:
        """See ``Control``."""
        rules = {name: (0 <= getattr(self, name) <= 1, "from 0 to 1") for name in ("steps_from", "layers_from")}
        check_values(key, self, MasaCtrl(), rules)

    def begin(self, setting: Setting, rows: Rows) -> "ByMutualAttention":
        """See ``Control``."""
        return ByMutualAttention(self, setting, rows)


class ByMutualAttention(Controlling):
    """MasaCtrl during one edit."""

    def __init__(self, constants: MasaCtrl, setting: Setting, rows: Rows) -> None:
        super().__init__(setting, rows)
        self.first_step = setting.steps_of(constants.steps_from)
        self.layers = frozenset(last_of(self_attention_layers(setting.backbone.network), constants.layers_from))
        self.order = rows.order(target=rows.source, target_null=rows.source_null)

    def mix(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See ``Controlling``."""
        if self.step >= self.first_step and layer.name in self.layers:
            k, v = k[self.order], v[self.order]
        return layer.mix(q, k, v)
