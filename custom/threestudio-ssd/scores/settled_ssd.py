"""Settled SSD: stable score distillation that finds the edit, then lets go of what went too far."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from .branches import Branch, Predictions
from .dds import DDS
from .score import ScoreInputs
from .ssd import SSD


@dataclass(frozen=True)
class SettledSSD(SSD):
    """SSD for the first part of a run, DDS with little guidance for the rest; four predictions at every step.

    SSD's push does not vanish at the right result: e(z, y) - e(z, y_src) goes on asking for more of the target's words
    until its trajectory term, which pulls to the source, is as strong. Where that is depends on the scene: a donut at
    night becomes too bright, a dark house stays grey. DDS vanishes where the edit fits its prompt as well as the
    source fits its own, but is too weak to find the way there.
    """

    enhance_weight: float = 1.0
    """w_e of the first part."""
    settle_from: float = 0.5
    """Share of the run after which it settles, in [0, 1]."""
    settle_guidance: float = 2.5
    """s of DDS."""

    @cached_property
    def settling(self) -> DDS:
        """The score of the rest of the run."""
        return DDS(self.settle_guidance)

    @property
    def branches(self) -> tuple[Branch, ...]:
        return tuple(dict.fromkeys((*super().branches, *self.settling.branches)))

    def branches_at(self, inputs: ScoreInputs) -> tuple[Branch, ...]:
        """Those of the one score that the step evaluates."""
        return self.settling.branches if self.has_settled(inputs) else super().branches

    def has_settled(self, inputs: ScoreInputs) -> bool:
        """Whether a step belongs to the rest of the run."""
        return inputs.step >= self.settle_from * inputs.num_steps

    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        return self.settling.evaluate(eps, inputs) if self.has_settled(inputs) else super().evaluate(eps, inputs)
