"""Splat files: one module per format; the suffix decides on writing, the content on reading where it can.

Reading: ``.ply`` (plain or compressed), ``.splat``, ``.spz``, ``.sog`` (or the folder with its ``meta.json``),
``.ksplat``, ``.glb``, ``.usdz``/``.usdc``/``.usda``/``.usd``, ``.pt``/``.pth``/``.ckpt``. Writing: ``.ply``,
``.compressed.ply``, ``.splat``, ``.spz``, ``.sog``, ``.glb``, ``.usdz``/``.usdc``/``.usda``.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...early import named
from ...errors import SceneFormatError
from ..model import Gaussians
from ..transform import half_turn_x, morton_order
from .checkpoint import read_checkpoint
from .common import SceneFormatWarning, read_bytes, warn
from .compressed_ply import is_compressed, read_compressed_ply, write_compressed_ply
from .glb import read_glb, write_glb
from .ksplat import read_ksplat
from .ply import read_ply, write_ply
from .ply_header import parse_header
from .points_ply import read_points_ply
from .sog import read_sog, write_sog
from .splat import read_splat, write_splat
from .spz import read_spz, write_spz
from .usd import read_usd, write_usd


def _read_any_ply(path: Path, offset: Sequence[float] | None = None) -> Gaussians:
    """Plain or compressed: the header tells, whatever the name says."""
    data = read_bytes(path)
    header = parse_header(data, path)
    return read_compressed_ply(path, data, header) if is_compressed(header) else read_ply(path, data, offset)


READERS = {
    ".ply": _read_any_ply,
    ".splat": read_splat,
    ".spz": read_spz,
    ".sog": read_sog,
    "meta.json": read_sog,
    ".ksplat": read_ksplat,
    ".glb": read_glb,
    **dict.fromkeys((".usdz", ".usdc", ".usda", ".usd"), read_usd),
    ".pt": read_checkpoint,
    ".pth": read_checkpoint,
    ".ckpt": read_checkpoint,
}
WRITERS = {
    ".ply": write_ply,
    ".compressed.ply": write_compressed_ply,
    ".splat": write_splat,
    ".spz": write_spz,
    ".sog": write_sog,
    ".glb": write_glb,
    **dict.fromkeys((".usdz", ".usdc", ".usda"), write_usd),
}


def load_gaussians(path: str | Path, *, beside: Gaussians | None = None) -> Gaussians:
    """Read a splat file of any known format.

    Rows that hold NaN or infinity, and rotations of length zero, do not stop the load: they are counted in a
    ``SceneFormatWarning``, drawn as nothing (or unturned), and written back as they were.

    Args:
        path: The file; for SOG also the folder that holds ``meta.json``.
        beside: A scene of the same place, such as the one that this was edited from: positions are counted from the
            same point as its own.

    Returns:
        Gaussians on the CPU with the SH degree of the file, in the file's own world axes.

    Raises:
        SceneFormatError: If the file is missing, cut short, or not a splat; names the file and what stood there.
        MissingPackageError: If the format needs a package that is not installed.
    """
    path = named(path)
    if path.is_dir():
        _refuse_field(path)
        return read_sog(path)
    reader = _handler(READERS, path, "read")
    return reader(path) if reader is not _read_any_ply or beside is None else _read_any_ply(path, beside.offset)


def _refuse_field(path: Path) -> None:
    """Refuse the folder of a radiance field by its name.

    Raises:
        SceneFormatError: If it is one.
    """
    if (path / "field.json").is_file():
        raise SceneFormatError(
            what=f"{path} is a radiance field", expected="a splat file",
            fix="take the splat that was written beside it, or make one: launch.py --run convert FIELD scene.ply",
        )  # fmt: skip


def save_gaussians(gaussians: Gaussians, path: str | Path, *, spz_version: int | None = None) -> None:
    """Write a splat file; the suffix decides the format.

    Gaussians that were read from the same format and not changed are written byte for byte as they were, with every
    column this program does not know. The file appears under its name only when it is whole.

    Args:
        gaussians: On any device.
        path: Where to; folders are made.
        spz_version: Of an ``.spz``, 1 to 4; None: that of the file they were read from, else 3.

    Raises:
        SceneFormatError: If the suffix is none that can be written.
    """
    path = Path(path)
    writer = _handler(WRITERS, path, "write")
    if any(gaussians.offset) and writer is not write_ply:
        place = ", ".join(f"{number:.0f}" for number in gaussians.offset)
        warn(f"{path}: positions are written from {place}, since only .ply holds doubles")
    if writer is write_spz:
        write_spz(gaussians, path, spz_version)
    else:
        writer(gaussians, path)


def convert_gaussians(
    src: str | Path, dst: str | Path, *, half_turn: bool = False, spz_version: int | None = None
) -> Gaussians:
    """Read one splat file and write another; the suffixes decide.

    The order of the Gaussians stays, except in a ``.compressed.ply`` made from another format: neighbours share bounds
    there, so they are put next to each other. What the new format cannot hold is named in a warning.

    Args:
        src: The file to read.
        dst: The file to write.
        half_turn: Whether to negate y and z.
        spz_version: As for ``save_gaussians``.

    Returns:
        The Gaussians as they were written from.

    Raises:
        SceneFormatError: If a file or suffix cannot be used.
    """
    check_writable(dst)
    gaussians = load_gaussians(src)
    if half_turn:
        gaussians = half_turn_x(gaussians)
    was_compressed = gaussians.origin is not None and gaussians.origin.format == "compressed.ply"
    if str(dst).lower().endswith(".compressed.ply") and not was_compressed:
        gaussians = gaussians.select(morton_order(gaussians.means))
    save_gaussians(gaussians, dst, spz_version=spz_version)
    return gaussians


def check_writable(path: str | Path) -> None:
    """Refuse a suffix that ``save_gaussians`` cannot write, before any work.

    Raises:
        SceneFormatError: If it is one.
    """
    _handler(WRITERS, Path(path), "write")


def _handler(table: Mapping[str, Callable], path: Path, verb: str) -> Callable:
    name = path.name.lower()
    suffix = next((suffix for suffix in sorted(table, key=len, reverse=True) if name.endswith(suffix)), None)
    if suffix is None:
        fix = "rename the file to its real format" if verb == "read" else "choose another suffix"
        if name.endswith(".field") and verb == "write":
            fix = f"fit a field to it: launch.py --config configs/fit-nerf-splat.yaml scene={path.stem}.ply"
        raise SceneFormatError(
            what=f"cannot {verb} {path}: unknown suffix {path.suffix!r}", expected=f"one of {', '.join(table)}", fix=fix
        )
    return table[suffix]


__all__ = [
    "SceneFormatError", "SceneFormatWarning", "check_writable", "convert_gaussians", "load_gaussians",
    "read_points_ply", "save_gaussians",
]  # fmt: skip
