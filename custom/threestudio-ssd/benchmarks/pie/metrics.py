"""The figures of PIE-Bench: exact definitions, and the published script's quirks where they are asked for."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from ...files import markdown_table
from ...metrics import (
    IDENTICAL_PSNR,
    ClipModel,
    Lpips,
    StructureModel,
    clip_similarity,
    edited_region_similarity,
    load_clip,
    load_lpips,
    load_structure_model,
    lpips,
    mse,
    psnr,
    ssim,
    structure_distance,
    tiny_perceptual_distance,
)
from ...metrics.clip_model import TINY_LABEL
from ...metrics.regions import MaskMode
from .dataset import GROUPS

COLUMNS = {
    "structure": ("Distance x10^3", "lower"),
    "perceptual": ("LPIPS x10^3", "lower"),
    "mse": ("MSE x10^4", "lower"),
    "clip_whole": ("CLIP", "higher"),
    "psnr": ("PSNR", "higher"),
    "ssim": ("SSIM x10^2", "higher"),
    "clip_edited": ("CLIP edited", "higher"),
}
"""Figure -> head, what is better; the first four are the columns of the paper's Table 2."""
TRUTH_COLUMNS = {
    "truth_inside": ("PSNR to truth, inside", "higher"),
    "truth": ("PSNR to truth", "higher"),
}
"""The same of a dataset that has true results."""
STAND_IN_HEADS = {
    "clip_model": {"clip_whole": "tiny-clip", "clip_edited": "tiny-clip edited"},
    "structure_model": {"structure": "tiny-clip self-similarity x10^3"},
    "lpips_net": {"perceptual": "tiny-clip distance x10^3"},
}
"""Key of the run that names an embedded network -> heads of the figures that are then another quantity."""
PUBLISHED_JUDGES = {"clip_model": "ViT-L/14", "structure_model": "facebook/dino-vitb8", "lpips_net": "squeeze"}
EMBEDDED_JUDGES = {"clip_model": "tiny-clip", "structure_model": "tiny-clip", "lpips_net": "tiny"}
AS_PUBLISHED = (
    "as published: pictures enter DINO as 0-255, resized without antialiasing; background figures are means over all "
    "pixels, zeros included; the PSNR of an untouched background is infinite, and so is every mean that it is in; CLIP "
    "sees 8-bit pictures, resized with antialiasing"
)
EXACT = (
    "exact: all pictures in [0, 1], resized with antialiasing; background figures are means over the background's own "
    "pixels; an untouched background counts as 100 dB"
)


@dataclass(frozen=True)
class Judges:
    """The networks behind the figures."""

    clip: ClipModel
    structure: StructureModel
    lpips: Lpips | None
    """None: the perceptual distance on tiny-clip stands in for LPIPS."""

    @property
    def label(self) -> str:
        """What a table has to say about them."""
        distance = self.lpips.label if self.lpips is not None else "a distance on tiny-clip in LPIPS's place"
        return f"CLIP: {self.clip.label}; {self.structure.label}; {distance}"

    @property
    def stand_ins(self) -> list[str]:
        """Keys of the run under which an embedded network stands for the published one."""
        is_embedded = {
            "clip_model": self.clip.label == TINY_LABEL,
            "structure_model": "tiny-clip" in self.structure.label,
            "lpips_net": self.lpips is None,
        }
        return [key for key, is_so in is_embedded.items() if is_so]

    @property
    def heads(self) -> dict[str, str]:
        """Figure -> head of its column: the published name only where the published kind of network made it."""
        heads = {figure: head for figure, (head, _) in COLUMNS.items()}
        for key in self.stand_ins:
            heads |= STAND_IN_HEADS[key]
        return heads


def load_judges(clip_model: str, structure_model: str, lpips_net: str, device: str = "cpu") -> Judges:
    """Load them; ``lpips_net`` may be ``tiny`` for the embedded stand-in."""
    network = None if lpips_net == "tiny" else load_lpips(lpips_net, device=device)
    return Judges(load_clip(clip_model, device), load_structure_model(structure_model, device), network)


def pie_figures(
    source: Float[Tensor, "1 3 h w"], edited: Float[Tensor, "1 3 h w"], mask: Bool[Tensor, "h w"], target_prompt: str,
    judges: Judges, as_published: bool = False,
) -> dict[str, float | None]:  # fmt: skip
    """All columns of one image at the reported scale; None where a region is empty, which means skip it.

    Args:
        source: Original image in [0, 1].
        edited: Result, same size.
        mask: True where the edit belongs.
        target_prompt: Without brackets.
        judges: Networks.
        as_published: Reproduce the published script's quirks, see ``AS_PUBLISHED``.
    """
    background = ~mask[None]
    mask_mode: MaskMode = "zeroed" if as_published else "region"
    if judges.lpips is None:
        perceptual = partial(tiny_perceptual_distance, model=judges.clip)
    else:
        perceptual = partial(lpips, model=judges.lpips)
    clip, seen = judges.clip, edited
    if as_published:
        clip, seen = replace(clip, antialias=True), (edited * 255).round() / 255
    has_background, highest = bool(background.any()), math.inf if as_published else IDENTICAL_PSNR
    where = (edited, source, background)
    region = {
        "perceptual": lambda: 1e3 * float(perceptual(*where, mask_mode=mask_mode)),
        "mse": lambda: 1e4 * float(mse(*where, mask_mode=mask_mode)),
        "psnr": lambda: float(psnr(*where, mask_mode=mask_mode).clamp(max=highest)),
        "ssim": lambda: 1e2 * float(ssim(*where, mask_mode=mask_mode)),
    }
    inside = edited_region_similarity(seen, mask[None], target_prompt, clip)
    how_fed = {"is_input_0_255": as_published, "antialias": not as_published}
    return {
        "structure": 1e3 * float(structure_distance(edited, source, judges.structure, **how_fed)),
        **{name: compute() if has_background else None for name, compute in region.items()},
        "clip_whole": 100 * max(float(clip_similarity(seen, target_prompt, clip)), 0.0),
        "clip_edited": None if inside.isnan() else 100 * max(float(inside), 0.0),
    }


def truth_figures(
    edited: Float[Tensor, "1 3 h w"], truth: Float[Tensor, "1 3 h w"], mask: Bool[Tensor, "h w"]
) -> dict[str, float]:
    """PSNR to the true result in dB: where the edit belongs, and everywhere; at most 100.

    Args:
        edited: Result in [0, 1].
        truth: What it should be, same size.
        mask: True where the edit belongs.
    """
    values = psnr(edited, truth, mask[None], mask_mode="region"), psnr(edited, truth)
    return {name: float(value.clamp(max=IDENTICAL_PSNR)) for name, value in zip(TRUTH_COLUMNS, values, strict=True)}


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """The columns that rows have figures for, as ``COLUMNS``."""
    return COLUMNS | {name: column for name, column in TRUTH_COLUMNS.items() if any(name in row for row in rows)}


def column_heads(columns: Mapping[str, tuple[str, str]], heads: Mapping[str, str]) -> list[str]:
    """Heads with an arrow to what is better; ``heads`` are those of the judges."""
    arrows = {"lower": "↓", "higher": "↑"}
    return [f"{heads.get(figure, head)} {arrows[better]}" for figure, (head, better) in columns.items()]


def pie_table(rows: Sequence[Mapping[str, Any]], name: str, note: str, heads: Mapping[str, str]) -> str:
    """Means over images, all and by group, as Markdown; ``heads`` are those of the judges."""
    columns = columns_of(rows)
    groups = {"all": list(rows)}
    for number, title in enumerate(GROUPS):
        groups[f"{number} {title}"] = [row for row in rows if row["group"] == number]
    lines = [(title, len(members), *means_of(members, columns)) for title, members in groups.items() if members]
    return "\n".join([markdown_table([name, "images", *column_heads(columns, heads)], lines), "", note, ""])


def means_of(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> list[str]:
    """The mean of each column over rows, as text."""
    return [_mean([row.get(column) for row in rows]) for column in columns]


def _mean(values: Sequence[float | str | None]) -> str:
    numbers = [float(value) for value in values if value is not None]
    return f"{statistics.mean(numbers):.2f}" if numbers else "-"


def cut_to_square(image: Tensor, size: int) -> Tensor:
    """The right-most lower square of an image wider than tall: strips of several images end with the edit."""
    return image[..., -size:, -size:] if image.shape[-1] > image.shape[-2] >= size else image
