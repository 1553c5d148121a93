"""COLMAP sparse models, binary or text, at any nesting below a folder.

``images`` holds world-to-camera poses with OpenCV axes and pixel centres at +0.5, which is the convention here, so
poses and intrinsics go in unchanged. Newer models add ``rigs`` and ``frames``; the full pose of every photograph is
still in ``images``.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import SceneFormatError, first_line
from .cameras import Cameras
from .checks import check_name
from .lenses import MODELS, Lens
from .photographs import find_photograph, short_names

# COLMAP's id -> name, how many focal lengths, how many parameters in all
_CAMERA_MODELS = {
    0: ("SIMPLE_PINHOLE", 1, 3), 1: ("PINHOLE", 2, 4), 2: ("SIMPLE_RADIAL", 1, 4), 3: ("RADIAL", 1, 5),
    4: ("OPENCV", 2, 8), 5: ("OPENCV_FISHEYE", 2, 8), 6: ("FULL_OPENCV", 2, 12), 7: ("FOV", 2, 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 1, 4), 9: ("RADIAL_FISHEYE", 1, 5), 10: ("THIN_PRISM_FISHEYE", 2, 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 2, 16), 12: ("SIMPLE_DIVISION", 1, 4), 13: ("DIVISION", 2, 5),
    14: ("SIMPLE_FISHEYE", 1, 3), 15: ("FISHEYE", 2, 4), 16: ("EUCM", 2, 6), 17: ("EQUIRECTANGULAR", 0, 2),
}  # fmt: skip
_BY_NAME = {name: (name, num_focal, num_params) for name, num_focal, num_params in _CAMERA_MODELS.values()}
_MAX_DEPTH = 5
_USUAL_PLACES = ("sparse/0", "sparse", ".", "colmap/sparse/0", "colmap/sparse", "colmap")


@dataclass(frozen=True)
class _Image:
    quat: tuple[float, float, float, float]
    translation: tuple[float, float, float]
    camera_id: int
    name: str


def find_colmap_model(folder: Path) -> Path | None:
    """The folder of the COLMAP model with the most photographs at or below a folder; the usual place among equals."""
    models = {folder / place for place in _USUAL_PLACES if _is_model(folder / place)}
    for place, subfolders, _ in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        subfolders[:] = [name for name in subfolders if depth < _MAX_DEPTH and not name.startswith(".")]
        if _is_model(Path(place)):
            models.add(Path(place))
    if not models:
        return None
    usual = [(folder / place).resolve() for place in _USUAL_PLACES]

    def rank(model: Path) -> tuple[int, int, str]:
        place = usual.index(model.resolve()) if model.resolve() in usual else len(usual)
        return (-_count_images(model), place, str(model))

    return min(models, key=rank)


def load_colmap(model: Path, photographs: Path | None = None) -> Cameras:
    """Read a COLMAP model.

    Args:
        model: Folder with ``cameras`` and ``images``, ``.bin`` (taken when both exist) or ``.txt``.
        photographs: Folder the photograph names are relative to; looked for around the model if not given.

    Returns:
        Pinhole cameras in the order of their names; lens distortion is undone when a photograph is read.

    Raises:
        SceneFormatError: If a file is cut short or a camera model cannot become a pinhole.
    """
    cameras_path, images_path = _file(model, "cameras"), _file(model, "images")
    try:
        read_cameras = _cameras_from_binary if cameras_path.suffix == ".bin" else _cameras_from_text
        read_images = _images_from_binary if images_path.suffix == ".bin" else _images_from_text
        path = cameras_path
        lenses = read_cameras(cameras_path)
        path = images_path
        images = sorted(read_images(images_path), key=lambda image: image.name)
    except (struct.error, ValueError, IndexError, KeyError, OverflowError) as error:
        if isinstance(error, SceneFormatError):
            raise
        raise SceneFormatError(
            what=f"{path} cannot be read ({type(error).__name__}: {first_line(error)})",
            expected="a whole COLMAP file",
            fix="copy the folder again, or export the model anew from COLMAP",
        ) from error
    unknown = sorted({image.camera_id for image in images} - set(lenses))
    if not images or unknown:
        raise SceneFormatError(
            what=f"{images_path} has {'no pictures' if not images else f'pictures by camera {unknown[0]}'}",
            expected=f"pictures taken by the cameras in {cameras_path.name}",
            fix="check that the files belong to the same model",
        )
    names = [image.name for image in images]
    for name in names:
        check_name(name, images_path)
    roots = [photographs] if photographs is not None else _photograph_folders(model)
    used = [lenses[image.camera_id] for image in images]
    viewmats = np.stack([_viewmat(image) for image in images])
    photographs_there = [find_photograph(name, roots) for name in names]
    return Cameras.of_lenses(images_path, viewmats, used, short_names(names), photographs_there)


def quats_to_matrices(quats: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations of quaternions wxyz of any length but zero."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        w, x, y, z = np.moveaxis(quats / np.linalg.norm(quats, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _viewmat(image: _Image) -> np.ndarray:
    viewmat = np.eye(4)
    viewmat[:3, :3] = quats_to_matrices(np.array(image.quat))
    viewmat[:3, 3] = image.translation
    return viewmat


def _is_model(folder: Path) -> bool:
    return all(any((folder / f"{name}.{kind}").is_file() for kind in ("bin", "txt")) for name in ("cameras", "images"))


def _file(model: Path, name: str) -> Path:
    binary = model / f"{name}.bin"
    return binary if binary.is_file() else model / f"{name}.txt"


def _count_images(model: Path) -> int:
    path = _file(model, "images")
    if path.suffix == ".bin":
        start = path.read_bytes()[:8]
        return struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    return sum(1 for _ in _image_lines(path))


def _photograph_folders(model: Path) -> list[Path]:
    """Where photographs usually lie, nearest to the model first."""
    folders = []
    for place in (model, *list(model.resolve().parents)[:3]):
        folders += [place / name for name in ("images", "input", "images_2", "images_4", "images_8", "rgb")]
    return folders + [model.resolve().parents[min(1, len(model.resolve().parents) - 1)]]


def _lens(entry: tuple[str, int, int], size: tuple[int, int], params: tuple[float, ...], path: Path) -> Lens:
    name, num_focal, _ = entry
    if name not in MODELS:
        raise SceneFormatError(
            what=f"{path} has a camera of model {name}",
            expected="a camera that can become a pinhole: " + ", ".join(MODELS),
            fix="cut the panorama into perspective pictures first (COLMAP's panorama_sfm example does)",
        )
    fx, fy = (params[0], params[0]) if num_focal == 1 else params[:2]
    cx, cy = params[num_focal : num_focal + 2]
    return Lens(name, params[num_focal + 2 :], (fx, fy), (cx, cy), size)


def _cameras_from_binary(path: Path) -> dict[int, Lens]:
    data = path.read_bytes()
    (count,) = struct.unpack_from("<Q", data)
    offset, lenses = 8, {}
    for _ in range(count):
        camera_id, model, width, height = struct.unpack_from("<IiQQ", data, offset)
        if model not in _CAMERA_MODELS:
            raise ValueError(f"camera model number {model}")
        entry = _CAMERA_MODELS[model]
        params = struct.unpack_from(f"<{entry[2]}d", data, offset + 24)
        lenses[camera_id] = _lens(entry, (width, height), params, path)
        offset += 24 + 8 * entry[2]
    return lenses


def _cameras_from_text(path: Path) -> dict[int, Lens]:
    lenses = {}
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[1] not in _BY_NAME:
            raise ValueError(f"camera model {words[1]}")
        entry, params = _BY_NAME[words[1]], tuple(map(float, words[4:]))
        if len(params) != entry[2]:
            raise ValueError(f"{len(params)} parameters for camera model {words[1]}, which has {entry[2]}")
        lenses[int(words[0])] = _lens(entry, (int(words[2]), int(words[3])), params, path)
    return lenses


def _images_from_binary(path: Path) -> Iterator[_Image]:
    data = path.read_bytes()
    (count,) = struct.unpack_from("<Q", data)
    offset = 8
    for _ in range(count):
        _, qw, qx, qy, qz, tx, ty, tz, camera_id = struct.unpack_from("<I7dI", data, offset)
        end = data.index(b"\0", offset + 64)
        name = data[offset + 64 : end].decode("utf-8", "surrogateescape")
        (num_points,) = struct.unpack_from("<Q", data, end + 1)
        offset = end + 9 + 24 * num_points
        if offset > len(data):
            raise ValueError(f"ends inside the entry of {name}")
        yield _Image((qw, qx, qy, qz), (tx, ty, tz), camera_id, name)


def _images_from_text(path: Path) -> Iterator[_Image]:
    for line in _image_lines(path):
        words = line.split(maxsplit=9)
        qw, qx, qy, qz, tx, ty, tz = map(float, words[1:8])
        yield _Image((qw, qx, qy, qz), (tx, ty, tz), int(words[8]), words[9].rstrip())


def _image_lines(path: Path) -> Iterator[str]:
    """The first of the two lines of every photograph; the second, its points, may be empty."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("#") or not line.strip():
                continue
            yield line
            next(file, None)
