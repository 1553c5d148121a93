"""Labelled images of results, in rows and columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..images import as_tensor, read_rgb

CELL, HEAD = 96, 18
"""Height of an image and of a line of text in the grid, pixels."""
SOURCE, TRUTH = "_source", "_truth"
"""Folders that stand beside those of the cells."""


def image_name(edit: str, seed: int) -> str:
    """File of the image of an edit's result."""
    return f"{edit}-{seed}.png"


def labelled_grid(
    folders: Mapping[tuple[str, ...], str], root: Path, edits: Sequence[str], axes: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """Images of seed 0 with labels: one axis goes down, edits across; two go down and across, for the first edit.

    Args:
        folders: Values along the axes -> the folder of that cell's images.
        root: Where these folders are, with those of the source and of the truth.
        edits: Names of the edits.
        axes: What the labels call the axes.
    """
    if len(axes) > 1:
        down, across = (list(dict.fromkeys(values[place] for values in folders)) for place in (0, 1))
        lines = [[(folder, edits[0], folder.strip("_")) for folder in (SOURCE, TRUTH)]] + [
            [(folders[row, column], edits[0], f"{axes[0]} {row}, {axes[1]} {column}") for column in across]
            for row in down
        ]
    else:
        rows = {"source": SOURCE, **{f"{axes[0]} {value}": name for (value,), name in folders.items()}, "truth": TRUTH}
        lines = [[(folder, edit, label) for edit in edits] for label, folder in rows.items()]
    return labelled_rows(
        [
            [(f"{edit}: {label}", _read(root / folder / image_name(edit, 0))) for folder, edit, label in line]
            for line in lines
        ],
        CELL,
    )


def labelled_rows(
    rows: Sequence[Sequence[tuple[str, Float[Tensor, "_ _ 3"]]]], height: int | None = None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Images with a line of text above each, on white, row below row.

    Args:
        rows: Texts and images in [0, 1].
        height: Of every image, pixels; None: its own, at least ``CELL``.
    """
    drawn = [np.concatenate([_labelled(*cell, height) for cell in row], axis=1) for row in rows]
    width = max(line.shape[1] for line in drawn)
    padded = [np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255) for line in drawn]
    return np.concatenate(padded)


def _read(path: Path) -> Float[Tensor, "h w 3"]:
    return as_tensor(read_rgb(path, "a result"))[0].permute(1, 2, 0)


def _labelled(label: str, image: Float[Tensor, "h w 3"], height: int | None) -> UInt8[np.ndarray, "h2 w2 3"]:
    """An image with a line of text above it, on white."""
    high = height or max(CELL, image.shape[0])
    size = round(image.shape[1] * high / image.shape[0]), high
    pixels = Image.fromarray((image.clamp(0, 1) * 255).round().byte().numpy()).resize(size)
    width = max(size[0], 8 * len(label))
    head = np.full((HEAD, width + 4, 3), 255, np.uint8)
    cv2.putText(head, label, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    body = np.full((high + 4, width + 4, 3), 255, np.uint8)
    body[:high, : size[0]] = np.asarray(pixels)
    return np.concatenate([head, body])
