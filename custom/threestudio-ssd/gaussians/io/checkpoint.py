"""Training checkpoints that hold Gaussians: gsplat ``.pt``, nerfstudio ``.ckpt``, INRIA ``chkpnt*.pth``; reading only.

Loaded with ``weights_only``: tensors and plain containers, no code.
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import SceneFormatError, first_line
from ...reading import FREE_BYTES
from ..model import FIELD_NAMES, MAX_SH_DEGREE, Gaussians
from .common import finish, read_bytes

_FIX = "export the splat as .ply from the program that trained it"
_REST = tuple(((degree + 1) ** 2 - 1, 3) for degree in range(MAX_SH_DEGREE + 1))
_SHAPES = (((3,),), ((3,),), ((4,),), ((), (1,)), ((1, 3), (3,)), (*_REST, (0,)))
"""Shapes of a row that the programs store, in the order of the fields."""
_FINAL = {
    "means": (3,), "log_scales": (3,), "raw_quats": (4,), "logit_opacities": (), "sh0": (1, 3),
}  # fmt: skip
_NERF = ("_model.field.", "_model.proposal_networks.")
_PREFIXES = ("_model.gauss_params.", "gauss_params.", "_model.", "")


def read_checkpoint(path: Path) -> Gaussians:
    """Read the Gaussians of a training checkpoint.

    Raises:
        SceneFormatError: If it holds something else, or needs code to load.
    """
    read_bytes(path)
    loaded = _load(path)
    tensors = _inria(loaded) or _by_name(loaded)
    if tensors is None:
        _refuse_nerf(loaded, path)
        keys = ", ".join(map(str, list(loaded)[:6])) if isinstance(loaded, Mapping) else type(loaded).__name__
        raise SceneFormatError(
            what=f"{path} holds no Gaussians (it has {keys[:200]})",
            expected="means, scales, quats, opacities, sh0 and shN, as gsplat saves them under splats",
            fix=_FIX,
        )
    count = len(tensors[0]) if tensors[0].ndim else 0
    fields = {}
    for name, tensor, shapes in zip(FIELD_NAMES, tensors, _SHAPES, strict=True):
        stored = _checked(tensor, name, count, shapes, path)
        shape = (stored.shape[1] if stored.ndim == 3 else 0, 3) if name == "shN" else _FINAL[name]
        fields[name] = stored.detach().reshape(count, *shape).float().contiguous().clone()
    return finish(fields, path=path, kind="checkpoint", file=None)


def _refuse_nerf(loaded: Any, path: Path) -> None:
    """Refuse a radiance field of nerfstudio by its name.

    Raises:
        SceneFormatError: If it is one.
    """
    pipeline = loaded.get("pipeline") if isinstance(loaded, Mapping) else None
    names = [name for name in pipeline if isinstance(name, str)] if isinstance(pipeline, Mapping) else []
    if any(name.startswith(_NERF) for name in names):
        raise SceneFormatError(
            what=f"{path} is a radiance field of nerfstudio, such as nerfacto, whose hash grids are not read here",
            expected="a splat, or the folder of a radiance field that this program wrote",
            fix="fit its photographs: launch.py --config configs/fit-nerf.yaml cameras=its/transforms.json",
        )


def _load(path: Path) -> Any:
    """What a checkpoint holds; an archive may not unpack to more than a real one does."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > max(FREE_BYTES, path.stat().st_size):
                raise ValueError(f"{path.stat().st_size} bytes unpack to {size}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OSError,
        AssertionError, ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise SceneFormatError(
            what=f"{path} cannot be loaded as a checkpoint of tensors ({first_line(error)})",
            expected="a checkpoint of gsplat, nerfstudio or INRIA's code",
            fix=_FIX,
        ) from error


def _checked(tensor: Tensor, name: str, count: int, shapes: Sequence[tuple[int, ...]], path: Path) -> Tensor:
    """A tensor of numbers that are in the file, of a shape that a field has for that many Gaussians."""
    problem = None
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        problem = f"is {'quantised' if tensor.is_quantized else tensor.layout} on {tensor.device}"
    elif not tensor.is_floating_point():
        problem = f"holds {tensor.dtype}"
    elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        problem = f"repeats {tensor.untyped_storage().nbytes()} bytes to a shape of {tuple(tensor.shape)}"
    elif tensor.ndim == 0 or tuple(tensor.shape[1:]) not in shapes or len(tensor) != count:
        problem = f"has the shape {tuple(tensor.shape)}"
    if problem is None:
        return tensor
    wanted = " or ".join(str((count, *shape)) for shape in shapes[:3])
    raise SceneFormatError(
        what=f"{path}: its tensor of {name} {problem}", expected=f"floating-point numbers of shape {wanted}", fix=_FIX
    )


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
