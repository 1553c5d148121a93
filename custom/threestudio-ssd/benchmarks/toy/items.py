"""Methods on toy edits, item by item: one method, one seed, pictures or scenes, all edits in batches. Resumable."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf

import threestudio
from threestudio.utils.config import load_config

from ...errors import ConfigError
from ...guidance import build_score
from ...images import save_image
from ...toyworld.classifier import load_classifier
from ...toyworld.edits import toy_edit
from ...toyworld.judge import judge_fingerprint, judge_images
from ..fingerprint import CANNOT_CHANGE_RESULTS, fingerprint, is_below, kept, leaves
from ..grids import image_name
from .shapes import run_shape
from .trials import Outcome, Trial, picture_batch, run_batch, scene_batch, steps_to_share

Kind = Literal["picture", "scene", "shape"]
OF_TRIALS = frozenset({
    "seed", "trainer", "system.seed", "system.prompt_processor.source_prompt", "system.prompt_processor.target_prompt",
    # of a run around the edit; trials have none
    "system.weights", "system.weights_ignore_modules", "system.optimizer", "system.scheduler",
    # of a picture
    "data.picture", "data.size", "system.mask_picture",
    # of a scene
    "system.scene", "system.mask", "data.cameras", "data.world", "data.dataparser", "data.seed", "data.num_test_views",
    "data.test_size", "data.frame",
})  # fmt: skip
"""Dotted keys that the trials decide themselves: which scene, seen from where, what of it is masked, which prompts."""
OF_SHAPES = OF_TRIALS - {"system.mask"} | {
    "system.mask.picture", "system.source_prompt", "system.target_prompt", "system.preview_every",
}  # fmt: skip
"""The same of changes of shape, whose masks are traced as the config says."""
READ_IN_PICTURES = frozenset({
    "system.num_steps", "system.guidance_type", "system.guidance", "system.prompt_processor_type",
    "system.prompt_processor.negative_prompt",
})  # fmt: skip
"""What a method's config says of pictures: its guidance. How pixels and latents move says the picture config."""
GRID_VIEWS = 2
"""Held-out views of a scene in the picture grids."""


@dataclass(frozen=True)
class Method:
    """A way to edit: a config of the repository and changes to it."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()


def methods_from(words: DictConfig | dict[str, Sequence[str]]) -> list[Method]:
    """Methods of a config: name -> [config file, change, change, ...].

    Raises:
        ConfigError: If one names no config.
    """
    methods = []
    for name, parts in words.items():
        if isinstance(parts, str) or not parts:
            raise ConfigError(
                what=f"method {name} is {parts!r}", expected="a list: config file, then key=value changes",
                fix=f"write {name}: [configs/baselines/dds.yaml]",
            )  # fmt: skip
        methods.append(Method(str(name), str(parts[0]), tuple(str(part) for part in parts[1:])))
    return methods


@dataclass(frozen=True)
class ItemSettings:
    """What all items share.

    Attributes:
        out: Folder of results.
        edits: Names of toy edits.
        scene_seed: Scene of seed 0.
        picture_experiment: Of the picture edit: how latents move.
        num_steps: By kind.
        batch: Trials side by side, at most.
        use_masks: Whether edits of the object are masked to it.
        num_views: Training views of a scene.
        num_probes: How often a run is looked at.
    """

    out: Path
    edits: tuple[str, ...]
    scene_seed: int
    picture_experiment: DictConfig
    num_steps: dict[str, int]
    batch: int = 26
    use_masks: bool = False
    num_views: int = 24
    num_probes: int = 5


def load_experiment(method: Method, kind: Kind, settings: ItemSettings) -> DictConfig:
    """The complete experiment that the trials of a method run with.

    For scenes it is the method's own. For pictures it is the picture config with the method's guidance and steps.
    """
    cfg = _load(method.config, _given(settings.num_steps[kind], method.overrides))
    if kind != "picture":
        return cfg
    picture = settings.picture_experiment.copy()
    for key in READ_IN_PICTURES:
        OmegaConf.update(picture, key, OmegaConf.select(cfg, key), merge=False)
    return picture


def refuse_unread(items: Iterable[tuple[Kind, Method]], shared: Sequence[str], settings: ItemSettings) -> None:
    """Refuse a change that would be written into a result and yet be read by nothing.

    Args:
        items: The methods, their own changes only.
        shared: Changes to every method: each must be read by the trials of one of them.
        settings: What all items share.

    Raises:
        ConfigError: For the first change that no trial reads.
    """
    items = list(items)
    for kind, method in items:
        for place, word in enumerate(method.overrides):
            others = method.overrides[:place] + method.overrides[place + 1 :]
            if not _is_read(word, method.config, (*shared, *others), kind, settings):
                raise ConfigError(
                    what=f"method {method.name} sets {word}, which trials of {kind}s do not read",
                    expected="a key of the edit itself, none of the run around it",
                    fix="take it out of the method",
                )  # fmt: skip
    for place, word in enumerate(shared):
        others = tuple(shared[:place]) + tuple(shared[place + 1 :])
        if items and not any(_is_read(word, m.config, (*others, *m.overrides), kind, settings) for kind, m in items):
            raise ConfigError(
                what=f"system.overrides holds {word}, which no trial reads", expected="a key of the edit itself",
                fix="take it out of system.overrides",
            )  # fmt: skip


def _is_read(word: str, config: str, others: Sequence[str], kind: Kind, settings: ItemSettings) -> bool:
    """Whether a change alters anything that trials read, or alters nothing at all."""
    count = settings.num_steps[kind]
    before, after = (_leaves_of(config, tuple(_given(count, words))) for words in (others, (*others, word)))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return not changed or any(_reads(kind, key) for key in changed)


def _reads(kind: Kind, key: str) -> bool:
    if kind == "picture":
        return is_below(key, READ_IN_PICTURES)
    return not is_below(key, CANNOT_CHANGE_RESULTS | (OF_SHAPES if kind == "shape" else OF_TRIALS))


def _given(num_steps: int, changes: Sequence[str]) -> list[str]:
    return [*([f"steps={num_steps}"] if num_steps else []), *changes]


@cache
def _leaves_of(config: str, changes: tuple[str, ...]) -> dict[str, Any]:
    return leaves(_load(config, changes))


def _load(config: str, changes: Sequence[str]) -> DictConfig:
    from threestudio.utils.config_tree import complete

    return complete(load_config(config, cli_args=list(changes)))


def made_with(cfg: DictConfig, kind: Kind, settings: ItemSettings) -> dict[str, str]:
    """Everything that the rows of an item depend on, see ``fingerprint``.

    Args:
        cfg: From ``load_experiment``.
        kind: What is edited.
        settings: What all items share.
    """
    trials = {
        "edits": list(settings.edits), "scene_seed": settings.scene_seed, "use_masks": settings.use_masks,
        "num_probes": settings.num_probes, "judge": judge_fingerprint(),
    }  # fmt: skip
    if kind == "scene":
        trials["num_views"] = settings.num_views
    own = OF_SHAPES if kind == "shape" else OF_TRIALS
    return fingerprint(cfg, without=CANNOT_CHANGE_RESULTS | own, trials=trials)


def run_item(method: Method, kind: Kind, seed: int, settings: ItemSettings) -> list[dict[str, Any]]:
    """All edits with one method and seed: the rows, from the result file if it is there.

    Writes ``<out>/<kind>/<method>/seed-<n>.json`` and one picture an edit, whole or not at all.

    Raises:
        ConfigError: If the result there is of other settings.
    """
    file = settings.out / kind / method.name / f"seed-{seed}.json"
    cfg = load_experiment(method, kind, settings)

    def make() -> list[dict[str, Any]]:
        rows = _make_rows(method, kind, seed, cfg, settings)
        threestudio.info(f"{kind} {method.name} seed {seed}: success {statistics.mean(r['success'] for r in rows):.2f}")
        return rows

    return kept(file, made_with(cfg, kind, settings), make)


def _make_rows(method: Method, kind: Kind, seed: int, cfg: DictConfig, settings: ItemSettings) -> list[dict[str, Any]]:
    folder, read = settings.out / kind / method.name, load_classifier()
    trials = [Trial(toy_edit(name), seed, settings.scene_seed + seed) for name in settings.edits]
    rows: list[dict[str, Any]] = []
    if kind == "shape":
        for trial in trials:
            outcome = run_shape(trial, cfg)
            rows.append({"method": method.name, "kind": kind, **_row(outcome, read)})
            _save_pictures(outcome, folder)
        return rows
    # a LoRA that is trained beside the edit belongs to one picture or scene
    has_lora = any(branch.network == "lora" for branch in build_score(cfg.system.guidance.score).branches)
    size = 1 if has_lora else settings.batch
    for start in range(0, len(trials), size):
        part = trials[start : start + size]
        if kind == "picture":
            batch = picture_batch(part, cfg.system, settings.use_masks)
        else:
            batch = scene_batch(part, cfg, settings.use_masks, num_views=settings.num_views)
        for outcome in run_batch(batch, read, settings.num_probes):
            rows.append({"method": method.name, "kind": kind, **_row(outcome, read)})
            _save_pictures(outcome, folder)
    return rows


def _row(outcome: Outcome, read: Callable) -> dict[str, Any]:
    return {
        "edit": outcome.trial.edit.name, "attribute": outcome.trial.edit.attribute, "seed": outcome.trial.seed,
        **judge_images(outcome.images, outcome.truth, read),
        "steps_to_90": steps_to_share(outcome.probabilities), **outcome.colors._asdict(), **outcome.figures,
        **{name: getattr(outcome, name) for name in ("noise_predictions", "encodes", "seconds", "probabilities")},
    }  # fmt: skip


def _save_pictures(outcome: Outcome, folder: Path) -> None:
    """Result, and beside the first method's in the kind's folder the source and the truth."""
    name = image_name(outcome.trial.edit.name, outcome.trial.seed)
    truth, beside = outcome.truth, folder.parent
    for images, place in ((truth.source, beside / "_source"), (truth.target, beside / "_truth")):
        if not (place / name).exists():
            save_image(place / name, _strip(images))
    save_image(folder / name, _strip(outcome.images))


def _strip(images: torch.Tensor) -> torch.Tensor:
    """Some of the views side by side."""
    return torch.cat(list(images[:GRID_VIEWS].permute(0, 2, 3, 1)), dim=1)
