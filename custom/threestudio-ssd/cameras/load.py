"""Find out what kind of cameras a file or folder holds, and read them."""

from pathlib import Path

from ..early import CAMERA_FILES, capture, dataparser_file
from ..errors import SceneFormatError
from .blender_json import load_blender_json
from .cameras import Cameras, concatenate
from .colmap import find_colmap_model, load_colmap
from .inria_json import load_inria_json
from .json_common import frames_of, read_json
from .llff import POSES, load_llff
from .metashape import is_metashape, load_metashape
from .photographs import short_names
from .realitycapture import is_realitycapture, load_realitycapture
from .transforms_json import World, load_transforms_json, training_transform


def load_cameras(path: str | Path, *, world: World = "auto", dataparser: str | Path | None = None) -> Cameras:
    """Read the cameras of a capture.

    A folder is searched for: a nerfstudio training run's ``dataparser_transforms.json`` beside a ``transforms.json``; a
    COLMAP model at any depth; ``transforms.json``; Blender's ``transforms_{train,val,test}.json`` (all of them);
    ``cameras.json``; LLFF's ``poses_bounds.npy``; Metashape's XML or RealityCapture's CSV, if there is one alone.
    COLMAP goes before a bare ``transforms.json`` because most splats live in COLMAP's world.

    Args:
        path: A file or a folder; photographs are optional.
        world: For ``transforms.json`` only: which world the cameras are to be in, see ``load_transforms_json``.
        dataparser: nerfstudio's ``dataparser_transforms.json``, if it is not beside ``transforms.json``.

    Returns:
        Pinhole cameras with OpenCV axes; the distortion of photographs is undone when they are read.

    Raises:
        SceneFormatError: If there are no cameras or they cannot be used; names the file and what stood there.
    """
    path = capture(path)
    dataparser = None if dataparser is None else dataparser_file(dataparser)
    if path.is_dir():
        return _load_folder(path, world, dataparser)
    if path.suffix.lower() == ".json":
        return _load_json(path, world, dataparser)
    if path.name == POSES or path.suffix.lower() in (".xml", ".csv"):
        _check_untrained(path, world, dataparser)
        return load_llff(path) if path.name == POSES else _load_export(path)
    if path.suffix.lower() in (".bin", ".txt") and find_colmap_model(path.parent) is not None:
        _check_untrained(path, world, dataparser)
        return load_colmap(path.parent)
    raise SceneFormatError(
        what=f"{path} is no camera file", expected=CAMERA_FILES, fix="give the folder of the capture"
    )


def transforms_file(path: str | Path, *, world: World = "auto", dataparser: Path | None = None) -> Path | None:
    """The ``transforms.json`` that ``load_cameras`` reads for this file or folder; None if it reads something else."""
    path = Path(path)
    if not path.is_dir():
        return path if path.name == "transforms.json" and path.is_file() else None
    document = path / "transforms.json"
    has_training = (dataparser or training_transform(path)) is not None
    is_read = has_training or world != "auto" or find_colmap_model(path) is None
    return document if document.is_file() and is_read else None


def _load_folder(folder: Path, world: World, dataparser: Path | None) -> Cameras:
    transforms = transforms_file(folder, world=world, dataparser=dataparser)
    if transforms is not None:
        return _load_json(transforms, world, dataparser)
    model = find_colmap_model(folder)
    splits = [folder / f"transforms_{split}.json" for split in ("train", "val", "test")]
    splits = [split for split in splits if split.is_file()]
    has_training = world == "training" or (dataparser or training_transform(folder)) is not None
    if splits and (has_training or model is None):
        return _merge_splits([(split, _load_json(split, world, dataparser)) for split in splits])
    _check_untrained(folder, world, dataparser)
    if model is not None:
        return load_colmap(model)
    if (folder / "cameras.json").is_file():
        return load_inria_json(folder / "cameras.json")
    if (folder / POSES).is_file():
        return load_llff(folder / POSES)
    exports = [file for file in sorted(folder.iterdir()) if is_metashape(file) or is_realitycapture(file)]
    if len(exports) == 1:
        return _load_export(exports[0])
    names = sorted(entry.name for entry in folder.iterdir())[:5]
    raise SceneFormatError(
        what=f"{folder} holds no cameras (it has {', '.join(names) or 'nothing'})",
        expected=CAMERA_FILES,
        fix="give the folder of the capture; leave cameras empty for an orbit around the scene",
    )


def _load_export(path: Path) -> Cameras:
    return load_metashape(path) if path.suffix.lower() == ".xml" else load_realitycapture(path)


def _load_json(path: Path, world: World, dataparser: Path | None) -> Cameras:
    document = read_json(path)
    if isinstance(document, list):
        _check_untrained(path, world, dataparser)
        return load_inria_json(path)
    frames = frames_of(document, path)
    has_focal = "fl_x" in document or "fl_y" in document or any("fl_x" in frame for frame in frames)
    if "camera_angle_x" in document and not has_focal and _is_bare(frames):
        _check_untrained(path, world, dataparser)
        return load_blender_json(path)
    return load_transforms_json(path, world=world, dataparser=dataparser)


def _check_untrained(path: Path, world: World, dataparser: Path | None) -> None:
    """Refuse the world of a nerfstudio training for cameras that nerfstudio did not write."""
    if world == "training" or dataparser is not None:
        asked = "world is training" if dataparser is None else f"dataparser is {dataparser}"
        raise SceneFormatError(
            what=f"{asked}, but {path} is no nerfstudio capture",
            expected="a transforms.json, or a folder with one",
            fix="give nerfstudio's transforms.json as cameras, or leave world and dataparser out",
        )


def _is_bare(frames: list[dict]) -> bool:
    """Whether file paths have no suffix, as in Blender's files."""
    return all(not Path(str(frame.get("file_path", ""))).suffix for frame in frames)


def _merge_splits(splits: list[tuple[Path, Cameras]]) -> Cameras:
    if len(splits) == 1:
        return splits[0][1]
    merged = concatenate([cameras for _, cameras in splits])
    merged.names = short_names(
        [f"{path.stem.removeprefix('transforms_')}/{name}" for path, cameras in splits for name in cameras.names]
    )
    return merged
