"""Whether the files that a user names are there.

The readers of these files ask here, and so does ``launch.py`` before it imports anything heavy: this module imports
neither torch nor NumPy, so that a mistyped path is answered at once, in the same words.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, SceneFormatError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CAMERA_FILES = (
    "a COLMAP model (cameras and images, .bin or .txt), transforms.json, transforms_train.json, INRIA's cameras.json, "
    "LLFF's poses_bounds.npy, Metashape's XML or RealityCapture's CSV"
)

FILE_KEYS = (
    "scene", "cameras", "dataparser", "picture", "mask_picture", "saved", "model", "vae", "controlnet", "segmenter",
    "clip_model", "inpainter", "picture_config",
)  # fmt: skip
"""Keys whose values name files or folders that are read; a hub id or a short name is one where such a folder exists."""
DATA_VARIABLE = "THREESTUDIO_SSD_DATA"
"""Environment variable that names the shipped data where it does not lie beside the plugin."""


def repository() -> Path:
    """The folder that shipped ``configs`` and ``data`` are in: the checkout, or ``shipped`` in an installed package."""
    here = Path(__file__).resolve().parent
    return here / "shipped" if (here / "shipped").is_dir() else here.parents[1]


def data_folder() -> Path:
    """The folder of shipped inputs and models: ``data`` of the repository, or as named."""
    return Path(os.environ.get(DATA_VARIABLE) or repository() / "data")


def named(path: str | Path) -> Path:
    """The path that a user's words mean: here, or in the repository; what begins with ``data/`` in the shipped data.

    Raises:
        ConfigError: If it is not here and there is no shipped data.
    """
    path = Path(path)
    if path.exists() or path.is_absolute():
        return path
    if path.parts[:1] != ("data",):
        return repository() / path if (repository() / path).exists() else path
    folder = data_folder()
    if not folder.is_dir():
        expected, fix = "the folder data of the threestudio-ssd repository", f"set {DATA_VARIABLE} to that folder"
        raise ConfigError(
            what=f"{path} is not here, and there is no shipped data in {folder}", expected=expected, fix=fix
        )
    inside = folder.joinpath(*path.parts[1:])
    return inside if inside.exists() else path


def places(path: str | Path, looked_in: Sequence[str]) -> str:
    """The end of a message that says where a path was looked for; nothing for an absolute path.

    Args:
        path: As it was given.
        looked_in: Folders of the config, beside the current one and the repository.
    """
    if Path(path).is_absolute():
        return ""
    folders = dict.fromkeys(str(Path(folder).resolve()) for folder in (os.getcwd(), *looked_in, repository()))
    return f"; it was looked for in {', '.join(folders)}" if len(folders) > 1 else ""


def splat_file(path: str | Path, looked_in: Sequence[str] = ()) -> Path:
    """The path of a scene that is there, as a file or as the folder of a SOG.

    Raises:
        SceneFormatError: If it does not exist.
    """
    return _existing(path, "a splat file, or the folder of a field", "check the path given as scene", looked_in)


def views_capture(path: str, looked_in: Sequence[str] = ()) -> str:
    """The path of the capture whose cameras an edit uses.

    Raises:
        ConfigError: If it does not exist.
    """
    if not named(path).exists():
        expected = "a COLMAP folder, transforms.json or cameras.json"
        fix = "check the path, or leave cameras empty for an orbit"
        raise ConfigError(what=f"cameras {path} do not exist", expected=expected, fix=fix + places(path, looked_in))
    return path


def capture(path: str | Path, looked_in: Sequence[str] = ()) -> Path:
    """The path of cameras that are there.

    Raises:
        SceneFormatError: If it does not exist.
    """
    fix = "check the path given as cameras; leave it empty for an orbit around the scene"
    return _existing(path, CAMERA_FILES, fix, looked_in)


def dataparser_file(path: str | Path, looked_in: Sequence[str] = ()) -> Path:
    """The path of nerfstudio's ``dataparser_transforms.json``.

    Raises:
        SceneFormatError: If it is no file.
    """
    fix = "it lies in the folder of the training run, beside config.yml"
    return _existing(path, "nerfstudio's dataparser_transforms.json", fix, looked_in, is_file=True)


def mask_images(path: str | Path, looked_in: Sequence[str] = ()) -> list[Path]:
    """The images of a mask: the file itself, or those of a folder and of the folders in it, by name.

    Hidden files, which systems leave beside real ones, are no images.

    Raises:
        SceneFormatError: If there is none.
    """
    path = named(path)
    files = [path]
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        files = sorted(file for file in inside if not _is_hidden(file.relative_to(path)))
    if not path.exists() or not files:
        what = f"mask.picture {path} {'holds no picture' if path.exists() else 'does not exist'}"
        expected = f"a picture ({' '.join(IMAGE_SUFFIXES)}) named after a view, or a folder of them"
        fix = "check the path" if path.exists() else f"check the path{places(path, looked_in)}"
        raise SceneFormatError(what=what, expected=expected, fix=fix)
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def selection_file(path: str | Path, looked_in: Sequence[str] = ()) -> Path:
    """The path of a selection that an earlier run wrote.

    Raises:
        SceneFormatError: If it is no file.
    """
    fix = "check the path; every run writes save/selection.npy"
    return _existing(path, "the selection.npy of an earlier run", fix, looked_in, key="mask.saved ", is_file=True)


def unreadable_image(path: str | Path, key: str, why: str = "", looked_in: Sequence[str] = ()) -> SceneFormatError:
    """The error for an image that is missing or cannot be read; ``key`` is the config key that names it."""
    return SceneFormatError(
        what=f"{key} {path} cannot be read{f' ({why})' if why else ''}",
        expected="a PNG or JPEG file",
        fix="save it again as PNG" if why else f"set {key} to a picture{places(path, looked_in)}",
    )


def check_data(data_type: str, keys: Mapping[str, Any], looked_in: Sequence[str] = ()) -> None:
    """Check the files that the keys of a data module name; ``looked_in`` as in ``places``.

    Raises:
        InputError: As the data module would, for the first that is missing.
    """
    cameras = _text(keys, "cameras")
    if cameras:
        if data_type == "gs-views":
            views_capture(cameras, looked_in)
        capture(cameras, looked_in)
        if _text(keys, "dataparser"):
            dataparser_file(keys["dataparser"], looked_in)
    if _text(keys, "picture"):
        _image_file(keys["picture"], "picture", looked_in)


def check_system(keys: Mapping[str, Any], looked_in: Sequence[str] = ()) -> None:
    """Check the files that the keys of a system name: its scene and its mask; ``looked_in`` as in ``places``.

    Raises:
        InputError: As the system would, for the first that is missing.
    """
    if _text(keys, "scene"):
        splat_file(keys["scene"], looked_in)
    if _text(keys, "mask_picture"):
        _image_file(keys["mask_picture"], "system.mask_picture", looked_in)
    if isinstance(keys.get("mask"), Mapping):
        _check_mask(keys["mask"], looked_in)


def _check_mask(part: Mapping[str, Any], looked_in: Sequence[str]) -> None:
    if _text(part, "picture"):
        mask_images(part["picture"], looked_in)
    if _text(part, "saved"):
        selection_file(part["saved"], looked_in)
    for key in ("any_of", "none_of"):
        for inner in part.get(key) or ():
            if isinstance(inner, Mapping):
                _check_mask(inner, looked_in)


def _existing(
    path: str | Path, expected: str, fix: str, looked_in: Sequence[str], *, key: str = "", is_file: bool = False
) -> Path:
    place = named(path)
    if not (place.is_file() if is_file else place.exists()):
        raise SceneFormatError(what=f"{key}{path} does not exist", expected=expected, fix=fix + places(path, looked_in))
    return place


def _text(keys: Mapping[str, Any], name: str) -> str:
    """A value if it is a text; keys are checked only later, so it may be anything."""
    value = keys.get(name)
    return value if isinstance(value, str) else ""


def _image_file(path: str, key: str, looked_in: Sequence[str]) -> None:
    if not named(path).is_file():
        raise unreadable_image(path, key, looked_in=looked_in)
