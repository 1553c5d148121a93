"""Agisoft Metashape's cameras (``File > Export > Export Cameras``, XML): camera-to-chunk, axes right, down, forward.

The world is the chunk's own, as the poses are written; the transform to a coordinate system that stands beside them is
not applied. Pixels are counted as here, and ``cx cy`` from the middle of the picture.
"""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..errors import SceneFormatError, first_line
from ..reading import MAX_DOCUMENT
from .cameras import Cameras
from .checks import check_name, check_poses, shortened
from .lenses import Lens
from .photographs import find_photograph, short_names

LARGEST_SKEW = 1.0
"""Pixels; a smaller skew is left out."""


def is_metashape(path: Path) -> bool:
    """Whether a file is such an export, by its start."""
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return b"<document" in head and b"<chunk" in head


def load_metashape(path: Path) -> Cameras:
    """Read the cameras that were aligned, in the order of their labels.

    Raises:
        SceneFormatError: If it is no export of cameras, none was aligned, or a lens is none that can be undone.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if len(text) > MAX_DOCUMENT or "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError(f"more than {MAX_DOCUMENT >> 20} MB, or a document type of its own")
        root = ElementTree.fromstring(text)  # noqa: S314  # what that warns of needs a document type
        sensors = {sensor.get("id"): sensor for sensor in root.iter("sensor")}
        cameras = [camera for camera in root.iter("camera") if camera.find("transform") is not None]
        cameras = sorted(cameras, key=lambda camera: camera.get("label", ""))
        names = [camera.get("label", f"{row:05d}") for row, camera in enumerate(cameras)]
        c2ws = [_matrix(camera) for camera in cameras]
        used = [sensors[camera.get("sensor_id")] for camera in cameras]
        lenses = {id(sensor): _lens(sensor, path) for sensor in used}
    except SceneFormatError:
        raise
    except (ElementTree.ParseError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SceneFormatError(
            what=f"{path} cannot be read ({type(error).__name__}: {first_line(error)})",
            expected="Metashape's export of cameras in its own XML",
            fix="export the cameras again (File > Export > Export Cameras, type Agisoft XML)",
        ) from error
    if not cameras:
        raise SceneFormatError(
            what=f"{path} has no camera with a transform", expected="cameras that were aligned",
            fix="align the photographs before the export",
        )  # fmt: skip
    for name in names:
        check_name(name, path)
    matrices = np.stack(c2ws)
    check_poses(matrices, names, path)
    folders = [place / name for place in (path.parent, path.parent.parent) for name in ("images", "input", ".")]
    photographs = [find_photograph(name, folders) for name in names]
    used_lenses = [lenses[id(sensor)] for sensor in used]
    return Cameras.of_lenses(path, np.linalg.inv(matrices), used_lenses, short_names(names), photographs)


def _matrix(camera: ElementTree.Element) -> np.ndarray:
    return np.array([float(word) for word in (camera.findtext("transform") or "").split()]).reshape(4, 4)


def _lens(sensor: ElementTree.Element, path: Path) -> Lens:
    """What Metashape adjusted; in ``u = w/2 + cx + x' (f + b1) + y' b2`` its p1 and p2 are COLMAP's p2 and p1."""
    calibrations = [each for each in sensor.findall("calibration") if each.get("class") == "adjusted"]
    calibration = (calibrations or sensor.findall("calibration"))[0]
    resolution = calibration.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    if resolution is None:
        raise ValueError("a sensor without a resolution")
    width, height = int(resolution.get("width", "")), int(resolution.get("height", ""))
    values: Mapping[str, float] = {
        name: float(calibration.findtext(name) or 0)
        for name in ("f", "cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4")
    }
    kind = sensor.get("type", "frame")
    k1, k2, k3, k4, p1, p2 = (values[name] for name in ("k1", "k2", "k3", "k4", "p2", "p1"))
    is_fisheye = kind in ("fisheye", "equidistant_fisheye")
    odd = {
        f"type {shortened(kind)!r}": kind != "frame" and not is_fisheye,
        f"skew b2 = {values['b2']}": abs(values["b2"]) > LARGEST_SKEW,
        f"k4 = {k4}": bool(k4) and not is_fisheye,
        "p1 and p2 of a fisheye": is_fisheye and bool(p1 or p2),
        "p3 and p4": bool(values["p3"] or values["p4"]),
    }
    wrong = next((what for what, is_wrong in odd.items() if is_wrong), None)
    if wrong is not None:
        raise SceneFormatError(
            what=f"{path} has a sensor with {wrong}",
            expected="type frame with f, cx, cy, b1, k1..k3, p1, p2, or a fisheye with k1..k4",
            fix="undistort the photographs in Metashape (Export > Undistort Photos), or adjust without it",
        )
    focal = (values["f"] + values["b1"], values["f"])
    principal = (width / 2 + values["cx"], height / 2 + values["cy"])
    if is_fisheye:
        return Lens("OPENCV_FISHEYE", (k1, k2, k3, k4), focal, principal, (width, height))
    return Lens("FULL_OPENCV", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0), focal, principal, (width, height))
