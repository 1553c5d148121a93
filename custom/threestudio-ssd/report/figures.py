"""What the figures of a report mean: each key's name for people, its unit, and one sentence."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A line of a page: what was measured, its value with its unit, and what that means."""

    label: str
    value: str
    meaning: str = ""


def seconds(value: float) -> str:
    """A time, in the units that people use."""
    minutes, rest = divmod(round(value), 60)
    if value < 60:
        return f"{value:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(value: float) -> str:
    """Bytes, in kB, MB or GB."""
    if value < 1e6:
        return f"{value / 1e3:.0f} kB"
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def _whole(value: float) -> str:
    return f"{value:,}"


def _levels(value: float) -> str:
    return f"{value * 255:.2g} of 255" if value * 255 < 10 else f"{value * 255:.0f} of 255"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _plain(value: float) -> str:
    return f"{value:.3f}"


FIGURES: dict[str, tuple[str, Callable[[Any], str], str]] = {
    "change_inside": (
        "Change inside",
        _levels,
        "Mean difference of the pixels that show the selection, in levels of 8 bits.",
    ),
    "change_outside": (
        "Change outside",
        _levels,
        "The same where the selection is not seen; next to nothing is right.",
    ),
    "changed_share": ("Changed share", _share, "How much of what shows the selection changed by more than one level."),
    "psnr_outside": (
        "PSNR outside",
        _decibels,
        "How well the rest is kept; from 40 dB on the error is below 1 % of the range.",
    ),
    "clip_directional_similarity": (
        "Directional CLIP",
        _plain,
        "Whether the pictures moved as the words did, from -1 to 1; values of different CLIPs cannot be compared.",
    ),
    "clip_similarity": ("CLIP after", _plain, "How well the result fits the target's words, from -1 to 1."),
    "clip_similarity_before": (
        "CLIP before",
        _plain,
        "How well the source fits the target's words; after should be above it.",
    ),
    "psnr": ("PSNR", _decibels, "How close renders are to the photographs; 25 dB and more look alike."),
    "ssim": ("SSIM", _plain, "The same for structure, up to 1."),
    "speckle_visible": (
        "Speckle",
        _plain,
        "How far a Gaussian's colour is from its neighbours', 0 to 1, where views look.",
    ),
    "speckle_visible_before": (
        "Speckle before",
        _plain,
        "The same before; far less means that colours became mottled.",
    ),
    "speckle_hidden": ("Hidden speckle", _plain, "The same where training views hardly look."),
    "speckle_hidden_before": ("Hidden speckle before", _plain, "The same before."),
    "out_of_range": ("Colours out of range", _share, "How many of the selection's colours no screen can show."),
    "out_of_range_before": ("Out of range before", _share, "The same before."),
    "num_selected": ("Gaussians selected", _whole, "How many could change."),
    "num_removed": ("Gaussians removed", _whole, "How many were taken out."),
    "num_added": ("Gaussians added", _whole, "How many were put in to close the hole."),
    "num_gaussians_before": ("Gaussians before", _whole, "How many the scene had."),
    "num_gaussians_after": ("Gaussians after", _whole, "How many it has now."),
    "num_gaussians": ("Gaussians", _whole, "How many the fitted scene has."),
    "photos": ("Photographs", _whole, "How many it was fitted to."),
}
"""Key of report.json -> its name, how it is written, what it means; in the order of the page."""
COSTS: dict[str, tuple[str, Callable[[Any], str], str]] = {
    "seconds": ("Time", seconds, "Of the steps; loading, report and video come on top."),
    "peak_memory_bytes": (
        "Memory",
        size,
        "The most that was used: of the GPU where there is one, else of the process.",
    ),
    "steps": ("Steps", _whole, "How often something moved."),
    "renders": ("Renders", _whole, "Images of the scene that the steps made."),
    "network_calls": (
        "Network calls",
        _whole,
        "How often the diffusion model was asked; a call may hold several predictions.",
    ),
    "noise_predictions": (
        "Network evaluations",
        _whole,
        "Noise predictions in these calls: where the time of an edit goes.",
    ),
    "encodes": ("Encoder calls", _whole, "How often images were turned into latents."),
}
"""The same for what a run cost."""
SHOWN_ELSEWHERE = {"verdicts", "warnings", "command", "source_prompt", "target_prompt", "changed_visibly", "held_out"}
MISSING = "not seen"


def figures_of(report: Mapping[str, Any]) -> list[Figure]:
    """What was measured, in words."""
    return _told(report, FIGURES)


def costs_of(report: Mapping[str, Any]) -> list[Figure]:
    """What the run cost, in words."""
    return _told(report, COSTS)


def others_of(report: Mapping[str, Any]) -> list[Figure]:
    """Everything else that a report holds, by its keys; a group by the keys in it."""
    rest = {key: value for key, value in report.items() if key not in FIGURES | COSTS | dict.fromkeys(SHOWN_ELSEWHERE)}
    return [
        Figure(key if name is None else f"{key}.{name}", "-" if value is None or value == [] else str(value))
        for key, group in rest.items()
        for name, value in (group.items() if isinstance(group, dict) else [(None, group)])
    ]


def _told(report: Mapping[str, Any], table: Mapping[str, tuple[str, Callable[[Any], str], str]]) -> list[Figure]:
    return [
        Figure(label, MISSING if report[key] is None else write(report[key]), meaning)
        for key, (label, write, meaning) in table.items()
        if key in report
    ]
