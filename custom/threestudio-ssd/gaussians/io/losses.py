"""What a conversion from one splat format to another loses: columns, order, degrees, and precision as measured."""

import warnings
from pathlib import Path

import torch

from ...errors import SceneFormatError
from ..model import Gaussians
from ..sh import C0
from . import load_gaussians

_STANDARD = ("x", "y", "z", "nx", "ny", "nz", "opacity")
_PREFIXES = ("f_dc_", "f_rest_", "scale_", "rot_")
_MOST_NAMED = 4


def losses(gaussians: Gaussians, src: Path, dst: Path) -> list[str]:
    """What is not in a file that was converted, found by reading it again; empty where nothing was lost.

    Args:
        gaussians: What the file was written from, in its order.
        src: What was read.
        dst: What was written.

    Returns:
        One part of a sentence for each kind of loss.

    Raises:
        SceneFormatError: If the written file cannot be read again.
    """
    with warnings.catch_warnings():  # said when it was written
        warnings.simplefilter("ignore")
        written = load_gaussians(dst)
    if len(written) != len(gaussians):
        what = f"{dst} holds {len(written)} Gaussians of {len(gaussians)}"
        raise SceneFormatError(what=what, expected="all of them", fix="report this as a bug, with the file")
    texts = []
    is_kept = written.origin is not None and written.origin.format == "ply"
    if extra := [] if is_kept else unknown_columns(gaussians):
        texts.append(
            f"the columns {', '.join(extra[:_MOST_NAMED])}{' and more' if extra[_MOST_NAMED:] else ''} are lost"
        )
    rows = gaussians.origin_rows
    if not torch.equal(rows, torch.arange(len(rows))):
        texts.append(f"the order of {src.name} is lost: neighbours stand together, and a saved selection fits no more")
    if written.sh_degree < gaussians.sh_degree:
        texts.append(f"view-dependent colour of degree {written.sh_degree + 1} to {gaussians.sh_degree} is lost")
    if rounded := _rounding(gaussians, written):
        texts.append(f"precision is lost: {', '.join(rounded)} at most")
    return texts


def unknown_columns(gaussians: Gaussians) -> list[str]:
    """Columns of the PLY that Gaussians were read from which no other format has."""
    origin = gaussians.origin
    if origin is None or origin.format != "ply":
        return []
    names = origin.file.header.vertex.names
    own = _STANDARD if "f_dc_0" in names else (*_STANDARD, "red", "green", "blue")
    return [name for name in names if name not in own and not name.startswith(_PREFIXES)]


def _rounding(gaussians: Gaussians, written: Gaussians) -> list[str]:
    """Largest errors, in words, of what is not exactly as it was."""
    if not len(gaussians):
        return []
    shared = min(gaussians.shN.shape[1], written.shN.shape[1])
    turned = (gaussians.quats * written.quats).sum(-1).abs().clamp(max=1)
    errors = {
        "positions by {:.2g}": (gaussians.means - written.means).abs(),
        "sizes by {:.2%}": (gaussians.log_scales - written.log_scales).abs().expm1(),
        "turns by {:.2g} degrees": 2 * turned.acos().rad2deg(),
        "opacities by {:.2g}": (gaussians.opacities - written.opacities).abs(),
        "colours by {:.2g}": C0 * (gaussians.sh0 - written.sh0).abs(),
        "their higher coefficients by {:.2g}": (gaussians.shN[:, :shared] - written.shN[:, :shared]).abs(),
    }
    least = {"turns by {:.2g} degrees": 0.1}
    largest = {words: float(values.max()) if values.numel() else 0.0 for words, values in errors.items()}
    return [words.format(value) for words, value in largest.items() if value > least.get(words, 1e-6)]
