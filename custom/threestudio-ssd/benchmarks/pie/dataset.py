"""PIE-Bench as its authors publish it (Ju et al. 2024, arXiv:2310.01506): the mapping file, prompts and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ...errors import SceneFormatError
from ...reading import read_json

SIZE = 512
MAPPING, IMAGES = "mapping_file.json", "annotation_images"
TRUTHS = "truth_images"
"""Folder of the true results, where a dataset has any, with the same paths below it as the sources."""
GROUPS = (
    "random", "change object", "add object", "delete object", "change content", "change pose", "change colour",
    "change material", "change background", "change style",
)  # fmt: skip
KEYS = ("image_path", "original_prompt", "editing_prompt", "editing_instruction", "editing_type_id", "mask")


@dataclass(frozen=True)
class PieEntry:
    """One image of the benchmark with its edit."""

    key: str
    image_path: str
    """Below ``annotation_images``."""
    source_prompt: str
    target_prompt: str
    instruction: str
    group: int
    """0 to 9, see ``GROUPS``."""
    blended_word: str
    """Source and target word that attention methods blend, or empty."""
    mask: Bool[Tensor, "512 512"]
    """True where the edit belongs, the outermost pixels included."""


def load_pie_bench(folder: str | Path) -> list[PieEntry]:
    """Read the benchmark's mapping file; the brackets that mark words in its prompts are taken off.

    Raises:
        SceneFormatError: If the file is missing, or an entry lacks something.
    """
    path = Path(folder) / MAPPING
    mapping = read_json(
        path, f"the folder of PIE-Bench, with {MAPPING} and {IMAGES}/", "set run.dataset to that folder"
    )
    if not isinstance(mapping, dict):
        what, fix = f"{path} holds a {type(mapping).__name__}", "take the file as its authors publish it"
        raise SceneFormatError(what=what, expected="entries by their keys", fix=fix)
    return [_entry(str(key), item, path) for key, item in mapping.items()]


def _entry(key: str, item: Any, path: Path) -> PieEntry:
    problem = _problem_of(item)
    if problem is not None:
        raise SceneFormatError(
            what=f"{path}: entry {key[:80]} {problem[:200]}", expected=f"the keys {', '.join(KEYS)}, types 0 to 9",
            fix="take the file as its authors publish it",
        )  # fmt: skip
    return PieEntry(
        key, item["image_path"], _plain(item["original_prompt"]), _plain(item["editing_prompt"]),
        item["editing_instruction"], int(item["editing_type_id"]), item.get("blended_word", ""),
        decode_mask(item["mask"]),
    )  # fmt: skip


def _problem_of(item: Any) -> str | None:
    """What is wrong with an entry; None for one that can be used."""
    if not isinstance(item, dict):
        return f"is a {type(item).__name__}"
    missing = [name for name in KEYS if name not in item]
    if missing:
        return f"has no {missing[0]}"
    if str(item["editing_type_id"]) not in map(str, range(len(GROUPS))):
        return f"has the editing_type_id {item['editing_type_id']!r}"
    texts = {name: item[name] for name in KEYS[:4]} | {"blended_word": item.get("blended_word", "")}
    wrong = next((name for name, text in texts.items() if not isinstance(text, str)), None)
    if wrong is not None:
        return f"has the {wrong} {item[wrong]!r}, which is no text"
    place = PurePosixPath(item["image_path"])
    if place.is_absolute() or not place.parts or ".." in place.parts or len(max(place.parts, key=len).encode()) > 255:
        return f"has the image_path {item['image_path']!r}, which is no place below {IMAGES}"
    runs = item["mask"]
    is_whole = isinstance(runs, list) and all(isinstance(run, int) and 0 <= run <= SIZE * SIZE for run in runs)
    return None if is_whole and len(runs) % 2 == 0 else "has a mask that is no list of starts and lengths"


def _plain(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")


def decode_mask(runs: Sequence[int], size: int = SIZE) -> Bool[Tensor, "h w"]:
    """Mask from flat [start, length, start, length, ...], row by row; its outermost rows and columns are always set.

    Runs are cut at the end of the image, as the authors' evaluation does it.
    """
    flat = torch.zeros(size * size, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[start : start + length] = True
    mask = flat.view(size, size)
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    return mask


def encode_mask(mask: Bool[Tensor, "h w"]) -> list[int]:
    """The runs of a mask, without those its border would add."""
    flat = np.concatenate([[0], mask.flatten().numpy().astype(np.int8), [0]])
    starts, ends = (np.flatnonzero(np.diff(flat) == sign) for sign in (1, -1))
    return [int(value) for start, end in zip(starts, ends, strict=True) for value in (start, end - start)]
