"""nerfstudio's (and instant-ngp's) ``transforms.json``, and the turn a nerfstudio training run gave the world.

Matrices are camera-to-world with OpenGL axes (x right, y up, z back). Three worlds meet here: the one COLMAP made, the
one in the file (``applied_transform`` times COLMAP's), and the one a nerfstudio splat was trained in
(``dataparser_transforms.json``: scale * transform * COLMAP's).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import SceneFormatError
from ..files import write_json
from .cameras import Cameras
from .checks import check_name, shortened
from .json_common import frames_of, matrix_of, names_of, number_of, object_of, opencv_viewmats, read_json
from .lenses import Lens
from .photographs import find_photograph, photograph_size, short_names

World = Literal["auto", "colmap", "file", "training"]
_MODELS = {"OPENCV": "OPENCV", "PINHOLE": "OPENCV", "SIMPLE_PINHOLE": "OPENCV", "SIMPLE_RADIAL": "OPENCV",
           "RADIAL": "OPENCV", "FULL_OPENCV": "FULL_OPENCV", "PERSPECTIVE": "OPENCV",
           "OPENCV_FISHEYE": "OPENCV_FISHEYE"}  # fmt: skip


def load_transforms_json(path: Path, *, world: World = "auto", dataparser: Path | None = None) -> Cameras:
    """Read a ``transforms.json``.

    Args:
        path: The file.
        world: Axes and scale of the result: ``colmap`` (``applied_transform`` undone), ``file`` (as written),
            ``training`` (those of a nerfstudio splat; needs ``dataparser_transforms.json``), or ``auto``: training if
            that file was given or lies beside ``path``, else colmap.
        dataparser: ``dataparser_transforms.json`` of the training run.

    Returns:
        Cameras in the order of their file names.

    Raises:
        SceneFormatError: If a key is missing or cannot be used, or the camera model has no pinhole equivalent.
    """
    document = object_of(path)
    frames = sorted(frames_of(document, path), key=lambda frame: str(frame.get("file_path", "")))
    c2ws = np.stack([matrix_of(frame, "transform_matrix", path, frame) for frame in frames])
    change, scale = _world_change(document, path, world, dataparser or training_transform(path.parent))
    c2ws = change @ c2ws
    c2ws[:, :3, :3] /= scale
    names = names_of(frames, "file_path", path)
    photographs = [_photograph(path, name) for name in names]
    lenses = [_lens(document, frame, photograph, path) for frame, photograph in zip(frames, photographs, strict=True)]
    return Cameras.of_lenses(path, opencv_viewmats(c2ws, names, path), lenses, short_names(names), photographs)


def save_transforms_json(path: Path, cameras: Cameras, files: Sequence[str]) -> None:
    """Write pinhole cameras, without lenses, in the axes and units of their world; reading gives the same ones back.

    Args:
        path: The file.
        cameras: What to write.
        files: The picture of each, relative to the folder of ``path``.
    """
    to_opengl = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = []
    for file, viewmat, K, width, height in zip(
        files, cameras.viewmats.double().cpu().numpy(), cameras.Ks.tolist(), cameras.widths.tolist(),
        cameras.heights.tolist(), strict=True,
    ):  # fmt: skip
        frames.append({
            "file_path": file, "w": width, "h": height, "fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2],
            "cy": K[1][2], "transform_matrix": (np.linalg.inv(viewmat) @ to_opengl).tolist(),
        })  # fmt: skip
    write_json(path, {"camera_model": "PINHOLE", "frames": frames})


def _photograph(path: Path, name: str) -> Path | None:
    """The photograph itself, or its smaller copies in nerfstudio's ``images_2`` .. ``images_8``."""
    names = [name, *(name.replace("images/", f"images_{factor}/", 1) for factor in (2, 4, 8))]
    photographs = (find_photograph(each, [path.parent]) for each in names)
    return next((photograph for photograph in photographs if photograph is not None), None)


def sparse_points_file(
    path: Path, *, world: World = "auto", dataparser: Path | None = None
) -> tuple[Path, np.ndarray] | None:
    """The point cloud that a ``transforms.json`` names, and what brings its points to where the cameras are.

    Args:
        path: The file.
        world: As for ``load_transforms_json``.
        dataparser: As for ``load_transforms_json``.

    Returns:
        The cloud's file and a (4 4) similarity; None if the document names no file or the file is not there.
    """
    document = read_json(path)
    name = document.get("ply_file_path") if isinstance(document, Mapping) else None
    if not name:
        return None
    check_name(str(name), path)
    if not (path.parent / str(name)).is_file():
        return None
    change, _ = _world_change(document, path, world, dataparser or training_transform(path.parent))
    return path.parent / str(name), change


def training_transform(folder: Path) -> Path | None:
    """The ``dataparser_transforms.json`` of a folder, if it has one."""
    beside = folder / "dataparser_transforms.json"
    return beside if beside.is_file() else None


def _world_change(document: Mapping, path: Path, world: World, dataparser: Path | None) -> tuple[np.ndarray, float]:
    """The (4 4) similarity from the file's world to the one asked for, and its scale."""
    if world == "auto":
        world = "training" if dataparser is not None else "colmap"
    change, scale = np.eye(4), 1.0
    if world == "file":
        return change, scale
    if "applied_transform" in document:
        change = np.linalg.inv(matrix_of(document, "applied_transform", path))
    scale = 1 / number_of(document, "applied_scale", path, default=1.0, is_positive=True)
    change[:3] *= scale
    if world == "colmap":
        return change, scale
    if dataparser is None:
        raise SceneFormatError(
            what=f"there is no dataparser_transforms.json beside {path}",
            expected="the file that nerfstudio wrote into the folder of the training run",
            fix="copy it beside transforms.json",
        )
    training = object_of(dataparser)
    factor = number_of(training, "scale", dataparser, default=1.0, is_positive=True)
    change = matrix_of(training, "transform", dataparser) @ change
    change[:3] *= factor
    return change, scale * factor


def _lens(document: Mapping, frame: Mapping, photograph: Path | None, path: Path) -> Lens:
    """The camera of one frame; a key at the top level wins over the frame's own, as in nerfstudio."""
    both: dict[str, Any] = {**frame, **document}
    if "w" in both and "h" in both:
        size = (int(number_of(both, "w", path)), int(number_of(both, "h", path)))
    elif photograph is not None:
        size = photograph_size(photograph)
    else:
        raise SceneFormatError(
            what=f"{path} gives no w and h, and {shortened(frame.get('file_path'))} is not there to measure",
            expected="w and h, or the pictures beside the file",
            fix="add w and h in pixels at the top of the file",
        )
    model = str(both.get("camera_model", "OPENCV_FISHEYE" if both.get("is_fisheye") else _unnamed_model(both)))
    if model not in _MODELS:
        raise SceneFormatError(
            what=f"{path} has camera_model {shortened(model)!r}",
            expected=", ".join(_MODELS),
            fix="undistort the pictures first (ns-process-data or COLMAP's image_undistorter)",
        )
    focals = _focal(both, "x", size[0], path), _focal(both, "y", size[1], path)
    focal = [number for number in focals if number is not None]
    if not focal:
        raise SceneFormatError(
            what=f"{path} gives no focal length", expected="fl_x or camera_angle_x", fix="add fl_x in pixels"
        )
    principal = (number_of(both, "cx", path, default=size[0] / 2), number_of(both, "cy", path, default=size[1] / 2))
    return Lens(_MODELS[model], _distortion(both, _MODELS[model], path), (focal[0], focal[-1]), principal, size)


def _unnamed_model(both: Mapping) -> str:
    """instant-ngp says some models by keys of their own."""
    keys = {"ftheta_p0": "FTHETA", "is_fisheye_ftheta": "FTHETA", "latlong": "LATLONG", "equirectangular": "LATLONG"}
    return next((model for key, model in keys.items() if both.get(key)), "OPENCV")


def _focal(both: Mapping, axis: str, pixels: int, path: Path) -> float | None:
    if f"fl_{axis}" in both:
        return number_of(both, f"fl_{axis}", path)
    if f"camera_angle_{axis}" in both:
        angle = number_of(both, f"camera_angle_{axis}", path)
        if not 0 < angle < math.pi:
            what, fix = f"{path}: camera_angle_{axis} is {angle}", f"correct camera_angle_{axis}"
            raise SceneFormatError(what=what, expected="radians between 0 and pi", fix=fix)
        return 0.5 * pixels / math.tan(0.5 * angle)
    return None


def _distortion(both: Mapping, model: str, path: Path) -> tuple[float, ...]:
    """Coefficients in COLMAP's order; a list ``distortion_params`` is k1 k2 k3 k4 p1 p2."""
    keys = ("k1", "k2", "k3", "k4", "p1", "p2")
    listed = both.get("distortion_params")
    if listed is not None:
        if not isinstance(listed, list):
            what = f"{path}: distortion_params is {shortened(listed)}"
            raise SceneFormatError(what=what, expected="a list: k1 k2 k3 k4 p1 p2", fix="correct or remove it")
        both = {**both, **dict(zip(keys, listed, strict=False))}
    k1, k2, k3, k4, p1, p2 = (number_of(both, key, path, default=0.0) for key in keys)
    if model == "OPENCV_FISHEYE":
        return (k1, k2, k3, k4)
    if k4 and model != "FULL_OPENCV":
        raise SceneFormatError(
            what=f"{path} has k4 = {k4} for a camera that is no fisheye",
            expected="k1, k2, k3, p1, p2",
            fix="undistort the pictures first, or correct camera_model",
        )
    if model == "FULL_OPENCV" or k3:
        k5, k6 = (number_of(both, key, path, default=0.0) for key in ("k5", "k6"))
        return (k1, k2, p1, p2, k3, k4, k5, k6)
    return (k1, k2, p1, p2)
