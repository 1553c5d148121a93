"""Small networks that work beside a U-Net and have a file of their own."""

from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..errors import ConfigError, first_line
from ..files import whole_file

CHANNELS = "in_channels"
"""Key of the file's metadata: one that reads images beside its latents takes twice as many."""
Network = TypeVar("Network", bound=nn.Module)


def load_beside(network: Network, path: Path, unet: Any, key: str) -> Network:
    """The network with the weights of a .safetensors file, frozen, with the device and dtype of the U-Net.

    Args:
        network: Built for this U-Net.
        path: The file.
        unet: What the weights were trained for, or another of the same shapes.
        key: Where the path stands in the config, for messages.

    Raises:
        ConfigError: If there is no such file, or it does not fit the network.
    """
    expected, fix = "a .safetensors file of an adapter for this model", f"correct {key}"
    if not path.is_file():
        raise ConfigError(what=f"{key} is {path}, and there is no such file", expected=expected, fix=fix)
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # not a dict
            channels = (file.metadata() or {}).get(CHANNELS, str(unet.config.in_channels))
    except SafetensorError as error:
        raise ConfigError(what=f"{path} cannot be read ({first_line(error)})", expected=expected, fix=fix) from error
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    is_for_this = channels == str(unet.config.in_channels)
    if not is_for_this or {name: value.shape for name, value in weights.items()} != shapes:
        what = f"{path} does not fit the network that system.editing.model names"
        raise ConfigError(what=what, expected=expected, fix=fix)
    network.load_state_dict(weights)
    reference = next(unet.parameters())
    return network.requires_grad_(False).eval().to(reference.device, reference.dtype)


def save_beside(network: nn.Module, path: Path, unet: Any) -> None:
    """Write a network that ``load_beside`` reads, in half precision, and how many channels its U-Net takes.

    Args:
        network: What is written.
        path: The file.
        unet: What it was trained for.
    """
    weights = {name: weight.half().contiguous() for name, weight in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as beside:
        save_file(weights, beside, metadata={"format": "pt", CHANNELS: str(unet.config.in_channels)})
