"""What all splat formats share: reading bytes with clear errors, harmless values."""

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...early import splat_file
from ...errors import MissingPackageError, SceneFormatError
from ..model import ANTIALIASED_MODES, FIELD_NAMES, Gaussians
from ..placed import FileOrigin

HIDDEN_LOGIT = -30.0
"""Opacity logit of a Gaussian whose stored values cannot be drawn (NaN, infinite): opacity 1e-13, never visible."""
LARGEST_LOGIT = 16.0
"""Opacity logits are kept within +-16 where a file says exactly 0, exactly 1 or infinity."""
IDENTITY_QUAT = (1.0, 0.0, 0.0, 0.0)


class SceneFormatWarning(UserWarning):
    """A splat file was read or written, but not everything in it could be taken as it was."""


def warn(message: str) -> None:
    """Tell the user something about a file that was read or written all the same."""
    warnings.warn(message, SceneFormatWarning, stacklevel=3)


def cut_short(what: str, expected: str, *, or_other: bool = False) -> SceneFormatError:
    """The error for a file that does not hold all that it promises, or may be of another format."""
    cause = "it is cut short or of another format" if or_other else "it is cut short"
    return SceneFormatError(what=what, expected=expected, fix=f"copy or download the file again; {cause}")


def read_bytes(path: Path) -> bytes:
    """The whole file, or an error that names it."""
    if splat_file(path).is_dir():
        raise SceneFormatError(
            what=f"{path} is a folder", expected="a splat file, or a folder with a SOG meta.json", fix="name the file"
        )
    if not path.is_file():  # a device or a pipe may never end
        raise SceneFormatError(what=f"{path} is no file", expected="a splat file", fix="name the file")
    return path.read_bytes()


def make_harmless(fields: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Give values that cannot be drawn a harmless stand-in, in place; the file keeps what it has.

    A NaN anywhere or an infinite position, size, rotation or colour hides the Gaussian; an infinite opacity becomes the
    largest finite one used here; a rotation of length zero becomes no rotation.

    Args:
        fields: The six tensors of ``Gaussians`` by name.

    Returns:
        The rows hidden or clamped, and the rows whose rotation was zero.
    """
    logits, quats = fields["logit_opacities"], fields["raw_quats"]
    bad = torch.zeros(len(logits), dtype=torch.bool)
    for name in FIELD_NAMES:
        if not torch.isfinite(fields[name].sum()):  # one pass; the mask is made only when needed
            finite = torch.isfinite(fields[name])
            bad |= ~finite.reshape(len(bad), -1).all(dim=1)
    rows = bad.nonzero()[:, 0]
    if len(rows):
        opaque = bad & torch.isinf(logits)
        logits[opaque] = logits[opaque].clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        hidden = torch.zeros_like(bad)
        for name in FIELD_NAMES:
            hidden[rows] |= ~torch.isfinite(fields[name][rows]).reshape(len(rows), -1).all(dim=1)
        for name in FIELD_NAMES:
            fields[name][hidden] = 0.0
        logits[hidden] = HIDDEN_LOGIT
        quats[hidden] = torch.tensor(IDENTITY_QUAT)
    zero = (quats == 0).all(dim=1)
    if zero.any():
        quats[zero] = torch.tensor(IDENTITY_QUAT)
    return rows.numpy(), zero.nonzero()[:, 0].numpy()


def finish(
    values: Mapping[str, np.ndarray] | Mapping[str, Tensor], *, path: Path, kind: str, file: Any,
    notes: Mapping[str, str] | None = None, offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Gaussians:  # fmt: skip
    """Gaussians from decoded values, made harmless, with their origin; warns of rows that needed it.

    The values are the six fields by name: tensors that are taken as they are, or arrays of any layout, with sh0 (n 3).
    Their positions are counted from ``offset``.
    """
    fields = {name: _owned(values[name]) for name in FIELD_NAMES}
    fields["sh0"] = fields["sh0"].reshape(-1, 1, 3)
    hidden, zero = make_harmless(fields)
    if len(hidden):
        warn(
            f"{path}: {len(hidden)} of {len(fields['means'])} Gaussians hold NaN or infinite values "
            f"(first: row {hidden[0]}); they stay in the file and are not drawn"
        )
    if len(zero):
        warn(f"{path}: {len(zero)} of {len(fields['means'])} Gaussians have a rotation of length zero; taken as none")
    altered = torch.from_numpy(np.union1d(hidden, zero))
    stand_ins = {name: fields[name][altered].clone() for name in FIELD_NAMES}
    index = torch.arange(len(fields["means"]))
    origin = FileOrigin(str(path), kind, file, index, dict(notes or {}), altered, stand_ins, offset)
    return Gaussians(**fields, origin=origin, is_antialiased=origin.notes.get("render_mode") in ANTIALIASED_MODES)


def _owned(values: np.ndarray | Tensor) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float32, order="C"))


def logits_of(opacities: np.ndarray) -> np.ndarray:
    """Inverse sigmoid of opacities 0..1 as float32, with exact 0 and 1 at +-LARGEST_LOGIT."""
    with np.errstate(divide="ignore"):
        logits = np.log(opacities) - np.log1p(-opacities)
    return np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT).astype(np.float32)


def as_arrays(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """The six tensors as float32 arrays on the CPU."""
    return {name: tensor.detach().to("cpu", torch.float32).numpy() for name, tensor in gaussians.parameters().items()}


def render_mode(gaussians: Gaussians) -> str | None:
    """How a splat was trained, as its file says it."""
    said = gaussians.origin.notes.get("render_mode") if gaussians.origin is not None else None
    return said or ("antialiased" if gaussians.is_antialiased else None)


def warn_of_render_mode(gaussians: Gaussians, path: Path, suffix: str) -> None:
    """Say that a format has no place for how a splat was trained."""
    if (mode := render_mode(gaussians)) is not None:
        warn(f"{path}: {suffix} cannot say that a splat was trained {mode!r}; other programs draw it as any other")


def same_rows(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n) whether all values of a row agree bit for bit; NaN equals the same NaN."""
    a = np.ascontiguousarray(values, dtype=np.float32).view(np.int32)
    b = np.ascontiguousarray(others, dtype=np.float32).view(np.int32)
    return (a == b).reshape(len(a), -1).all(axis=1) if a.size else np.ones(len(a), dtype=bool)


def optional_package(module: str, feature: str, package: str) -> Any:
    """Import a package that only some formats need.

    Args:
        module: The name it is imported by.
        feature: What needs it, for the message.
        package: The name it is installed under.

    Raises:
        MissingPackageError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            what=f"{feature} needs the package {package}", expected="it installed", fix=f"pip install {package}"
        ) from error


def origin_file(gaussians: Gaussians, kind: str) -> tuple[Any, np.ndarray] | None:
    """What the format's reader kept and the row of each Gaussian in it, or None if they come from elsewhere."""
    origin = gaussians.origin
    if origin is None or origin.format != kind:
        return None
    return origin.file, origin.rows.numpy()


def untouched_altered(gaussians: Gaussians) -> np.ndarray:
    """(m) places of Gaussians made harmless on reading and not edited since: their raw row is written back."""
    origin = gaussians.origin
    if origin is None or not len(origin.altered):
        return np.zeros(0, np.int64)
    places = torch.isin(origin.rows, origin.altered).nonzero()[:, 0]
    rows = torch.searchsorted(origin.altered, origin.rows[places])
    kept = np.ones(len(places), dtype=bool)
    for name, tensor in gaussians.parameters().items():
        now, then = tensor.detach().cpu()[places], origin.altered_values[name][rows]
        if now.shape == then.shape:
            kept &= same_rows(now.float().numpy(), then.numpy())
    return places.numpy()[kept]
