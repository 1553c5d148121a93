"""A toy folder in the layout of PIE-Bench: images of toy scenes in all ten groups, with their truths."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ...cameras import Cameras
from ...files import whole_file, write_json
from ...metrics import edit_regions
from ...toyworld.captions import describe, describe_empty
from ...toyworld.splat import to_gaussians
from ...toyworld.truth import PARTS, part_coverage, shots
from ...toyworld.views import single_view, words_of_views
from ...toyworld.vocabulary import Attributes
from ...toyworld.world import PART_OBJECT, build_scene, object_yaw_deg
from .dataset import IMAGES, MAPPING, SIZE, TRUTHS, encode_mask

FOLDERS = (
    "0_random_140", "1_change_object_80", "2_add_object_80", "3_delete_object_80", "4_change_attribute_content_40",
    "5_change_attribute_pose_40", "6_change_attribute_color_40", "7_change_attribute_material_40",
    "8_change_background_80", "9_change_style_80",
)  # fmt: skip
ADD, REMOVE, TURN = "add", "remove", "turn"
TOY_ENTRIES = (
    (0, "red plain ball grass day", "color=blue"),
    (0, "red plain snowman grass day", "ground=snow"),
    (0, "green plain tree grass day", "time=sunset"),
    (0, "yellow plain cylinder sand day", "object=cone"),
    (0, "purple plain cone wood day", "pattern=dotted"),
    (0, "blue plain cube sand day", ADD),
    (1, "red plain ball grass day", "object=cube"),
    (1, "pink plain cube wood day", "object=donut"),
    (1, "yellow plain cylinder sand day", "object=cone"),
    (1, "blue plain snowman sand day", "object=ball"),
    (1, "green plain tree snow day", "object=mushroom"),
    (1, "red plain car grass day", "object=house"),
    (2, "red plain ball grass day", ADD),
    (2, "blue plain cube snow day", ADD),
    (2, "yellow plain house sand day", ADD),
    (2, "green plain tree wood day", ADD),
    (2, "orange plain donut grass sunset", ADD),
    (2, "pink plain mushroom snow night", ADD),
    (3, "red plain car sand day", REMOVE),
    (3, "blue plain snowman grass day", REMOVE),
    (3, "white plain cone wood day", REMOVE),
    (3, "purple plain ball snow day", REMOVE),
    (3, "green plain cylinder sand sunset", REMOVE),
    (3, "orange plain house grass night", REMOVE),
    (4, "green striped house grass day", "pattern=plain"),
    (4, "red dotted ball sand day", "pattern=striped"),
    (4, "blue checkered cube grass day", "pattern=plain"),
    (4, "yellow striped cylinder snow day", "pattern=checkered"),
    (4, "purple dotted cone wood day", "pattern=plain"),
    (4, "orange checkered donut grass day", "pattern=dotted"),
    (5, "red plain car grass day", f"{TURN}=90"),
    (5, "blue plain house sand day", f"{TURN}=90"),
    (5, "white plain snowman grass day", f"{TURN}=180"),
    (5, "yellow plain car snow day", f"{TURN}=180"),
    (5, "green plain house wood day", f"{TURN}=135"),
    (5, "pink plain snowman sand sunset", f"{TURN}=135"),
    (6, "green plain car sand day", "color=red"),
    (6, "yellow plain mushroom snow day", "color=purple"),
    (6, "white plain cube wood day", "color=green"),
    (6, "blue plain house grass sunset", "color=yellow"),
    (6, "orange plain donut sand night", "color=pink"),
    (6, "purple plain cone wood day", "color=white"),
    (7, "red plain cube sand day", "pattern=checkered"),
    (7, "orange plain cylinder grass day", "pattern=striped"),
    (7, "blue plain ball snow day", "pattern=striped"),
    (7, "green plain house grass day", "pattern=checkered"),
    (7, "pink plain mushroom wood day", "pattern=dotted"),
    (7, "yellow plain donut sand day", "pattern=striped"),
    (8, "blue plain house snow day", "ground=sand"),
    (8, "white plain car wood day", "ground=grass"),
    (8, "yellow plain donut sand day", "ground=wood"),
    (8, "red plain ball grass day", "ground=snow"),
    (8, "green plain tree sand day", "ground=snow"),
    (8, "purple plain cube grass sunset", "ground=sand"),
    (9, "green plain tree grass day", "time=sunset"),
    (9, "white plain donut sand day", "time=night"),
    (9, "purple plain cube snow night", "time=day"),
    (9, "red plain cone sand sunset", "time=night"),
    (9, "blue plain ball wood day", "time=sunset"),
    (9, "yellow plain house grass day", "time=night"),
)  # fmt: skip
"""Group of the benchmark, what a scene shows, and its change: an attribute, or the object's coming, going or turning by
so many degrees. What is added is what the words say."""


class Texts(NamedTuple):
    """What an entry says of itself."""

    source: str
    target: str
    instruction: str
    marked: str
    """The part of the target prompt that is new."""
    blended: str
    """A word of each prompt that the edit is about; empty where one of them has none."""

    @property
    def marked_target(self) -> str:
        """The target prompt with brackets round what is new, as the benchmark has it."""
        return re.sub(rf"\b({self.marked})\b", r"[\1]", self.target) if self.marked else self.target


@dataclass(frozen=True)
class ToyEntry:
    """One image: a scene, its change, and the camera's place."""

    words: str
    change: str
    seed: int
    views: Cameras

    @property
    def scene(self) -> Attributes:
        """What its words show."""
        return Attributes.from_words(self.words)

    @property
    def kind(self) -> str:
        """An attribute, or one of ``ADD``, ``REMOVE`` and ``TURN``."""
        return self.change.partition("=")[0]

    @property
    def turn_deg(self) -> float:
        """By how much the object turns."""
        return float(self.change.partition("=")[2]) if self.kind == TURN else 0.0

    @property
    def target(self) -> Attributes:
        """What the edited scene shows."""
        is_same = self.kind in (ADD, REMOVE, TURN)
        return self.scene if is_same else self.scene._replace(**{self.kind: self.change.partition("=")[2]})

    def texts(self) -> Texts:
        """Prompts, instruction and the words that the edit is about."""
        scene, full = self.scene, describe(self.scene)
        thing, empty = scene.object, describe_empty(scene.ground, scene.time)
        phrase = f"{'an' if scene.color[0] in 'aeiou' else 'a'} {scene.color} {thing}"
        if self.kind == ADD:
            return Texts(empty, full, f"add {phrase}", phrase, "")
        if self.kind == REMOVE:
            return Texts(full, empty, f"remove the {thing}", "", "")
        if self.kind == TURN:
            yaw = object_yaw_deg(self.seed)
            before, after = (words_of_views(self.views, thing, yaw + turn)[0] for turn in (0.0, self.turn_deg))
            return Texts(f"{full} {before}", f"{full} {after}", f"turn the {thing}", after, f"{thing} {thing}")
        before, after, target = getattr(scene, self.kind), getattr(self.target, self.kind), describe(self.target)
        are_said = before in full and after in target
        about_object = f"{thing} {thing}" if self.kind in PARTS and self.kind != "ground" else ""
        blended = f"{before} {after}" if are_said else about_object
        return Texts(full, target, f"change the {self.kind} from {before} to {after}", after, blended)

    def pictures(self) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w"], Bool[Tensor, "h w"]]:
        """Source and truth in [0, 1], and where the edit is: the object, the ground, or for light everything."""
        scenes = [
            build_scene(self.scene, self.seed, has_object=self.kind != ADD),
            build_scene(self.target, self.seed, turn_deg=self.turn_deg, has_object=self.kind != REMOVE),
        ]
        source, truth = (shots(to_gaussians(scene), self.views)[0] for scene in scenes)
        if self.kind == "time":
            return source, truth, torch.ones_like(source[0], dtype=torch.bool)
        part = PARTS.get(self.kind, PART_OBJECT)
        covered = [part_coverage(scene, part, self.views) for scene in scenes if (scene.parts == part).any()]
        inside, _ = edit_regions(torch.stack(covered).amax(0))
        return source, truth, inside[0]


def write_toy_pie_bench(
    folder: Path, render_size: int = SIZE, scene_seed: int = 3, numbers: Sequence[int] = range(len(TOY_ENTRIES))
) -> None:
    """A folder of the benchmark's layout with toy scenes in all ten groups, and truths beside them (``truth_images``).

    Args:
        folder: Where it goes.
        render_size: Side at which scenes are rendered before they get the benchmark's 512 pixels.
        scene_seed: Of the first toy scene; each has the next.
        numbers: Which of ``TOY_ENTRIES``.
    """
    mapping = {}
    for number in numbers:
        group, words, change = TOY_ENTRIES[number]
        entry = ToyEntry(words, change, scene_seed + number, single_view(number, render_size))
        key = f"{group}{number:011d}"
        image_path = (
            f"{FOLDERS[group]}/{key}.jpg" if group == 0 else f"{FOLDERS[group]}/1_artificial/4_outdoor/{key}.jpg"
        )
        source, truth, inside = entry.pictures()
        for place, picture in ((IMAGES, source), (TRUTHS, truth)):
            pixels = (picture.permute(1, 2, 0).clamp(0, 1) * 255 + 0.5).byte().numpy()
            image = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            with whole_file(folder / place / image_path) as beside:
                image.save(beside, quality=95)
        texts = entry.texts()
        mapping[key] = {
            "image_path": image_path,
            "original_prompt": texts.source,
            "editing_prompt": texts.marked_target,
            "editing_instruction": texts.instruction,
            "editing_type_id": str(group),
            "blended_word": texts.blended,
            "mask": encode_mask(interpolate(inside[None, None].float(), (SIZE, SIZE))[0, 0] > 0.5),
        }
    write_json(folder / MAPPING, mapping)
