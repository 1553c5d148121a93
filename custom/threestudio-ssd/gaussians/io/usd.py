"""OpenUSD's ``ParticleField3DGaussianSplat`` (``.usdz``, ``.usdc``, ``.usda``), through the package ``usd-core``.

Sizes and opacities are linear, rotations of length 1, and the coefficients of a Gaussian stand together, from degree 0
on. Attributes whose name ends in ``h`` hold the same in half precision. Reading applies the transforms of prims.
Writing keeps the scene's numbers and puts the turn to y up, marked as ours, into the prim.
"""

import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SceneFormatError, first_line
from ...files import whole_file
from ...reading import check_rows
from ..model import MAX_SH_DEGREE, Gaussians
from .common import cut_short, finish, optional_package, read_bytes, render_mode, warn
from .node_rows import Y_UP, NodeRows, rows_to_write

SCHEMA = "ParticleField3DGaussianSplat"
OUR_FRAME, OUR_MODE = "threestudioSsdUp", "threestudioSsdRenderMode"
"""Keys of the prim's ``customData``: which axis of the scene its transform turns up, and how the splat was trained."""
_TRIAL = """
import sys
path, seconds, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
try:
    import resource
except ImportError:  # Windows, where the time alone is bounded
    pass
else:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
    from pxr import Sdf, Usd
    stage = Usd.Stage.Open(Sdf.Layer.FindOrOpen(path))
    for prim in stage.Traverse():
        for attribute in prim.GetAttributes():
            attribute.Get()
except Exception as error:
    sys.exit(str(error) or type(error).__name__)
"""
"""Reads all of a file in a process of its own; ends well, or with what is wrong, or not by itself."""
TRIAL_SECONDS, TRIAL_BYTES, BYTES_A_BYTE, SECONDS_A_BYTE = 3, 2_000_000_000, 40, 2e-7
"""What a trial may take, and how much more for each byte of the file."""
_COEFFICIENTS, _DEGREE = "radiance:sphericalHarmonicsCoefficients", "radiance:sphericalHarmonicsDegree"


def read_usd(path: Path) -> Gaussians:
    """Read the one splat of a USD file.

    Raises:
        SceneFormatError: If the file is damaged, refers to other files, or does not hold one splat.
        MissingPackageError: If usd-core is not installed.
    """
    data = read_bytes(path)
    pxr = _package()
    try:
        if data.startswith(b"#usda"):
            data.decode("utf-8")  # USD's own message of what is none cannot be read
        else:
            _try(path, len(data))
        raw, notes = _raw(pxr, path)
        values = raw.values()
    except SceneFormatError:
        raise
    except (pxr.Tf.ErrorException, RuntimeError, ValueError, TypeError, OverflowError) as error:
        what = f"{path} cannot be read ({_reason(error)})"
        raise cut_short(what, f"a USD file with one {SCHEMA}", or_other=True) from error
    check_rows(path, len(raw.sections["means"]), len(data))
    return finish(values, path=path, kind="usd", file=raw, notes=notes)


def _try(path: Path, size: int) -> None:
    """Find out in another process whether OpenUSD can unpack a binary file: it believes what a damaged one says.

    Raises:
        SceneFormatError: If it takes too long, too much memory, or breaks.
    """
    seconds = TRIAL_SECONDS + math.ceil(size * SECONDS_A_BYTE)
    limits = [str(seconds), str(TRIAL_BYTES + BYTES_A_BYTE * size)]
    command = [sys.executable, "-c", _TRIAL, os.fspath(path), *limits]
    try:
        ended = subprocess.run(  # noqa: S603  # this Python
            command, capture_output=True, text=True, errors="replace", timeout=10 * seconds, check=False
        )
    except subprocess.TimeoutExpired:
        ended = None
    if ended is None or ended.returncode:
        takes_much = f"OpenUSD does not unpack it in {seconds} s and {int(limits[1]) / 1e9:.0f} GB"
        reason = _reason(ended.stderr) if ended is not None and ended.returncode == 1 and ended.stderr else takes_much
        raise cut_short(f"{path} cannot be read ({reason})", f"a USD file with one {SCHEMA}", or_other=True)


def write_usd(gaussians: Gaussians, path: Path) -> None:
    """Write a USD file; the suffix decides between text, crate and a package of a crate.

    Raises:
        MissingPackageError: If usd-core is not installed.
    """
    pxr = _package()
    raw = rows_to_write(gaussians, "usd")
    if not len(gaussians):
        warn(f"{path}: it holds no Gaussians, and few programs open such a file")
    with whole_file(path) as beside, tempfile.TemporaryDirectory() as folder:
        suffix = ".usdc" if path.suffix.lower() == ".usdz" else path.suffix.lower()
        layer = Path(folder) / f"splat{suffix}"
        _write_stage(pxr, layer, raw, render_mode(gaussians))
        if path.suffix.lower() == ".usdz":
            os.utime(layer, (_ZIP_EPOCH, _ZIP_EPOCH))  # which the package keeps: the same scene, the same bytes
            package = Path(folder) / "splat.usdz"
            with pxr.Sdf.ZipFileWriter.CreateNew(str(package)) as archive:
                archive.AddFile(str(layer), layer.name)
            layer = package
        shutil.copyfile(layer, beside)


_ZIP_EPOCH = 315_619_200
"""Seconds since 1970 of the second of January 1980, when the dates of zip files start in every time zone."""


def _reason(error: Exception | str) -> str:
    """What an exception says; USD's own quotes it behind the place in its sources."""
    quoted = re.search(r": '([^\n']*)", str(error).strip())
    return quoted[1] if quoted else first_line(ValueError(error))


def _raw(pxr: Any, path: Path) -> tuple[NodeRows, dict[str, str]]:
    layer = pxr.Sdf.Layer.FindOrOpen(str(path))
    if layer is None:
        raise ValueError("it is no USD file")
    others = [name for name in layer.GetCompositionAssetDependencies() if name]
    if others and path.suffix.lower() != ".usdz":
        raise SceneFormatError(
            what=f"{path} refers to {others[0]}", expected="a USD file that holds its splat itself",
            fix="flatten it (usdcat --flatten), or export it as .usdz",
        )  # fmt: skip
    if any(name.startswith(("/", "\\")) or ".." in name or ":" in name for name in others):
        raise ValueError(f"it refers to {others[0]}, outside the package")
    stage = pxr.Usd.Stage.Open(layer)
    prims = [prim for prim in stage.Traverse() if prim.GetTypeName() == SCHEMA]
    if len(prims) != 1:
        raise ValueError(f"it holds {len(prims)} prims of the type {SCHEMA}")
    prim = prims[0]
    transform = pxr.UsdGeom.XformCache().GetLocalToWorldTransform(prim)
    matrix = np.array(transform, np.float64).T
    data = prim.GetCustomData()
    up = str(data.get(OUR_FRAME, Y_UP))
    up = up if NodeRows({}, matrix, up).is_frame else Y_UP if str(pxr.UsdGeom.GetStageUpAxis(stage)) == "Y" else "+z"
    notes = {"up": up} | ({"render_mode": str(data[OUR_MODE])} if data.get(OUR_MODE) else {})
    return NodeRows(_sections(prim), matrix, up), notes


def _sections(prim: Any) -> dict[str, np.ndarray]:
    def take(name: str, width: int) -> np.ndarray:
        for each in (name, f"{name}h"):
            attribute = prim.GetAttribute(each)
            value = attribute.Get() if attribute else None
            if value is not None and len(value):
                return np.asarray(value, dtype=np.float32).reshape(-1, width)
        return np.zeros((0, width), np.float32)

    means = take("positions", 3)
    count = len(means)
    degree = int(prim.GetAttribute(_DEGREE).Get() or 0)
    if not 0 <= degree <= MAX_SH_DEGREE:
        raise ValueError(f"SH degree {degree}")
    sh = take(_COEFFICIENTS, 3)
    if len(sh) != count * (degree + 1) ** 2:
        raise ValueError(f"{len(sh)} coefficients for {count} Gaussians of SH degree {degree}")
    sh = sh.reshape(count, (degree + 1) ** 2 * 3)
    columns = {
        "means": means, "raw_quats": take("orientations", 4), "log_scales": take("scales", 3),
        "logit_opacities": take("opacities", 1), "sh0": sh[:, :3], "shN": sh[:, 3:],
    }  # fmt: skip
    lengths = {name: len(column) for name, column in columns.items() if len(column) != count}
    if lengths:
        name, length = next(iter(lengths.items()))
        raise ValueError(f"{length} {name} for {count} positions")
    return {name: np.ascontiguousarray(column, "<f4").view(np.uint8) for name, column in columns.items()}


def _write_stage(pxr: Any, layer: Path, raw: NodeRows, mode: str | None) -> None:
    Gf, Sdf, Usd, UsdGeom, UsdVol, Vt = (getattr(pxr, name) for name in _MODULES)
    rows = {name: np.ascontiguousarray(section).view("<f4") for name, section in raw.sections.items()}
    coefficients = np.concatenate([rows["sh0"], rows["shN"]], axis=1)
    stage = Usd.Stage.CreateNew(str(layer))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y if raw.up != "+z" or raw.is_frame else UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    splat = UsdVol.ParticleField3DGaussianSplat.Define(stage, Sdf.Path("/splat"))
    prim = splat.GetPrim()
    stage.SetDefaultPrim(prim)
    if raw.has_matrix:
        splat.AddTransformOp().Set(Gf.Matrix4d(raw.matrix.T.tolist()))
    if raw.is_frame:
        prim.SetCustomDataByKey(OUR_FRAME, raw.up)
    if mode:
        prim.SetCustomDataByKey(OUR_MODE, mode)
    degree = math.isqrt(coefficients.shape[1] // 3) - 1
    splat.CreatePositionsAttr(Vt.Vec3fArray.FromNumpy(rows["means"]))
    splat.CreateOrientationsAttr(Vt.QuatfArray.FromNumpy(rows["raw_quats"]))
    splat.CreateScalesAttr(Vt.Vec3fArray.FromNumpy(rows["log_scales"]))
    splat.CreateOpacitiesAttr(Vt.FloatArray.FromNumpy(np.ascontiguousarray(rows["logit_opacities"][:, 0])))
    splat.CreateRadianceSphericalHarmonicsDegreeAttr(degree)
    sh = splat.CreateRadianceSphericalHarmonicsCoefficientsAttr(Vt.Vec3fArray.FromNumpy(coefficients.reshape(-1, 3)))
    primvar = UsdGeom.Primvar(sh)
    primvar.SetElementSize((degree + 1) ** 2)
    primvar.SetInterpolation(UsdGeom.Tokens.vertex)
    splat.CreateProjectionModeHintAttr("perspective")
    splat.CreateSortingModeHintAttr("zDepth")
    means = rows["means"][np.isfinite(rows["means"]).all(axis=1)]
    reach = 3 * np.nan_to_num(rows["log_scales"], posinf=0).max(initial=0.0)
    if len(means):
        extent = np.stack([means.min(axis=0) - reach, means.max(axis=0) + reach]).astype(np.float32)
        splat.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(extent))
    stage.GetRootLayer().Save()


_MODULES = ("Gf", "Sdf", "Usd", "UsdGeom", "UsdVol", "Vt")


def _package() -> Any:
    pxr = optional_package("pxr", "USD", "usd-core")
    for name in (*_MODULES, "Tf"):
        optional_package(f"pxr.{name}", "USD", "usd-core>=26.3")
    return pxr
