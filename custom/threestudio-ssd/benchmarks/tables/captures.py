"""The captures of a table in a user's folder: which scenes are there, with which splat and cameras."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...cameras import load_cameras
from ...early import IMAGE_SUFFIXES
from ...errors import InputError

NAMES = ("point_cloud.ply", "splat.ply", "scene.ply", "splat.splat", "splat.spz", "splat.sog")
"""What a trained splat is called that stands in the folder of its scene."""
SPLATS = (".ply", ".splat", ".spz", ".sog", ".ksplat")
COLOUR = b"f_dc_0"
"""A column that a splat has and a cloud of points does not."""
HEAD_BYTES = 4096


@dataclass(frozen=True)
class Capture:
    """One scene of a table.

    Attributes:
        name: As its publishers call it.
        cameras: Its folder, which the cameras are read from.
        splat: The trained scene; None if there is none.
    """

    name: str
    cameras: Path
    splat: Path | None


def scene_folders(root: Path, datasets: Iterable[str], scene: str) -> Iterator[Path]:
    """The folders of a scene below a user's: in the folder of its dataset, or without one."""
    places = [root / dataset / scene for dataset in datasets] + [root / scene]
    return (place for place in places if place.is_dir())


def find_capture(roots: Sequence[Path], datasets: Iterable[str], scene: str, can_fit: bool) -> Capture | str | None:
    """A scene that can be edited, what it lacks in one line, or None if it is not there.

    Args:
        roots: The user's folders: that of the captures, then those of trained splats.
        datasets: Folders that the scene's dataset may stand in.
        scene: Its folder.
        can_fit: Whether photographs do in place of a splat.
    """
    folder = next(scene_folders(roots[0], datasets, scene), None)
    if folder is None:
        return None
    try:
        cameras = load_cameras(folder)
    except InputError as error:
        return f"{error.what}; {error.fix}"
    places = [folder, *(place for root in roots[1:] for place in scene_folders(root, datasets, scene))]
    splat = next((path for path in map(trained_splat, places) if path is not None), None)
    if splat is None and not can_fit:
        return f"{folder} holds no splat: put point_cloud.ply there, or set fit=true"
    if splat is None and not any(cameras.image_paths):
        return f"{folder} holds no splat, and no photographs to fit one to ({' '.join(IMAGE_SUFFIXES)})"
    return Capture(scene, folder, splat)


def trained_splat(folder: Path) -> Path | None:
    """The splat of a scene: by name, in the newest iteration of INRIA's code, or the only one that is there."""
    named = [folder / name for name in NAMES if (folder / name).is_file()]
    if named:
        return named[0]
    iterations = [path for path in folder.glob("**/point_cloud/iteration_*/point_cloud.ply") if _number(path) >= 0]
    if iterations:
        return max(iterations, key=_number)
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SPLATS and _is_splat(path)]
    return files[0] if len(files) == 1 else None


def _number(path: Path) -> int:
    """Of ``iteration_30000``; below 0 where there is none."""
    text = path.parent.name.removeprefix("iteration_")
    return int(text) if text.isdecimal() else -1


def _is_splat(path: Path) -> bool:
    """Whether a file holds Gaussians rather than the points of a capture."""
    if path.suffix.lower() != ".ply":
        return True
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return COLOUR in head or path.name.lower().endswith(".compressed.ply")
