"""A trainable LoRA on a frozen backbone: off unless it is entered, trained inside the loop, kept in the checkpoint."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import MissingPackageError
from .backbone import Backbone

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The projections of every attention layer."""
NAME = "variational"


class TrainableLora:
    """Low-rank changes of a backbone's attention (Hu et al. 2021, arXiv:2106.09685) with their own optimiser.

    Outside ``active()`` the backbone predicts what it did before, bit for bit. The LoRA's weights are float32 whatever
    the network's precision is; the second factor starts at zero.

    Args:
        backbone: Its network gets the LoRA; one at a time.
        rank: Of the changes, >= 1.
        learning_rate: Of AdamW.
        seed: Of the first factor; the global random state is left alone.

    Raises:
        MissingPackageError: If peft is not installed.
    """

    def __init__(self, backbone: Backbone, *, rank: int = 4, learning_rate: float = 1e-4, seed: int = 0) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.tuners_utils import BaseTunerLayer
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                what="a LoRA trained beside the edit needs peft", expected="peft >= 0.18", fix="pip install peft"
            ) from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS))
            inject_adapter_in_model(config, backbone.network, adapter_name=NAME)
        named = backbone.network.named_parameters()
        self._weights = {name: weight for name, weight in named if f".{NAME}." in name}
        for weight in self._weights.values():
            weight.data = weight.data.float()
        self._layers = [layer for layer in backbone.network.modules() if isinstance(layer, BaseTunerLayer)]
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=learning_rate)
        self._switch(False)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The network predicts with the LoRA, and its weights take gradients."""
        self._switch(True)
        try:
            yield
        finally:
            self._switch(False)

    def update(self, loss: Tensor) -> None:
        """One optimiser step; call it while ``active``."""
        gradients = torch.autograd.grad(loss, list(self._weights.values()))
        for weight, gradient in zip(self._weights.values(), gradients, strict=True):
            weight.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser, as copies."""
        weights = {name: weight.detach().clone() for name, weight in self._weights.items()}
        return {"weights": weights, "optimizer": copy.deepcopy(self._optimizer.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``; its names must be those of this network."""
        if set(state["weights"]) != set(self._weights):
            raise ValueError("the LoRA in the checkpoint belongs to another network")
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])

    def _switch(self, is_on: bool) -> None:
        for layer in self._layers:
            layer.enable_adapters(is_on)
