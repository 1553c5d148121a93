"""glTF binary (``.glb``) with KHR_gaussian_splatting: linear scales, rotations x y z w, one accessor per coefficient.

The container is 12 bytes and chunks, and accessors are arrays with a stride, so nothing but ``json`` is needed. glTF's
world has y up. Reading applies the transforms of nodes. Writing keeps the scene's numbers and puts the turn to y up
into the node, marked as ours, so that reading it again gives the same numbers.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import SceneFormatError, first_line
from ...files import open_whole
from ...reading import MAX_DOCUMENT, check_rows
from ..model import MAX_SH_DEGREE, Gaussians
from ..sh import C0
from .common import cut_short, finish, read_bytes, warn, warn_of_render_mode
from .node_rows import Y_UP, NodeRows, rows_to_write
from .packed import linear_rows

EXTENSION = "KHR_gaussian_splatting"
HINTS = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective",
         "sortingMethod": "cameraDistance"}  # fmt: skip
MAX_DEGREE = 3
OUR_FRAME = "threestudio_ssd_up"
"""Key of a node's ``extras`` that says which axis of the scene the node turns up."""
_JSON, _BIN = 0x4E4F534A, 0x004E4942
_FLOAT, _ARRAY_BUFFER = 5126, 34962
_KINDS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", _FLOAT: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
_MAX_DEPTH = 64


def read_glb(path: Path) -> Gaussians:
    """Read the splats of a ``.glb`` file; those of several nodes one after the other, each where its node puts it.

    Raises:
        SceneFormatError: If the file is damaged, cut short, or holds no Gaussians that can be read.
    """
    data = read_bytes(path)
    try:
        document, binary = _chunks(data, path)
        used = ", ".join(map(str, document.get("extensionsUsed", []))) or "none"
        parts = [(_sections(document, binary, each, path), matrix, up) for each, matrix, up in _splats(document, path)]
        raw = NodeRows(*(_together(parts) if len(parts) > 1 else parts[0])) if parts else None
        values = {} if raw is None else raw.values()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        if isinstance(error, SceneFormatError):
            raise
        what = f"{path} cannot be read ({type(error).__name__}: {first_line(error)})"
        raise cut_short(what, f"a glTF binary with {EXTENSION}", or_other=True) from error
    if raw is None:
        raise SceneFormatError(
            what=f"{path} holds no splat (it uses {used})",
            expected=f"points with {EXTENSION}", fix="export it as a Gaussian splat, not as a mesh",
        )  # fmt: skip
    check_rows(path, len(raw.sections["means"]), len(data))
    return finish(values, path=path, kind="glb", file=raw, notes={"up": raw.up})


def write_glb(gaussians: Gaussians, path: Path) -> None:
    """Write a ``.glb`` file; degree 4 of the colour is left out, and how the splat was trained has no place in it."""
    if gaussians.sh_degree > MAX_DEGREE:
        warn(f"{path}: .glb holds SH up to degree {MAX_DEGREE}; degree {gaussians.sh_degree} is left out")
        gaussians = gaussians.with_sh_degree(MAX_DEGREE)
    warn_of_render_mode(gaussians, path, ".glb")
    with open_whole(path) as file:
        file.write(_container(rows_to_write(gaussians, "glb")))


def _together(parts: list[tuple[dict[str, np.ndarray], np.ndarray, str]]) -> tuple[dict, np.ndarray, str]:
    """Several splats as one, in the world of the file."""
    world = [NodeRows(*part).values() for part in parts]
    rest = max(values["shN"].shape[1] for values in world)
    for values in world:
        missing = rest - values["shN"].shape[1]
        values["shN"] = np.pad(values["shN"], ((0, 0), (0, missing), (0, 0)))
        values["sh0"] = values["sh0"].reshape(-1, 3)
    joined = {name: np.concatenate([values[name] for values in world]) for name in world[0]}
    return linear_rows({**joined, "sh0": joined["sh0"][:, None]}), np.eye(4), Y_UP


def _chunks(data: bytes, path: Path) -> tuple[dict[str, Any], bytes]:
    """The document and the bytes that its accessors lie in."""
    if data[:4] != b"glTF" or len(data) < 20 or struct.unpack_from("<I", data, 4)[0] != 2:
        what = f"{path} starts with {data[:8]!r}"
        raise cut_short(what, "a glTF binary of version 2, which starts with 'glTF'", or_other=True)
    offset, chunks = 12, {}
    while offset + 8 <= len(data):
        size, kind = struct.unpack_from("<II", data, offset)
        if offset + 8 + size > len(data):
            raise cut_short(f"{path} ends inside a chunk of {size} bytes", "all the bytes that its header promises")
        chunks.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    text = chunks.get(_JSON, b"")
    if len(text) > MAX_DOCUMENT:
        raise ValueError(f"a document of more than {MAX_DOCUMENT >> 20} MB")
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("its document is nested too deeply") from error
    if not isinstance(document, dict):
        raise TypeError("its document is no group of keys")
    return document, chunks.get(_BIN, b"")


def _splats(document: Mapping[str, Any], path: Path) -> Iterator[tuple[Mapping[str, Any], np.ndarray, str]]:
    """Primitives that are splats, each with its place in the world, and the axis that points upwards."""
    nodes, meshes = document.get("nodes", []), document.get("meshes", [])
    scenes = document.get("scenes", [])
    inner = {child for node in nodes for child in node.get("children", [])}
    roots = scenes[document.get("scene", 0)].get("nodes", []) if scenes else [*(set(range(len(nodes))) - inner)]
    waiting = [(root, np.eye(4), 0) for root in reversed(roots)]
    visited: set[int] = set()
    while waiting:
        place, parent, depth = waiting.pop()
        if place in visited or depth > _MAX_DEPTH or not 0 <= place < len(nodes):
            raise ValueError("its nodes are no tree")
        visited.add(place)
        node = nodes[place]
        matrix = parent @ _matrix(node)
        for primitive in meshes[node["mesh"]]["primitives"] if "mesh" in node else []:
            extension = primitive.get("extensions", {}).get(EXTENSION)
            if extension is None:
                continue
            _check_kind(primitive, extension, path)
            up = str(node.get("extras", {}).get(OUR_FRAME, Y_UP))
            yield primitive, matrix, up if NodeRows({}, matrix, up).is_frame else Y_UP
        waiting += [(child, matrix, depth + 1) for child in reversed(node.get("children", []))]


def _check_kind(primitive: Mapping[str, Any], extension: Mapping[str, Any], path: Path) -> None:
    problem = None
    packed = next((name for name in extension.get("extensions", {}) if "compression" in name), None)
    if packed is not None:
        problem = f"is compressed by {packed}"
    elif extension.get("kernel", HINTS["kernel"]) != HINTS["kernel"]:
        problem = f"has the kernel {extension['kernel']!r}"
    elif primitive.get("mode", 4) != 0:
        problem = "is no list of points"
    if problem is not None:
        raise SceneFormatError(
            what=f"{path}: its splat {problem}", expected=f"points with {EXTENSION}, kernel ellipse, not compressed",
            fix="export it again without compression, or as .ply",
        )  # fmt: skip


def _matrix(node: Mapping[str, Any]) -> np.ndarray:
    """(4 4) from a node's axes to its parent's."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    axes = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    matrix = np.eye(4)
    matrix[:3, :3] = axes * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _sections(
    document: Mapping[str, Any], binary: bytes, primitive: Mapping[str, Any], path: Path
) -> dict[str, np.ndarray]:
    """Float32 rows of every field."""
    attributes = primitive["attributes"]

    def take(name: str, width: int) -> np.ndarray:
        if name not in attributes:
            raise SceneFormatError(
                what=f"{path}: its splat has no {name}", expected=f"the attributes of {EXTENSION}",
                fix="export it again",
            )  # fmt: skip
        values = _accessor(document, binary, attributes[name])
        if values.shape[1] != width:
            raise ValueError(f"{name} has {values.shape[1]} numbers each, not {width}")
        return values

    degree = max((int(name.split("_DEGREE_")[1][0]) for name in attributes if "_DEGREE_" in name), default=0)
    if degree > MAX_SH_DEGREE:
        raise ValueError(f"SH degree {degree}")
    rest = [
        take(f"{EXTENSION}:SH_DEGREE_{each}_COEF_{place}", 3)
        for each in range(1, degree + 1)
        for place in range(2 * each + 1)
    ]
    means = take("POSITION", 3)
    columns = {
        "means": means,
        "raw_quats": take(f"{EXTENSION}:ROTATION", 4),
        "log_scales": take(f"{EXTENSION}:SCALE", 3),
        "logit_opacities": take(f"{EXTENSION}:OPACITY", 1),
        "sh0": take(f"{EXTENSION}:SH_DEGREE_0_COEF_0", 3),
        "shN": np.concatenate(rest, axis=1) if rest else np.zeros((len(means), 0), "<f4"),
    }
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("its attributes are of different lengths")
    if (columns["log_scales"] < 0).any():
        raise SceneFormatError(
            what=f"{path} has sizes below 0: they are logarithms, as in drafts of {EXTENSION}",
            expected="sizes in units of the scene", fix="export it again with a newer program, or as .ply",
        )  # fmt: skip
    return {name: np.ascontiguousarray(column, "<f4").view(np.uint8) for name, column in columns.items()}


def _accessor(document: Mapping[str, Any], binary: bytes, place: int) -> np.ndarray:
    """(n width) float32; whole numbers that are normalised become fractions."""
    accessor = document["accessors"][place]
    if "sparse" in accessor:
        raise ValueError("a sparse accessor")
    view = document["bufferViews"][accessor["bufferView"]]
    if view["buffer"] != 0 or "uri" in document["buffers"][0]:
        raise ValueError("its numbers lie in another file")
    kind, width, count = np.dtype(_KINDS[accessor["componentType"]]), _WIDTHS[accessor["type"]], accessor["count"]
    stride = view.get("byteStride") or kind.itemsize * width
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    if min(count, start) < 0 or stride < kind.itemsize * width:
        raise ValueError("an accessor of negative size")
    if count and start + stride * (count - 1) + kind.itemsize * width > len(binary):
        raise ValueError(f"an accessor of {count} rows reaches beyond the {len(binary)} bytes there are")
    values = np.ndarray((count, width), kind, binary, start if count else 0, (stride, kind.itemsize))
    if kind.kind == "f":
        return values.astype(np.float32)
    largest = np.iinfo(kind).max
    return np.maximum(values.astype(np.float32) / np.float32(largest), -1)


def _container(raw: NodeRows) -> bytes:
    rows = {name: np.ascontiguousarray(section).view("<f4") for name, section in raw.sections.items()}
    rest = rows["shN"].reshape(len(rows["means"]), rows["shN"].shape[1] // 3, 3)
    columns: dict[str, np.ndarray] = {
        "POSITION": rows["means"],
        "COLOR_0": _fallback(rows["sh0"], rows["logit_opacities"]),
        f"{EXTENSION}:ROTATION": rows["raw_quats"],
        f"{EXTENSION}:SCALE": rows["log_scales"],
        f"{EXTENSION}:OPACITY": rows["logit_opacities"],
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": rows["sh0"],
    }
    for place in range(rest.shape[1]):
        degree = int((place + 1) ** 0.5)
        columns[f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{place + 1 - degree**2}"] = rest[:, place]
    attributes, accessors, views, body = {}, [], [], []
    offset = 0
    for name, values in columns.items():
        block = np.ascontiguousarray(values).tobytes()
        is_bytes = values.dtype == np.uint8
        accessor: dict[str, Any] = {
            "bufferView": len(views), "componentType": 5121 if is_bytes else _FLOAT, "count": len(values),
            "type": {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[values.shape[1]],
        }  # fmt: skip
        if is_bytes:
            accessor["normalized"] = True
        if name == "POSITION" and len(values):
            finite = np.where(np.isfinite(values).all(axis=1, keepdims=True), values, np.float32(0))
            accessor |= {"min": finite.min(axis=0).tolist(), "max": finite.max(axis=0).tolist()}
        attributes[name] = len(accessors)
        accessors.append(accessor)
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(block), "target": _ARRAY_BUFFER})
        body.append(block)
        offset += len(block)
    primitive = {"mode": 0, "attributes": attributes, "extensions": {EXTENSION: HINTS}}
    node: dict[str, Any] = {"mesh": 0}
    if raw.has_matrix:
        node["matrix"] = raw.matrix.T.ravel().tolist()
    if raw.is_frame:
        node["extras"] = {OUR_FRAME: raw.up}
    document = {
        "asset": {"version": "2.0", "generator": "threestudio-ssd"}, "extensionsUsed": [EXTENSION], "scene": 0,
        "scenes": [{"nodes": [0]}], "nodes": [node], "meshes": [{"primitives": [primitive]}], "accessors": accessors,
        "bufferViews": views, "buffers": [{"byteLength": offset}],
    }  # fmt: skip
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + offset, len(text), _JSON)
    return head + text + struct.pack("<II", offset, _BIN) + b"".join(body)


def _fallback(sh0: np.ndarray, opacities: np.ndarray) -> np.ndarray:
    """(n 4) bytes that viewers without the extension draw: the colour in linear light, and the opacity."""
    colors = np.clip(np.nan_to_num(sh0.astype(np.float64)) * C0 + 0.5, 0, 1)
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    return np.rint(np.concatenate([linear, np.clip(np.nan_to_num(opacities), 0, 1)], axis=1) * 255).astype(np.uint8)
