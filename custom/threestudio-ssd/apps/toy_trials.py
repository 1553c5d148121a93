"""Many toy edits side by side: each moves as it would alone, and the network sees all of them in one batch."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from threestudio.utils.misc import C

from ..cameras import Cameras
from ..data import view_order
from ..diffusion import PromptEmbeds
from ..guidance import EditGuidance
from ..guidance.prompts import NEGATIVE_PROMPT
from ..rendering import coverage, render
from ..systems import EditablePictures
from ..systems.detail import new_detail
from ..systems.editable import EditableGaussians
from ..systems.inward import inward_clamp
from ..systems.visible_adam import COLORS, VisibleAdam, color_step_weights
from ..toyworld import ORBIT_RADIUS, PART_OBJECT, build_scene, orbit_camera, sample_camera
from ..toyworld.splat import to_cameras, to_gaussians
from .toy_edits import EDITS, ToyEdit
from .toy_truth import INSIDE, Truth, held_out_orbit, make_truth, part_coverage, shots, target_probability

CAMERA_SEED, ENCODE_BATCH = 77, 64


@dataclass(frozen=True)
class Trial:
    """One edit with one seed, which decides both the scene and the noise."""

    edit: ToyEdit
    seed: int
    scene_seed: int


@dataclass
class Outcome:
    """What came of a trial: the result at the truth's cameras, its way there, and its share of the costs."""

    trial: Trial
    truth: Truth
    images: Float[Tensor, "c 3 h w"]
    probabilities: list[tuple[int, float | None]] = field(default_factory=list)
    noise_predictions: float = 0.0
    encodes: float = 0.0
    seconds: float = 0.0


class Trials(ABC):
    """A batch of trials under one guidance.

    Args:
        trials: What to edit.
        guidance: Network and score, the same for all.
    """

    def __init__(self, trials: Sequence[Trial], guidance: EditGuidance) -> None:
        self.trials, self.guidance = list(trials), guidance
        self.seeds = [trial.seed for trial in trials]
        self.prompts = prompt_rows(guidance, [trial.edit for trial in trials])

    @abstractmethod
    def step(self, step: int, num_steps: int) -> None:
        """One optimisation step of all trials."""

    @abstractmethod
    def images(self) -> list[Float[Tensor, "c 3 h w"]]:
        """Each trial's result at its truth's cameras."""

    truths: list[Truth]


class PictureTrials(Trials):
    """Edits of single renders, each from another side.

    Args:
        trials: What to edit.
        guidance: Network and score.
        settings: ``system`` of a picture edit: parametrisation, latent_steps, learning_rate.
        use_masks: Whether edits of the object are masked to it.
    """

    def __init__(
        self, trials: Sequence[Trial], guidance: EditGuidance, settings: DictConfig, use_masks: bool = False
    ) -> None:
        super().__init__(trials, guidance)
        backbone, self.settings = guidance.backbone, settings
        views = [picture_view(trial, backbone.image_size) for trial in trials]
        self.truths = [make_truth(t.edit, t.scene_seed, view) for t, view in zip(trials, views, strict=True)]
        masks = None
        if use_masks:
            shown = [self._object(trial, view) for trial, view in zip(trials, views, strict=True)]
            masks = torch.stack(shown).to(backbone.device)
        sources = torch.cat([truth.source for truth in self.truths]).to(backbone.device)
        self.editable = EditablePictures(backbone, sources, settings.parametrisation, masks)
        self.optimizer = self.editable.make_optimizer(settings.latent_steps)

    @staticmethod
    def _object(trial: Trial, view: Cameras) -> Float[Tensor, "1 h w"]:
        shown = part_coverage(build_scene(trial.edit.source, trial.scene_seed), PART_OBJECT, view)
        return (shown > INSIDE).float() if trial.edit.has_mask else torch.ones_like(shown)

    def step(self, step: int, num_steps: int) -> None:
        """One batch of predictions, one step of the optimiser."""
        loss, _ = self.editable.step(
            self.guidance, self.prompts, step=step, num_steps=num_steps, seed=self.seeds,
            detail_weight=C(self.settings.lambda_detail, 0, step),
        )  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = C(self.settings.learning_rate, 0, step)
        self.optimizer.step()

    def images(self) -> list[Float[Tensor, "c 3 h w"]]:
        """One picture each."""
        return list(self.editable.result().cpu().split(1))


class SceneTrials(Trials):
    """Edits of whole scenes, one random view of each a step.

    Args:
        trials: What to edit.
        guidance: Network and score.
        settings: ``system`` of a scene edit: learning_rates, color_steps, adam_betas, lambda_*.
        use_masks: Whether edits of the object are masked to it.
        num_views: Training views of each scene.
        view_size: Side of the held-out views, pixels.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        guidance: EditGuidance,
        settings: DictConfig,
        use_masks: bool = False,
        *,
        num_views: int = 24,
        view_size: int = 64,
    ) -> None:
        super().__init__(trials, guidance)
        self.settings, self.held_out = settings, held_out_orbit(view_size)
        size, rng = guidance.backbone.image_size, np.random.default_rng(CAMERA_SEED)
        self.views = to_cameras([sample_camera(rng) for _ in range(num_views)], size, size)
        self.truths = [make_truth(trial.edit, trial.scene_seed, self.held_out) for trial in trials]
        self.editables = [self._editable(trial, use_masks) for trial in trials]
        self.optimizers = [self._optimizer(editable) for editable in self.editables]
        self.starts = [
            {name: value.detach().clone() for name, value in each.selected.items()} for each in self.editables
        ]
        self._encode_sources()

    @staticmethod
    def _editable(trial: Trial, use_masks: bool) -> EditableGaussians:
        scene = build_scene(trial.edit.source, trial.scene_seed)
        is_object = torch.from_numpy(scene.parts == PART_OBJECT)
        is_masked = use_masks and trial.edit.has_mask
        return EditableGaussians(to_gaussians(scene), is_object if is_masked else torch.ones_like(is_object))

    @torch.no_grad()
    def _encode_sources(self) -> None:
        backbone = self.guidance.backbone
        images = torch.stack([shots(each.source, self.views) for each in self.editables])  # (b v 3 h w)
        flat = images.flatten(0, 1).to(backbone.device).split(ENCODE_BATCH)
        count = images.shape[:2]
        self.images_src = self.shown = None
        if self.settings.lambda_detail:
            shown = [coverage(each.source, each.is_selected, self.views) for each in self.editables]
            self.images_src, self.shown = images, torch.stack(shown)[:, :, None]  # (b v 3 h w), (b v 1 h w)
        self.latents_src = torch.cat([backbone.encode(part) for part in flat]).unflatten(0, count)
        self.conditions = None
        if self.guidance.reads_image:
            self.conditions = torch.cat([backbone.encode_condition(part) for part in flat]).unflatten(0, count)

    def _optimizer(self, editable: EditableGaussians) -> VisibleAdam:
        groups = editable.optimizer_groups(self.settings.learning_rates)
        if self.settings.color_steps == "visible-weight":
            weights = color_step_weights(editable.source, editable.is_selected, self.views)
            for group in groups:
                if group["name"] in COLORS:
                    group["visible_weights"] = weights
        return VisibleAdam(groups, betas=tuple(self.settings.adam_betas))

    def step(self, step: int, num_steps: int) -> None:
        """Render one view of each scene; one encode, one batch of predictions, one backward; step every optimiser."""
        rows = [int(view_order(len(self.views), step, 1, seed)) for seed in self.seeds]
        every = torch.arange(len(rows)), torch.tensor(rows)
        black = torch.zeros(3)
        renders = [render(e.scene(), self.views[[row]], black)[0] for e, row in zip(self.editables, rows, strict=True)]
        images = torch.cat(renders).permute(0, 3, 1, 2).to(self.guidance.backbone.device)
        output = self.guidance.latent_step(
            self.guidance.backbone.encode(inward_clamp(images)), self.latents_src[every], self.prompts,
            step=step, num_steps=num_steps, seed=self.seeds,
            image_condition=None if self.conditions is None else self.conditions[every],
        )  # fmt: skip
        loss = C(self.settings.lambda_guidance, 0, step) * output.loss
        if self.images_src is not None:
            change = images - self.images_src[every].to(images)
            detail = new_detail(change, self.shown[every].to(images), self.guidance.backbone.downscale)
            loss = loss + C(self.settings.lambda_detail, 0, step) * detail.pow(2).sum()
        loss = loss + self._anchors()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.set_rates(self.settings.learning_rates, ORBIT_RADIUS, lambda rate: C(rate, 0, step))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def _anchors(self) -> Tensor:
        total = torch.zeros(())
        for editable, start in zip(self.editables, self.starts, strict=True):
            for name, value in editable.selected.items():
                if self.settings.lambda_anchor[name] and value.numel():
                    total = total + self.settings.lambda_anchor[name] * (value - start[name]).pow(2).mean()
        return total

    def images(self) -> list[Float[Tensor, "c 3 h w"]]:
        """Held-out views."""
        return [shots(editable.result(), self.held_out) for editable in self.editables]


def picture_view(trial: Trial, size: int) -> Cameras:
    """The camera of a picture edit: another side for each edit and seed."""
    place = list(EDITS).index(trial.edit.name) + 7 * trial.seed
    return to_cameras([orbit_camera(47.0 * place + 22.5, (12, 32)[place % 2])], size, size)


def prompt_rows(guidance: EditGuidance, edits: Sequence[ToyEdit]) -> dict[str, PromptEmbeds]:
    """Prompts by name, one row for each edit; then the text encoder is freed.

    The target is a caption, or for a model that reads the source picture the instruction that leads there.
    """
    backbone = guidance.backbone
    texts = {
        "src": [edit.prompts[0] for edit in edits],
        "tgt": [edit.instruction if guidance.reads_image else edit.prompts[1] for edit in edits],
        "null": [""] * len(edits),
        "neg": [NEGATIVE_PROMPT] * len(edits),
    }
    rows = {name: backbone.encode_prompts(texts[name]) for name in sorted(guidance.prompt_names)}
    backbone.free_text_encoder()
    return rows


def run_trials(trials: Trials, num_steps: int, read: Callable, num_probes: int = 5) -> list[Outcome]:
    """Go through all steps and look at the results now and then.

    Args:
        trials: What to run.
        num_steps: Length of the run.
        read: The attribute classifier.
        num_probes: How often the probability of the target attribute is read on the way, the end included.

    Returns:
        One outcome a trial; the costs of the batch are shared evenly, and looking at results does not count.
    """
    counters = trials.guidance.backbone.counters
    counters.reset()
    probes = {round(num_steps * (index + 1) / num_probes) for index in range(num_probes)}
    curves: list[list[tuple[int, float | None]]] = [
        [(0, target_probability(truth.source, truth, read))] for truth in trials.truths
    ]
    seconds, images = 0.0, []
    for step in range(num_steps):
        begin = time.monotonic()
        trials.step(step, num_steps)
        seconds += time.monotonic() - begin
        if step + 1 in probes:
            images = trials.images()
            for curve, image, truth in zip(curves, images, trials.truths, strict=True):
                curve.append((step + 1, target_probability(image, truth, read)))
    share = 1 / len(trials.trials)
    return [
        Outcome(trial, truth, image, curve, counters.rows * share, counters.encoded_images * share, seconds * share)
        for trial, truth, image, curve in zip(trials.trials, trials.truths, images, curves, strict=True)
    ]


def steps_to_share(curve: Sequence[tuple[int, float | None]], share: float = 0.9, least: float = 0.05) -> float | None:
    """Steps, interpolated, until a probability has made this share of its way from first to last value.

    None where it has not risen (by ``least``): a method that moves away from the target is not fast.
    """
    if curve[0][1] is None or curve[-1][1] - curve[0][1] < least:
        return None
    wanted = curve[0][1] + share * (curve[-1][1] - curve[0][1])
    for (before, low), (after, high) in zip(curve, curve[1:], strict=False):
        if high >= wanted:
            return before + (after - before) * (wanted - low) / (high - low) if high != low else float(after)
    return float(curve[-1][0])
