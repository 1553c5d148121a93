"""A toy folder in the layout of PIE-Bench: images of toy scenes in all ten groups, with their truths."""

from pathlib import Path

import torch
from PIL import Image

from ...files import whole_file, write_json
from ...toyworld.edits import toy_edit
from ...toyworld.truth import make_truth
from ...toyworld.views import single_view
from .dataset import IMAGES, MAPPING, SIZE, encode_mask

FOLDERS = (
    "0_random_140", "1_change_object_80", "2_add_object_80", "3_delete_object_80", "4_change_attribute_content_40",
    "5_change_attribute_pose_40", "6_change_attribute_color_40", "7_change_attribute_material_40",
    "8_change_background_80", "9_change_style_80",
)  # fmt: skip
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
        truth = make_truth(edit, scene_seed, single_view(number, render_size))
        key = f"{group}{number:011d}"
        image_path = (
            f"{FOLDERS[group]}/{key}.jpg" if group == 0 else f"{FOLDERS[group]}/1_artificial/4_outdoor/{key}.jpg"
        )
        for place, images in ((IMAGES, truth.source), ("truth_images", truth.target)):
            pixels = (images[0].permute(1, 2, 0).clamp(0, 1) * 255 + 0.5).byte().numpy()
            image = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            with whole_file(folder / place / image_path) as beside:
                image.save(beside, quality=95)
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
    write_json(folder / MAPPING, mapping)
