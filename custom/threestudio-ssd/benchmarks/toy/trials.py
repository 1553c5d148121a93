"""Many toy edits side by side: each moves as it would alone, and the network sees all of them in one batch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ...cameras import Cameras
from ...data import ViewPlan
from ...diffusion import PromptEmbeds
from ...edits.edit import Edit
from ...edits.image_edit import ImageBatchEdit
from ...edits.scene_edit import distil, kind_of, scene_under_edit
from ...edits.strength import at_strength
from ...guidance import EditGuidance, guidance_class, prompts_class
from ...metrics import ColorReading, edit_regions
from ...toyworld import PART_OBJECT, build_scene
from ...toyworld.edits import EDITS, SHAPE_EDITS, ToyEdit
from ...toyworld.judge import target_probability
from ...toyworld.splat import to_gaussians
from ...toyworld.truth import Truth, make_truth, part_coverage, shots
from ...toyworld.views import capture_views, held_out_orbit, single_view

HELD_OUT_SIZE = 64
"""Side of the views that judge a scene, pixels."""


@dataclass(frozen=True)
class Trial:
    """One edit with one seed, which decides both the scene and the noise."""

    edit: ToyEdit
    seed: int
    scene_seed: int


@dataclass
class Outcome:
    """What came of a trial: the result at the truth's cameras, its way there, its share of the costs, its colours."""

    trial: Trial
    truth: Truth
    images: Float[Tensor, "c 3 h w"]
    probabilities: list[tuple[int, float | None]] = field(default_factory=list)
    noise_predictions: float = 0.0
    encodes: float = 0.0
    seconds: float = 0.0
    colors: ColorReading = ColorReading(None, None, None)
    figures: dict[str, float | None] = field(default_factory=dict)
    """More columns of its row."""


@dataclass(frozen=True)
class Batch:
    """Trials under one guidance.

    Attributes:
        trials: What is edited.
        truths: What each should look like.
        edit: All of them, side by side.
        images: Gives each trial's result at its truth's cameras, (c 3 h w) in [0, 1].
        guidance: Network and score, the same for all.
        colors: Gives the colours of each scene's Gaussians; none for images.
    """

    trials: Sequence[Trial]
    truths: Sequence[Truth]
    edit: Edit
    images: Callable[[], list[Tensor]]
    guidance: EditGuidance
    colors: Callable[[], list[ColorReading]]


def picture_batch(trials: Sequence[Trial], cfg: DictConfig, use_masks: bool = False) -> Batch:
    """Edits of single renders, each from another side.

    Args:
        trials: What to edit.
        cfg: ``system`` of an image edit; image, prompts, seed and mask are the trials' own.
        use_masks: Whether edits of the object are masked to it.
    """
    cfg = at_strength(cfg)
    guidance, embeddings = _load(trials, cfg)
    backbone = guidance.backbone
    views = [picture_view(trial, backbone.image_size) for trial in trials]
    truths = [make_truth(trial.edit, trial.scene_seed, view) for trial, view in zip(trials, views, strict=True)]
    masks = None
    if use_masks:
        masks = torch.stack([_object_mask(trial, view) for trial, view in zip(trials, views, strict=True)])
        masks = masks.to(backbone.device)
    sources = torch.cat([truth.source for truth in truths]).to(backbone.device)
    seeds = [trial.seed for trial in trials]
    edit = ImageBatchEdit(sources, guidance, embeddings, cfg, seeds, masks)
    unread = [ColorReading(None, None, None)] * len(trials)
    return Batch(trials, truths, edit, lambda: list(edit.result().cpu().split(1)), guidance, lambda: unread)


def scene_batch(trials: Sequence[Trial], cfg: DictConfig, use_masks: bool = False, *, num_views: int = 24) -> Batch:
    """Edits of whole scenes.

    Args:
        trials: What to edit.
        cfg: Experiment of a scene edit, with its ``system`` and ``data``; scene, cameras, prompts, seed and mask are
            the trials' own.
        use_masks: Whether edits of the object are masked to it.
        num_views: Views of each scene's capture.
    """
    system = at_strength(cfg.system)
    guidance, embeddings = _load(trials, system)
    backbone, held_out = guidance.backbone, held_out_orbit(HELD_OUT_SIZE)
    capture = capture_views(num_views, backbone.image_size)
    scenes, size = [], (0, 0)
    for trial in trials:
        toy = build_scene(trial.edit.source, trial.scene_seed)
        gaussians = to_gaussians(toy).to(backbone.device)
        is_object = torch.from_numpy(toy.parts == PART_OBJECT).to(backbone.device)
        is_selected = is_object if use_masks and trial.edit.has_mask else torch.ones_like(is_object)
        plan = ViewPlan(OmegaConf.merge(cfg.data, {"seed": trial.seed}), capture)
        views = plan.views(gaussians, backbone.image_size, backbone.size_multiple)
        views, size = plan.cropped(views, gaussians, is_selected), views.size
        kind = kind_of(system, *trial_prompts(trial, guidance.reads_image), guidance.reads_image)
        scene = scene_under_edit(system, gaussians, is_selected, views, trial.seed, backbone.downscale, kind)
        scenes.append(scene)
    background = torch.tensor(list(system.background), dtype=torch.float32, device=backbone.device)
    edit = distil(
        system, guidance, embeddings, scenes, size, background,
        views_per_step=cfg.data.batch_size,
    )  # fmt: skip
    truths = [make_truth(trial.edit, trial.scene_seed, held_out) for trial in trials]

    def images() -> list[Tensor]:
        return [shots(scene.editable.result().to("cpu"), held_out) for scene in scenes]

    def colors() -> list[ColorReading]:
        return [edit.color_readings(scene)[1] for scene in scenes]

    return Batch(trials, truths, edit, images, guidance, colors)


def picture_view(trial: Trial, size: int) -> Cameras:
    """The camera of a picture edit: another side for each edit and seed."""
    return single_view(list(EDITS | SHAPE_EDITS).index(trial.edit.name) + 7 * trial.seed, size)


def _object_mask(trial: Trial, view: Cameras) -> Float[Tensor, "1 h w"]:
    covered = part_coverage(build_scene(trial.edit.source, trial.scene_seed), PART_OBJECT, view)
    return edit_regions(covered)[0].float() if trial.edit.has_mask else torch.ones_like(covered)


def trial_prompts(trial: Trial, is_instruction: bool) -> tuple[str, str]:
    """Source and target of a trial: captions, or for a model that reads the source image an instruction as target."""
    source, target = trial.edit.prompts
    return source, trial.edit.instruction if is_instruction else target


def _load(trials: Sequence[Trial], system: DictConfig) -> tuple[EditGuidance, dict[str, PromptEmbeds]]:
    """The guidance, and the prompts by name, one row for each trial."""
    guidance = guidance_class(system.guidance_type)(system.guidance)
    prompts = prompts_class(system.prompt_processor_type)(system.prompt_processor)
    pairs = [trial_prompts(trial, guidance.reads_image) for trial in trials]
    return guidance, prompts.rows(guidance.backbone, guidance.prompt_names, pairs)


def run_batch(batch: Batch, read: Callable, num_probes: int = 5) -> list[Outcome]:
    """Go through all steps and look at the results now and then.

    Args:
        batch: What to run.
        read: The attribute classifier.
        num_probes: How often the probability of the target attribute is read on the way, the end included.

    Returns:
        One outcome a trial; the costs of the batch are shared evenly, and looking at results does not count.
    """
    edit, counters, num_steps = batch.edit, batch.guidance.backbone.counters, batch.edit.num_steps
    edit.prepare()
    optimizers = edit.make_optimizers()
    counters.reset()
    probes = {round(num_steps * (index + 1) / num_probes) for index in range(num_probes)}
    curves: list[list[tuple[int, float | None]]] = [
        [(0, target_probability(truth.source, truth, read))] for truth in batch.truths
    ]
    seconds, images = 0.0, []
    for step in range(num_steps):
        begin = time.monotonic()
        edit.step(step, optimizers)
        seconds += time.monotonic() - begin
        if step + 1 in probes:
            images = batch.images()
            for curve, image, truth in zip(curves, images, batch.truths, strict=True):
                curve.append((step + 1, target_probability(image, truth, read)))
    share = 1 / len(batch.trials)
    return [
        Outcome(
            trial, truth, image, curve, counters.rows * share, counters.encoded_images * share, seconds * share, colors
        )
        for trial, truth, image, curve, colors in zip(
            batch.trials, batch.truths, images, curves, batch.colors(), strict=True
        )
    ]


def steps_to_share(curve: Sequence[tuple[int, float | None]], share: float = 0.9, least: float = 0.05) -> float | None:
    """Steps, interpolated, until a probability has made this share of its way from first to last value.

    None where it has not risen (by ``least``): a method that moves away from the target is not fast.
    """
    points = [(step, probability) for step, probability in curve if probability is not None]
    if not points or points[-1][1] - points[0][1] < least:
        return None
    wanted = points[0][1] + share * (points[-1][1] - points[0][1])
    for (before, low), (after, high) in zip(points, points[1:], strict=False):
        if high >= wanted:
            return before + (after - before) * (wanted - low) / (high - low) if high != low else float(after)
    return float(points[-1][0])
