"""What a checkpoint was made of, as digests by name: a run goes on with the same only.

Digests are of contents, not of paths. They do not depend on the device or the number of threads.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cameras import Cameras
from ..diffusion.lora import Lora
from ..diffusion.models import MODEL, VAE
from ..errors import CheckpointError
from ..fields import LatentField
from ..files import sampled_sha256
from ..pretrained import locate
from ..scenes import Scene

MODEL_FILES = (".safetensors", ".bin", ".json")
"""Suffixes of a model folder's files that decide what it computes."""
Identity = dict[str, str]
"""Name of what a run is made of -> digest."""


def of_words(*words: Any) -> str:
    """Digest of plain values."""
    return hashlib.blake2b(json.dumps(words, default=str).encode(), digest_size=16).hexdigest()


def of_tensors(*tensors: Tensor) -> str:
    """Digest of shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def of_scene(scene: Scene) -> str:
    """Digest of a scene as its file has it."""
    refiner = scene.space.refiner.state_dict().values() if isinstance(scene, LatentField) else ()
    return of_tensors(*scene.parameters().values(), *refiner)


def of_cameras(cameras: Cameras | None) -> str:
    """Digest of a capture's cameras; of an orbit, which follows from the scene, if there are none."""
    if cameras is None:
        return of_words("orbit")
    return of_tensors(cameras.viewmats, cameras.Ks, cameras.widths, cameras.heights)


def of_files(paths: Iterable[str | Path]) -> str:
    """Digest of the contents of files, see ``sampled_sha256``."""
    return of_words(*map(sampled_sha256, paths))


def of_model(keys: Any) -> str:
    """Digest of the weights and settings that the keys of a model name: commits of the hub, contents of folders.

    Args:
        keys: ``ModelKeys``.
    """
    is_offline = bool(keys.get("offline"))
    places = [locate(keys["model"], MODEL, revision=keys.get("revision"), is_offline=is_offline)]
    if keys.get("vae") not in (None, "taesd"):
        places.append(locate(keys["vae"], VAE, is_offline=is_offline))
    parts: list[str] = [str(keys.get("vae"))]
    for place in places:
        folder = Path(place.location)
        files = sorted(file for file in folder.rglob("*") if file.suffix in MODEL_FILES) if folder.is_dir() else []
        parts += [str(file.relative_to(folder)) + sampled_sha256(file) for file in files]
        parts += [] if place.revision is None else [place.location, place.revision]
    loras = map(Lora.of, keys.get("lora") or ())
    return of_words(*parts, *(f"{sampled_sha256(lora.path)}:{lora.strength}" for lora in loras))


def of_fields(method: Any) -> str:
    """Digest of a score or an editor: its kind and its constants."""
    return of_words(type(method).__name__, dataclasses.asdict(method))


def of_selection(is_selected: Tensor) -> str:
    """Digest of which Gaussians may change (n)."""
    return of_tensors(is_selected.to(torch.uint8))


def check_same(kept: Mapping[str, str], now: Identity) -> None:
    """Refuse a checkpoint that was made of anything else.

    Args:
        kept: What the checkpoint says it was made of.
        now: What the run is made of.

    Raises:
        CheckpointError: For the first name whose digest differs.
    """
    for name, digest in now.items():
        if kept.get(name) != digest:
            raise CheckpointError(
                what=f"the checkpoint was made with another {name}", expected=f"the {name} of that run",
                fix="go on with what that run was made of, or start anew, without --resume",
            )  # fmt: skip
