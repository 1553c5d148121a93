"""What the folder of a field of latents holds beside that of any field: an entry of its document, and the refiner."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from ..files import sha256, write_tensors
from .latent import AutoencoderName, LatentSpace
from .refiner import Refiner

REFINER = "refiner.safetensors"
ENTRY = "latent"
"""Key of the document; a field of colours has none."""
NUMBERS = {"channels": 64, "downscale": 64, "size": 8192, "width": 4096, "groups": 4096}
"""Whole numbers of the entry, and the most that each can be."""


def save_space(space: LatentSpace, folder: Path) -> dict[str, Any]:
    """Write the refiner.

    Args:
        space: What the field's latents mean.
        folder: Of the field.

    Returns:
        The entry of the document.
    """
    refiner = space.refiner
    write_tensors(folder / REFINER, refiner.state_dict())
    return {
        "autoencoder": space.autoencoder.as_dict(), "downscale": space.downscale, "size": space.size,
        "behind": space.behind.tolist(), "channels": refiner.channels, "width": refiner.width,
        "groups": refiner.groups, "refiner": sha256(folder / REFINER),
    }  # fmt: skip


def problem_of_space(entry: Any) -> str | None:
    """What is wrong with the entry, if anything is."""
    if not isinstance(entry, dict):
        return f"has the {ENTRY} entry {entry!r}, not a group of keys"
    for key, most in NUMBERS.items():
        value = entry.get(key)
        if not isinstance(value, int) or not 1 <= value <= most:
            return f"has the {ENTRY}.{key} {value!r}, not 1 to {most}"
    if entry["width"] % entry["groups"]:
        return f"has the {ENTRY}.width {entry['width']}, not a multiple of its groups, {entry['groups']}"
    behind, name = entry.get("behind"), entry.get("autoencoder")
    if not isinstance(behind, list) or len(behind) != entry["channels"]:
        return f"has the {ENTRY}.behind {behind!r}, not a number for each of {entry['channels']} channels"
    keys = {each.name for each in fields(AutoencoderName)}
    if not isinstance(name, dict) or set(name) != keys or not isinstance(name["checksum"], str):
        return f"has the {ENTRY}.autoencoder {name!r}, not the name and the checksum of one"
    return None


def read_space(entry: dict[str, Any], folder: Path) -> LatentSpace:
    """What the latents mean, without a decoder.

    Args:
        entry: Of the document, without a problem.
        folder: Of the field.

    Raises:
        OSError: If the refiner cannot be read.
        SafetensorError: If it is broken.
        ValueError: If it is another one.
    """
    from safetensors.torch import load_file

    if sha256(folder / REFINER) != entry["refiner"]:
        raise ValueError(f"{REFINER} is not the file that it was written with")
    refiner, weights = Refiner(entry["channels"], entry["width"], entry["groups"]), load_file(folder / REFINER)
    if {name: each.shape for name, each in weights.items()} != {
        name: each.shape for name, each in refiner.state_dict().items()
    }:
        raise ValueError(f"{REFINER} holds other weights than field.json says")
    refiner.load_state_dict(weights)
    return LatentSpace(
        AutoencoderName(**entry["autoencoder"]), entry["downscale"], entry["size"],
        torch.tensor([float(value) for value in entry["behind"]]), refiner.requires_grad_(False),
    )  # fmt: skip
