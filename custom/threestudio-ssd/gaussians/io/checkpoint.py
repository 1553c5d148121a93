"""Training checkpoints that hold Gaussians: gsplat ``.pt``, nerfstudio ``.ckpt``, INRIA ``chkpnt*.pth``; reading only.

Loaded with ``weights_only``: tensors and plain containers, no code.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import SceneFormatError, first_line
from ..model import FIELD_NAMES, Gaussians
from .common import finish, read_bytes

_FIX = "export the splat as .ply from the program that trained it"
_PREFIXES = ("_model.gauss_params.", "gauss_params.", "_model.", "")


def read_checkpoint(path: Path) -> Gaussians:
    """Read the Gaussians of a training checkpoint.

    Raises:
        SceneFormatError: If it holds something else, or needs code to load.
    """
    read_bytes(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = first_line(error)
        raise SceneFormatError(
            what=f"{path} cannot be loaded as a checkpoint of tensors ({reason})",
            expected="a checkpoint of gsplat, nerfstudio or INRIA's code",
            fix=_FIX,
        ) from error
    tensors = _inria(loaded) or _by_name(loaded)
    if tensors is None:
        keys = ", ".join(map(str, list(loaded)[:6])) if isinstance(loaded, Mapping) else type(loaded).__name__
        raise SceneFormatError(
            what=f"{path} holds no Gaussians (it has {keys})",
            expected="means, scales, quats, opacities, sh0 and shN, as gsplat saves them under splats",
            fix=_FIX,
        )
    means, log_scales, quats, logits, sh0, shN = (tensor.detach().float().contiguous() for tensor in tensors)
    count = len(means)
    shN = shN.reshape(count, -1, 3) if count and shN.numel() else torch.zeros(count, 0, 3)
    parts = (means, log_scales, quats, logits.reshape(-1), sh0.reshape(count, 1, 3), shN)
    fields = {name: part.clone() for name, part in zip(FIELD_NAMES, parts, strict=True)}
    return finish(fields, path=path, kind="checkpoint", file=None)


def _by_name(loaded: Any) -> tuple[Tensor, ...] | None:
    """gsplat: ``splats`` or the tensors themselves; nerfstudio: ``pipeline`` with long names."""
    if not isinstance(loaded, Mapping):
        return None
    for key in ("splats", "pipeline", "state_dict", None):
        table = loaded if key is None else loaded.get(key)
        if not isinstance(table, Mapping):
            continue
        for prefix in _PREFIXES:
            for dc, rest in (("sh0", "shN"), ("features_dc", "features_rest")):
                names = [prefix + name for name in ("means", "scales", "quats", "opacities", dc, rest)]
                if all(isinstance(table.get(name), Tensor) for name in names):
                    return tuple(table[name] for name in names)
    return None


def _inria(loaded: Any) -> tuple[Tensor, ...] | None:
    """INRIA: (degree, xyz, f_dc, f_rest, scaling, rotation, opacity, ...), iteration."""
    model = loaded[0] if isinstance(loaded, list | tuple) and loaded else None
    parts = model[1:7] if isinstance(model, list | tuple) else ()
    if len(parts) < 6 or not all(isinstance(part, Tensor) for part in parts):
        return None
    xyz, dc, rest, scaling, rotation, opacity = parts
    return xyz, scaling, rotation, opacity, dc, rest
