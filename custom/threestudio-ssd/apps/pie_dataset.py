"""PIE-Bench as its authors publish it (Ju et al. 2024, arXiv:2310.01506), and a toy folder of the same layout."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

import threestudio
from threestudio.utils.base import Configurable

from ..errors import SceneFormatError
from ..files import write_text
from ..toyworld.edits import toy_edit
from ..toyworld.truth import make_truth
from ..toyworld.views import single_view

SIZE = 512
MAPPING, IMAGES = "mapping_file.json", "annotation_images"
GROUPS = (
    "random", "change object", "add object", "delete object", "change content", "change pose", "change colour",
    "change material", "change background", "change style",
)  # fmt: skip
FOLDERS = (
    "0_random_140", "1_change_object_80", "2_add_object_80", "3_delete_object_80", "4_change_attribute_content_40",
    "5_change_attribute_pose_40", "6_change_attribute_color_40", "7_change_attribute_material_40",
    "8_change_background_80", "9_change_style_80",
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
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise SceneFormatError(
            what=f"{path} cannot be read ({cause})", expected=f"the folder of PIE-Bench, with {MAPPING} and {IMAGES}/",
            fix="set run.dataset to that folder",
        ) from cause  # fmt: skip
    return [_entry(str(key), item, path) for key, item in mapping.items()]


def _entry(key: str, item: dict[str, Any], path: Path) -> PieEntry:
    missing = [name for name in KEYS if name not in item]
    if missing or str(item["editing_type_id"]) not in map(str, range(10)):
        problem = f"has no {missing[0]}" if missing else f"has the editing_type_id {item['editing_type_id']!r}"
        raise SceneFormatError(
            what=f"{path}: entry {key} {problem}", expected=f"the keys {', '.join(KEYS)}, types 0 to 9",
            fix="take the file as its authors publish it",
        )  # fmt: skip
    return PieEntry(
        key, item["image_path"], _plain(item["original_prompt"]), _plain(item["editing_prompt"]),
        item["editing_instruction"], int(item["editing_type_id"]), item.get("blended_word", ""),
        decode_mask(item["mask"]),
    )  # fmt: skip


def _plain(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")


def decode_mask(runs: Sequence[int], size: int = SIZE) -> Bool[Tensor, "h w"]:
    """Mask from flat [start, length, start, length, ...], row by row; its outermost rows and columns are always set.

    Runs are cut at the end of the picture, as the authors' evaluation does it.
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


TOY_ENTRIES = (
    (0, "blue-ball"), (0, "snow"), (1, "cube"), (1, "donut"), (2, "striped-cylinder"), (3, "plain-house"),
    (4, "dotted-cone"), (5, "mushroom"), (6, "red-car"), (6, "purple-mushroom"), (7, "checkered-cube"), (8, "sand"),
    (8, "grass"), (9, "sunset"), (9, "night"),
)  # fmt: skip
"""Group of the benchmark and the toy edit that stands for it."""


def write_toy_pie_bench(folder: Path, render_size: int = SIZE, scene_seed: int = 3) -> None:
    """A folder of the benchmark's layout with toy scenes in all ten groups, and truths beside them (``truth_images``).

    Args:
        folder: Where it goes.
        render_size: Side at which scenes are rendered before they get the benchmark's 512 pixels.
        scene_seed: Of the toy scenes.
    """
    mapping = {}
    for number, (group, name) in enumerate(TOY_ENTRIES):
        edit = toy_edit(name)
        camera = single_view(number, render_size)
        truth = make_truth(edit, scene_seed, camera)
        key = f"{group}{number:011d}"
        image_path = (
            f"{FOLDERS[group]}/{key}.jpg" if group == 0 else f"{FOLDERS[group]}/1_artificial/4_outdoor/{key}.jpg"
        )
        for place, picture in ((IMAGES, truth.source), ("truth_images", truth.target)):
            path = folder / place / image_path
            path.parent.mkdir(parents=True, exist_ok=True)
            _picture(picture[0]).save(path, quality=95)
        inside = torch.nn.functional.interpolate(truth.inside[None].float(), (SIZE, SIZE))[0, 0] > 0.5
        before, after = (getattr(each, edit.attribute) for each in (edit.source, edit.target))
        source_prompt, target_prompt = edit.prompts
        mapping[key] = {
            "image_path": image_path,
            "original_prompt": source_prompt,
            "editing_prompt": target_prompt.replace(after, f"[{after}]"),
            "editing_instruction": f"change the {edit.attribute} from {before} to {after}",
            "editing_type_id": str(group),
            "blended_word": f"{before} {after}" if before in source_prompt and after in target_prompt else "",
            "mask": encode_mask(inside),
        }
    write_text(folder / MAPPING, json.dumps(mapping, indent=1) + "\n")


def _picture(image: Tensor) -> Image.Image:
    pixels = (image.permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy()
    return Image.fromarray(pixels).resize((SIZE, SIZE), Image.BICUBIC)


@threestudio.register("app-make-toy-pie-bench")
class MakeToyPieBench(Configurable):
    """Write toy pictures in the folder layout of PIE-Bench, all ten groups; --run pie-bench reads it."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the folder."""

        out: str = "outputs/toy-pie-bench"
        """Where it goes."""
        render_size: int = SIZE
        """Side at which scenes are rendered, pixels."""
        scene_seed: int = 3
        """Of the toy scenes."""

    def __call__(self, experiment: object) -> int:
        """Write it."""
        write_toy_pie_bench(Path(self.cfg.out), self.cfg.render_size, self.cfg.scene_seed)
        threestudio.info(f"{len(TOY_ENTRIES)} pictures are in {self.cfg.out}.")
        return 0
