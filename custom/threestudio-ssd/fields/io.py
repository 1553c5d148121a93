"""Files of radiance fields: a folder with ``field.json`` and ``field.safetensors``, of latents also their refiner.

The JSON says what the tensors are of and carries their checksum, so that two files of different runs are not taken for
one field.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..early import named
from ..errors import SceneFormatError, first_line
from ..files import sha256, write_json, write_tensors
from ..reading import read_json
from .latent import LatentField
from .latent_io import ENTRY, is_whole, problem_of_space, read_space, save_space
from .lattice import LEAST_RESOLUTION, MOST_RESOLUTION, Lattice
from .model import PARAMETERS, RadianceField

SUFFIX, DOCUMENT, TENSORS = ".field", "field.json", "field.safetensors"
FORMAT = "threestudio-ssd radiance field"
VERSION = 1
EXPECTED = f"the folder of a radiance field, with {DOCUMENT} and {TENSORS}"
FIX = "copy the whole folder again, or fit the field anew: configs/fit-nerf.yaml"
COEFFICIENTS = (0, 3, 8, 15, 24)
"""Higher spherical harmonics of degrees 0 to 4."""
FARTHEST, SMALLEST = 1e9, 1e-9
"""Places and values beyond the one, and a lattice smaller than the other, are those of no scene: world units."""


def is_field(path: str | Path) -> bool:
    """Whether a path names a radiance field: its folder, or one of the files in it."""
    path = named(path)
    return path.name in (DOCUMENT, TENSORS) or path.name.lower().endswith(SUFFIX) or (path / DOCUMENT).is_file()


def save_field(field: RadianceField, folder: str | Path) -> None:
    """Write a field; its tensors first, so that the document never speaks of others.

    Args:
        field: On any device.
        folder: Where to; it is made.

    Raises:
        StorageError: If nothing can be written there.
    """
    folder, lattice = Path(folder), field.lattice
    write_tensors(folder / TENSORS, {"nodes": lattice.nodes.to(torch.int16)} | field.parameters())
    latent = {ENTRY: save_space(field.space, folder)} if isinstance(field, LatentField) else {}
    write_json(folder / DOCUMENT, {
        "format": FORMAT, "version": VERSION, "resolution": lattice.resolution,
        "center": [float(value) for value in lattice.center], "half": lattice.half,
        "nodes": len(field), "sh_degree": field.sh_degree, "sha256": sha256(folder / TENSORS), **latent,
    })  # fmt: skip


def load_field(path: str | Path) -> RadianceField:
    """Read a field.

    Args:
        path: Its folder, or one of the files in it.

    Returns:
        The field on the CPU; one of latents without a decoder.

    Raises:
        SceneFormatError: If a file is missing, or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    place = named(path)
    folder = place.parent if place.name in (DOCUMENT, TENSORS) else place
    document = read_json(folder / DOCUMENT, EXPECTED, FIX)
    problem = _problem(document)
    if problem is not None:
        raise SceneFormatError(what=f"{folder / DOCUMENT} {problem}", expected=EXPECTED, fix=FIX)
    try:
        if sha256(folder / TENSORS) != document["sha256"]:
            raise ValueError(f"it is not the file that {DOCUMENT} was written for")
        return _field(document, load_file(folder / TENSORS), folder)
    except (OSError, SafetensorError, ValueError) as error:
        what = f"{folder / TENSORS} cannot be read ({first_line(error)})"
        raise SceneFormatError(what=what, expected=EXPECTED, fix=FIX) from error


def _problem(document: Any) -> str | None:
    """What is wrong with the document, if anything is."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return "is not the document of a radiance field"
    if document.get("version") is not VERSION:
        return f"is of version {document.get('version')!r}, and this program reads version {VERSION}"
    resolution, center, half = (document.get(key) for key in ("resolution", "center", "half"))
    if not is_whole(resolution) or not LEAST_RESOLUTION <= resolution <= MOST_RESOLUTION:
        return f"has the resolution {resolution!r}, not {LEAST_RESOLUTION} to {MOST_RESOLUTION}"
    if not isinstance(center, list) or len(center) != 3 or not all(map(_is_number, center)):
        return f"has the center {center!r}, not three numbers up to {FARTHEST:g}"
    if not (_is_number(half) and half >= SMALLEST):  # pyright: ignore[reportOptionalOperand]
        return f"has the half {half!r}, not a length from {SMALLEST:g} to {FARTHEST:g}"
    for key in ("nodes", "sh_degree"):
        if not is_whole(document.get(key)):
            return f"has the {key} {document.get(key)!r}, not a whole number"
    if not isinstance(document.get("sha256"), str):
        return f"has the sha256 {document.get('sha256')!r}, not a checksum"
    return problem_of_space(document[ENTRY]) if ENTRY in document else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FARTHEST


def _field(document: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> RadianceField:
    """The field of these tensors.

    Raises:
        OSError: If a refiner cannot be read.
        SafetensorError: The same.
        ValueError: If they are none of a field.
    """
    if set(tensors) != {"nodes", *PARAMETERS}:
        raise ValueError(f"it holds {', '.join(sorted(tensors))}, not nodes, {', '.join(PARAMETERS)}")
    nodes, resolution = tensors["nodes"], document["resolution"]
    if nodes.dtype != torch.int16 or nodes.ndim != 2 or nodes.shape[1] != 3 or not len(nodes):
        raise ValueError(f"its nodes are {tuple(nodes.shape)} of {nodes.dtype}, not (n 3) of torch.int16")
    nodes = nodes.long()
    if nodes.min() < 0 or nodes.max() >= resolution:
        raise ValueError(f"a node is outside the lattice of {resolution} a side")
    count, rest = len(nodes), tensors["shN"].shape[1] if tensors["shN"].ndim == 3 else -1
    channels = document[ENTRY]["channels"] if ENTRY in document else RadianceField.channels
    shapes = {"raw_densities": (count,), "sh0": (count, 1, channels), "shN": (count, rest, channels)}
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape or tensors[name].dtype != torch.float32:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)} of {tensors[name].dtype}, not {shape} of float32")
        if not (tensors[name].abs() <= FARTHEST).all():
            raise ValueError(f"{name} holds values that are not finite, or beyond {FARTHEST:g}")
    if rest not in (COEFFICIENTS if ENTRY not in document else COEFFICIENTS[:1]):
        raise ValueError(f"shN holds {rest} coefficients a colour, not one of {COEFFICIENTS}; 0 for latents")
    said = {"nodes": (document["nodes"], count), "sh_degree": (document["sh_degree"], COEFFICIENTS.index(rest))}
    for name, (written, actual) in said.items():
        if written != actual:
            raise ValueError(f"{DOCUMENT} says {name} {written}, and it holds {actual}")
    lattice = Lattice(torch.tensor(document["center"]).float(), document["half"], resolution, nodes)
    if len(lattice.keys.unique()) != count:
        raise ValueError("a node is there twice")
    values: dict[str, Any] = {name: tensors[name] for name in PARAMETERS}
    if ENTRY in document:
        return LatentField(lattice, **values, space=read_space(document[ENTRY], folder))
    return RadianceField(lattice, **values)
