"""Networks that take turns on a GPU, each kept in main memory while another works (accelerate's hooks)."""

from typing import Any

import torch

from .precision import place


class Turns:
    """The networks that share a device's memory; one is on it at a time.

    Args:
        device: Where they work.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._hooks: list[Any] = []

    def put(self, network: Any, device: torch.device, dtype: torch.dtype | None, is_channels_last: bool = False) -> Any:
        """`network` as by ``place``, but in main memory: its forward pass brings it to the device."""
        from accelerate import cpu_offload_with_hook

        network = place(network, torch.device("cpu"), dtype, is_channels_last)
        previous = self._hooks[-1] if self._hooks else None
        network, hook = cpu_offload_with_hook(network, self.device, prev_module_hook=previous)
        self._hooks.append(hook)
        return network

    def leave(self) -> None:
        """All of them go back to main memory."""
        for hook in self._hooks:
            hook.offload()
