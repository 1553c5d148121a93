"""Methods on toy edits, item by item: one method, one seed, pictures or scenes, all edits in batches. Resumable."""

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import threestudio
from threestudio.utils.config import load_config

from ..benchmarks.grids import image_name as picture_name
from ..errors import ConfigError
from ..guidance import SSDGuidance
from ..guidance.score_options import build_score
from ..toyworld.classifier import load_classifier
from .tiny_training import sha256, write_text
from .toy_edits import toy_edit
from .toy_trials import Outcome, PictureTrials, SceneTrials, Trial, run_trials, steps_to_share
from .toy_truth import judge_images

Kind = Literal["picture", "scene"]
PICTURE_KEYS = ("num_steps", "guidance")
PICTURE_SYSTEM_KEYS = ("parametrisation", "latent_steps", "learning_rate", "lambda_detail")
SCENE_KEYS = (*PICTURE_KEYS, "learning_rates", "color_steps", "adam_betas", "lambda_guidance", "lambda_detail",
              "lambda_anchor")  # fmt: skip
"""What of a method's and of the picture's config the rows of each kind depend on."""
GRID_VIEWS = 2
"""Held-out views of a scene in the picture grids."""


@dataclass(frozen=True)
class Method:
    """A way to edit: a config of the repository and changes to it."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()

    def load(self, num_steps: int | None = None) -> DictConfig:
        """The complete experiment, with this many steps unless the method's own changes say otherwise."""
        from threestudio.utils.config_tree import complete

        given = [] if num_steps is None else [f"steps={num_steps}"]
        cfg = complete(load_config(self.config, cli_args=[*given, *self.overrides]))
        if getattr(cfg.system.get("growth"), "kind", "none") not in (None, "none"):
            raise ConfigError(
                what=f"method {self.name} grows Gaussians", expected="growth that is off: trials run side by side",
                fix="set system.growth.kind=none in the method's changes",
            )  # fmt: skip
        return cfg


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
        picture_system: ``system`` of the picture edit: how latents move.
        num_steps: By kind.
        batch: Trials side by side, at most.
        use_masks: Whether edits of the object are masked to it.
        num_views: Training views of a scene.
        num_probes: How often a run is looked at.
    """

    out: Path
    edits: tuple[str, ...]
    scene_seed: int
    picture_system: DictConfig
    num_steps: dict[str, int]
    batch: int = 26
    use_masks: bool = False
    num_views: int = 24
    num_probes: int = 5


def run_item(method: Method, kind: Kind, seed: int, settings: ItemSettings) -> list[dict[str, Any]]:
    """All edits with one method and seed: the rows, from the result file if it is there.

    Writes ``<out>/<kind>/<method>/seed-<n>.json`` and one picture an edit, whole or not at all.

    Raises:
        ConfigError: If the result there is of other settings.
    """
    folder = settings.out / kind / method.name
    file = folder / f"seed-{seed}.json"
    cfg = method.load(settings.num_steps[kind] or None)
    made_with = _made_with(cfg.system, kind, settings)
    if file.exists():
        return _rows_of(file, made_with)
    folder.mkdir(parents=True, exist_ok=True)
    read = load_classifier()
    trials = [Trial(toy_edit(name), seed, settings.scene_seed + seed) for name in settings.edits]
    has_lora = cfg.system.guidance.score.get("name") == "vsd"  # a LoRA belongs to one picture or scene
    size = 1 if has_lora else settings.batch
    rows = []
    for start in range(0, len(trials), size):
        guidance = SSDGuidance(cfg.system.guidance)
        some = trials[start : start + size]
        if kind == "picture":
            batch = PictureTrials(some, guidance, settings.picture_system, settings.use_masks)
        else:
            batch = SceneTrials(some, guidance, cfg.system, settings.use_masks, num_views=settings.num_views)
        for outcome in run_trials(batch, cfg.system.num_steps, read, settings.num_probes):
            rows.append({"method": method.name, "kind": kind, **_row(outcome, read)})
            _save_picture(outcome, folder)
    write_text(file, json.dumps({"settings": made_with, "rows": rows}, indent=1))
    success = statistics.mean(row["success"] for row in rows)
    threestudio.info(f"{kind} {method.name} seed {seed}: success {success:.2f}")
    return rows


def _made_with(system: DictConfig, kind: Kind, settings: ItemSettings) -> dict[str, str]:
    """Every setting that the rows depend on, flat: key -> value as text; with checksums of the weights."""
    names = PICTURE_KEYS if kind == "picture" else SCENE_KEYS
    parts: dict[str, Any] = {name: system[name] for name in names}
    parts |= {"edits": list(settings.edits), "scene_seed": settings.scene_seed, "use_masks": settings.use_masks}
    if kind == "picture":
        parts |= {f"picture.{name}": settings.picture_system[name] for name in PICTURE_SYSTEM_KEYS}
    else:
        parts["num_views"] = settings.num_views
    model = Path(system.guidance.model)
    parts["score"] = dataclasses.asdict(build_score(system.guidance.score))
    files = sorted(model.rglob("*.safetensors"))
    parts["weights"] = {str(file.relative_to(model)): sha256(file)[:16] for file in files}
    return {key: json.dumps(value) for key, value in _flat(parts).items()}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key; lists are leaves."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _rows_of(file: Path, made_with: dict[str, str]) -> list[dict[str, Any]]:
    """The rows of a result file, if it was made with the same settings; a key that only one side has is new."""
    found = json.loads(file.read_text())
    earlier = found["settings"]
    for key in sorted(earlier.keys() & made_with.keys()):
        if earlier[key] != made_with[key]:
            raise ConfigError(
                what=f"{file} was made with {key} {earlier[key]}, and now it is {made_with[key]}",
                expected="one folder for each setting",
                fix="set system.out to another folder, or delete the file to run it again",
            )  # fmt: skip
    return found["rows"]


def _row(outcome: Outcome, read) -> dict[str, Any]:
    return {
        "edit": outcome.trial.edit.name,
        "attribute": outcome.trial.edit.attribute,
        "seed": outcome.trial.seed,
        **judge_images(outcome.images, outcome.truth, read),
        "steps_to_90": steps_to_share(outcome.probabilities),
        "noise_predictions": outcome.noise_predictions,
        "encodes": outcome.encodes,
        "seconds": outcome.seconds,
        "probabilities": outcome.probabilities,
    }


def _save_picture(outcome: Outcome, folder: Path) -> None:
    """Result, and beside the first method's in the kind's folder the source and the truth."""
    name = picture_name(outcome.trial.edit.name, outcome.trial.seed)
    for images, place in (
        (outcome.images, folder), (outcome.truth.source, folder.parent / "_source"),
        (outcome.truth.target, folder.parent / "_truth"),
    ):  # fmt: skip
        path = place / name
        if place is folder or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            strip = torch.cat(list(images[:GRID_VIEWS].permute(0, 2, 3, 1)), dim=1).clamp(0, 1)
            Image.fromarray((strip * 255 + 0.5).byte().numpy()).save(path)
