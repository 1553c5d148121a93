"""What the folder of a field of latents holds beside that of any field: an entry of its document, and the refiner."""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeGuard

import torch

from ..files import sha256, write_tensors
from .latent import AutoencoderName, LatentSpace
from .refiner import Refiner

REFINER = "refiner.safetensors"
ENTRY = "latent"
"""Key of the document; a field of colours has none."""
NUMBERS = {"channels": 64, "downscale": 64, "size": 8192, "width": 4096, "groups": 4096}
"""Whole numbers of the entry, and the most that each can be."""

NAMED = frozenset({"checksum", "model"})
"""What every autoencoder's name has; the rest may be null."""
LARGEST = 1e6
"""Of a latent."""


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


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value of a document is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def problem_of_space(entry: Any) -> str | None:
    """What is wrong with the entry, if anything is."""
    if not isinstance(entry, dict):
        return f"has the {ENTRY} entry {entry!r}, not a group of keys"
    for key, most in NUMBERS.items():
        value = entry.get(key)
        if not is_whole(value) or not 1 <= value <= most:
            return f"has the {ENTRY}.{key} {value!r}, not 1 to {most}"
    if entry["width"] % entry["groups"]:
        return f"has the {ENTRY}.width {entry['width']}, not a multiple of its groups, {entry['groups']}"
    if entry["size"] % entry["downscale"]:
        return f"has the {ENTRY}.size {entry['size']}, not a multiple of its downscale, {entry['downscale']}"
    behind, name = entry.get("behind"), entry.get("autoencoder")
    if not isinstance(behind, list) or len(behind) != entry["channels"] or not all(map(_is_latent, behind)):
        return f"has the {ENTRY}.behind {behind!r}, not a number for each of {entry['channels']} channels"
    if not isinstance(entry.get("refiner"), str):
        return f"has the {ENTRY}.refiner {entry.get('refiner')!r}, not a checksum"
    keys = {each.name for each in fields(AutoencoderName)}
    if not isinstance(name, dict) or set(name) != keys or not all(isinstance(name[key], str) for key in NAMED):
        return f"has the {ENTRY}.autoencoder {name!r}, not the name and the checksum of one"
    for key in keys - NAMED:
        if not isinstance(name[key], str | None):
            return f"has the {ENTRY}.autoencoder.{key} {name[key]!r}, not a name or null"
    return None


def _is_latent(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


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
