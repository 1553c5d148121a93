"""Methods on toy edits, item by item: one method, one seed, pictures or scenes, all edits in batches. Resumable."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf

import threestudio
from threestudio.utils.config import load_config

from ...errors import ConfigError
from ...files import is_whole
from ...guidance import build_score
from ...images import save_image
from ...toyworld.classifier import load_classifier
from ...toyworld.edits import toy_edit
from ...toyworld.judge import judge_fingerprint, judge_images
from ..fingerprint import CANNOT_CHANGE_RESULTS, fingerprint, is_below, kept, leaves
from ..grids import image_name
from .shapes import edit_views, run_shape
from .trials import Outcome, Trial, picture_batch, run_batch, scene_batch, steps_to_share
from .whole import run_whole

Kind = Literal["picture", "scene", "shape", "view"]
OF_TRIALS = frozenset({
    "seed", "trainer", "system.seed", "system.prompt_processor.source_prompt", "system.prompt_processor.target_prompt",
    "system.source_prompt", "system.target_prompt",
    # of a run around the edit; trials have none
    "system.weights", "system.weights_ignore_modules", "system.optimizer", "system.scheduler",
    # of a picture
    "data.picture", "data.size", "system.mask_picture",
    # of a scene
    "system.scene", "system.mask", "data.cameras", "data.world", "data.dataparser", "data.seed", "data.num_test_views",
    "data.test_size", "data.frame",
})  # fmt: skip
"""Dotted keys that the trials decide themselves: which scene, seen from where, what of it is masked, which prompts."""
OF_SHAPES = OF_TRIALS - {"system.mask"} | {"system.mask.picture"}
"""The same of changes of shape and of edited views, whose masks are traced as the config says."""
READ_IN_PICTURES = frozenset({
    "system.num_steps", "system.guidance_type", "system.guidance", "system.prompt_processor_type",
    "system.prompt_processor.negative_prompt",
})  # fmt: skip
"""What a method's config says of pictures: its guidance. How pixels and latents move says the picture config."""
TRACED: frozenset[Kind] = frozenset({"shape", "view"})
"""Kinds of trials whose masks are traced from pictures of the object."""
SIDE_BY_SIDE = "ssd-gs-system"
"""System of the scene edits that go side by side, so that the network sees them in one batch; all others go alone."""
GRID_VIEWS: dict[Kind, int] = {"picture": 1, "scene": 2, "shape": 2, "view": 6}
"""Views of a result in the picture grids."""


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

    For pictures it is the picture config with the method's guidance and steps. For all else it is the method's own.

    Raises:
        ConfigError: If a method of pictures has no guidance.
    """
    cfg = _load(method.config, _given(settings.num_steps[kind], method.overrides))
    if kind != "picture":
        return cfg
    if "guidance" not in cfg.system:
        raise ConfigError(
            what=f"method {method.name} of pictures is of {cfg.system_type}, which has no guidance",
            expected="a config with system.guidance, such as configs/ssd-gs.yaml",
            fix="list it below system.scene_methods or system.shape_methods",
        )
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


def refuse_unmasked(items: Iterable[tuple[Kind, Method]], settings: ItemSettings) -> None:
    """Refuse a refit of scenes that replaces what is masked where an edit has no mask.

    Args:
        items: The methods, with all their changes.
        settings: What all items share.

    Raises:
        ConfigError: For the first one.
    """
    unmasked = next((name for name in settings.edits if not (settings.use_masks and toy_edit(name).has_mask)), None)
    for kind, method in items:
        changes = tuple(_given(settings.num_steps[kind], method.overrides))
        if kind == "scene" and unmasked is not None and _leaves_of(method.config, changes).get("system.replaces"):
            raise ConfigError(
                what=f"method {method.name} replaces what is masked, and {unmasked} is edited without a mask",
                expected="system.use_masks=true, and data.edits of the object alone",
                fix=f"set these, or system.replaces=false in the method, or list {method.name} below shape_methods",
            )


def _is_read(word: str, config: str, others: Sequence[str], kind: Kind, settings: ItemSettings) -> bool:
    """Whether a change alters anything that trials read, or alters nothing at all."""
    count = settings.num_steps[kind]
    before, after = (_leaves_of(config, tuple(_given(count, words))) for words in (others, (*others, word)))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return not changed or any(_reads(kind, key) for key in changed)


def _reads(kind: Kind, key: str) -> bool:
    if kind == "picture":
        return is_below(key, READ_IN_PICTURES)
    return not is_below(key, CANNOT_CHANGE_RESULTS | _decided_by_trials(kind))


def _decided_by_trials(kind: Kind) -> frozenset[str]:
    return OF_SHAPES if kind in TRACED else OF_TRIALS


def _given(num_steps: int, changes: Sequence[str]) -> list[str]:
    return [*([f"steps={num_steps}"] if num_steps else []), *changes]


@cache
def _leaves_of(config: str, changes: tuple[str, ...]) -> dict[str, Any]:
    return leaves(_load(config, ("use_timestamp=false", *changes)))  # or a second that passes would be a change


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
    return fingerprint(cfg, without=CANNOT_CHANGE_RESULTS | _decided_by_trials(kind), trials=trials)


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

    pictures = [file.parent / image_name(toy_edit(name).name, seed) for name in settings.edits]
    return kept(file, made_with(cfg, kind, settings), make, pictures)


def _make_rows(method: Method, kind: Kind, seed: int, cfg: DictConfig, settings: ItemSettings) -> list[dict[str, Any]]:
    read, rows = load_classifier(), []
    trials = [Trial(toy_edit(name), seed, settings.scene_seed + seed) for name in settings.edits]
    for outcome in _outcomes(kind, trials, cfg, read, settings):
        rows.append({"method": method.name, "kind": kind, **_row(outcome, read)})
        _save_pictures(outcome, kind, settings.out / kind / method.name)
    return rows


def _outcomes(
    kind: Kind, trials: Sequence[Trial], cfg: DictConfig, read: Callable, settings: ItemSettings
) -> Iterator[Outcome]:
    """Trials side by side where they can be, one after the other where not."""
    if kind in TRACED:
        yield from (run_shape(trial, cfg) if kind == "shape" else edit_views(trial, cfg) for trial in trials)
        return
    if kind == "scene" and cfg.system_type != SIDE_BY_SIDE:
        for trial in trials:
            yield run_whole(trial, cfg, use_masks=settings.use_masks, num_views=settings.num_views)
        return
    # a LoRA that is trained beside the edit belongs to one picture or scene
    has_lora = any(branch.network == "lora" for branch in build_score(cfg.system.guidance.score).branches)
    size = 1 if has_lora else settings.batch
    for start in range(0, len(trials), size):
        part = trials[start : start + size]
        if kind == "picture":
            batch = picture_batch(part, cfg.system, settings.use_masks)
        else:
            batch = scene_batch(part, cfg, settings.use_masks, num_views=settings.num_views)
        yield from run_batch(batch, read, settings.num_probes)


def _row(outcome: Outcome, read: Callable) -> dict[str, Any]:
    return {
        "edit": outcome.trial.edit.name, "attribute": outcome.trial.edit.attribute, "seed": outcome.trial.seed,
        **judge_images(outcome.images, outcome.truth, read),
        "steps_to_90": steps_to_share(outcome.probabilities), **outcome.colors._asdict(), **outcome.figures,
        **{name: getattr(outcome, name) for name in ("noise_predictions", "encodes", "seconds", "probabilities")},
    }  # fmt: skip


def _save_pictures(outcome: Outcome, kind: Kind, folder: Path) -> None:
    """Result, and beside the first method's in the kind's folder the source and the truth."""
    name = image_name(outcome.trial.edit.name, outcome.trial.seed)
    truth, beside = outcome.truth, folder.parent
    for images, place in ((truth.source, beside / "_source"), (truth.target, beside / "_truth")):
        if not is_whole(place / name):
            save_image(place / name, _strip(images, kind))
    save_image(folder / name, _strip(outcome.images, kind))


def _strip(images: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Some of the views side by side."""
    return torch.cat(list(images[: GRID_VIEWS[kind]].permute(0, 2, 3, 1)), dim=1)
