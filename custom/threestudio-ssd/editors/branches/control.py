"""What a control is: how the source branch decides what the target branch may change, layer by layer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from ...diffusion.attention import Layer, is_cross
from .network import BranchedBackbone
from .setting import Rows, Setting

PASSES = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
"""Part of a U-Net -> when it is passed."""


@dataclass(frozen=True)
class Control(ABC):
    """A way to hold the target branch to the source branch. A subclass is a frozen dataclass of its constants."""

    guides_source: ClassVar[bool] = False
    """Whether its source branch has guidance."""
    has_empty_source: ClassVar[bool] = False
    """Whether its source branch is told nothing, in place of the source prompt."""

    @abstractmethod
    def check(self, key: str) -> None:
        """Refuse values of the fields that cannot be used; see ``ImageEditor``."""

    def check_prompts(self, network: BranchedBackbone) -> None:  # noqa: B027  # most read no words
        """Override: refuse prompts that do not suit it, before any work.

        Args:
            network: With the prompts of all edits.

        Raises:
            ConfigError: For the first ones.
        """

    @abstractmethod
    def begin(self, setting: Setting, rows: Rows) -> "Controlling":
        """The control of one edit.

        Args:
            setting: Of the edit.
            rows: Where the states are in a network call.
        """


class Controlling(ABC):
    """A control during one edit.

    Args:
        setting: Of the edit.
        rows: Where the states are in a network call.

    Attributes:
        step: The step down that is being made, from 0.
    """

    def __init__(self, setting: Setting, rows: Rows) -> None:
        self.setting, self.rows, self.step = setting, rows, 0

    @abstractmethod
    def mix(
        self, layer: Layer, q: Float[Tensor, "s b heads n e"], k: Float[Tensor, "s b heads m e"],
        v: Float[Tensor, "s b heads m e"],
    ) -> Float[Tensor, "s b heads n e"]:  # fmt: skip
        """What an attention layer gives, of the queries, keys and values of all states."""

    def hooked(self) -> AbstractContextManager[None]:
        """Override: hooks on other layers, for as long as the edit runs."""
        return nullcontext()

    def blended(
        self, source: Float[Tensor, "b c zh zw"], target: Float[Tensor, "b c zh zw"]
    ) -> Float[Tensor, "b c zh zw"]:
        """Override: the target's latents after a step, with some of the source's in them."""
        return target


def self_attention_layers(unet: Any) -> list[str]:
    """Names of the layers of self-attention, in the order in which a call passes them."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors if not is_cross(name)]
    return sorted(names, key=lambda name: PASSES[name.partition(".")[0]])


def last_of(layers: list[str], share: float) -> list[str]:
    """Those from a share of the way on."""
    return layers[round(share * len(layers)) :]


@contextmanager
def replacing_output(module: Any, replace: Any) -> Iterator[None]:
    """While entered, a module gives what ``replace`` makes of its output."""
    handle = module.register_forward_hook(lambda module, args, output: replace(output))
    try:
        yield
    finally:
        handle.remove()
