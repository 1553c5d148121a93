"""The Python call: load a splat, edit it by words, look on, save it; documented in docs/python.md.

It reads the same configs as ``launch.py`` and drives the same objects, so that the same words give the same bytes.
"""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from threestudio.errors import CheckpointError
from threestudio.utils.config import ExperimentConfig, load_config
from threestudio.utils.config_compare import leaves
from threestudio.utils.config_files import KEY, read_file
from threestudio.utils.config_strict import literal
from threestudio.utils.config_tree import complete

from .arguments import checked, config_value, count_of, number_of, path_of, shown_value, text_of
from .cameras import Cameras
from .data.image import load_image
from .data.scene_views import ViewPlan
from .edits.edit import CHECK_EVERY, Edit
from .edits.full_size import at_full_size
from .edits.image_edit import ImageEdit
from .edits.removal import IMAGE_SIZE, SceneRemoval
from .edits.scene_edit import SceneEdit
from .errors import ConfigError, InputError, first_line
from .gaussians import Gaussians
from .gaussians.io import save_gaussians
from .images import save_image
from .latents import load_visible
from .masks import MaskConfig as Mask
from .masks import check_mask, find_selection
from .refits.scene_refit import SceneRefit
from .refits.views_edit import OnViews
from .rendering import render_each

__all__ = [
    "ImageRun",
    "Mask",
    "NotFiniteError",
    "Progress",
    "Run",
    "SceneRun",
    "edit_image",
    "edit_scene",
    "refit_scene",
    "remove_from_scene",
    "select_in_scene",
    "views_of_scene",
]

OF_LAUNCH = ("trainer", "checkpoint", "viewer", "system.weights", "system.optimizer", "system.scheduler")
"""Keys of ``launch.py`` that the Python call has no use for, each with all below it."""
SCENE_CONFIG, IMAGE_CONFIG, REFIT_CONFIG = "configs/ssd-gs.yaml", "configs/ssd-image.yaml", "configs/shape-gs.yaml"
REMOVAL_CONFIG = "configs/delete-gs.yaml"


Job = TypeVar("Job", SceneEdit, SceneRefit, SceneRemoval)


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes:
        step: Steps done, 1 .. num_steps.
        num_steps: Of the whole run.
        seconds: Spent on the steps of this process.
        remaining_seconds: What is left at this pace.
        facts: What the step says of itself, as numbers: timestep, size of the score.
    """

    step: int
    num_steps: int
    seconds: float
    remaining_seconds: float
    facts: dict[str, float]


class NotFiniteError(InputError):
    """An edit whose numbers ran away; there is nothing to save."""


class Run:
    """An edit that is ready to go, step by step or to its end.

    Args:
        edit: What is optimised.
    """

    def __init__(self, edit: Edit) -> None:
        self._edit, self._optimizers = edit, edit.make_optimizers()
        self._is_prepared, self._step = False, 0
        self._steps_here, self._seconds = 0, 0.0

    @property
    def step(self) -> int:
        """Steps done."""
        return self._step

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self._edit.num_steps

    def run(self, num_steps: int | None = None, *, on_step: Callable[[Progress], Any] | None = None) -> None:
        """Make steps: all that are left, or some of them.

        Args:
            num_steps: How many at most; None: to the end.
            on_step: Called after each one; when it returns False the run stops there and may go on later.

        Raises:
            ConfigError: If an argument is of another type, or below 0.
            NotFiniteError: If the parameters are no longer finite.
        """
        if num_steps is not None:
            num_steps = count_of("num_steps", num_steps, 0, self.num_steps)
        if on_step is not None and not callable(on_step):
            expected, fix = "a function of a Progress", "write on_step=lambda progress: print(progress.step)"
            raise ConfigError(what=f"on_step is {shown_value(on_step)}", expected=expected, fix=fix)
        last = self.num_steps if num_steps is None else min(self.num_steps, self._step + num_steps)
        if not self._is_prepared:
            self._edit.prepare()
            self._is_prepared = True
        while self._step < last:
            begin = time.monotonic()
            facts = self._edit.step(self._step, self._optimizers)
            self._step += 1
            self._steps_here += 1
            self._seconds += time.monotonic() - begin
            if self._step % CHECK_EVERY == 0 or self._step == last:
                self._check_finite()
            if on_step is not None:
                left = self._seconds / self._steps_here * (self.num_steps - self._step)
                numbers = {name: float(value) for name, value in facts.items()}
                answer = on_step(Progress(self._step, self.num_steps, self._seconds, left, numbers))
                if isinstance(answer, bool | np.bool_) and not answer:
                    return

    def _check_finite(self) -> None:
        if self._edit.is_stuck or not self._edit.is_finite():
            what = f"the edit is not finite after step {self._step}"
            raise NotFiniteError(what=what, expected="finite parameters", fix="lower the learning rates")

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here, now or in a later process: tensors and plain values, all copies."""
        optimizers = [optimizer.state_dict() for optimizer in self._optimizers]
        return deepcopy({"edit": self._edit.state_dict(), "optimizers": optimizers, "step": self._step})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict`` of the same edit.

        Raises:
            CheckpointError: If it is of another edit; the run then stands where it stood.
        """
        before = self.state_dict()
        try:
            self._load(state)
        except (RuntimeError, ValueError, KeyError, TypeError) as cause:
            self._load(before)
            raise CheckpointError(
                what=f"the state does not fit this edit: {first_line(cause)}", expected="state_dict() of the same edit",
                fix="lay out the edit with the words, config and changes that it had",
            ) from cause  # fmt: skip

    def _load(self, state: Mapping[str, Any]) -> None:
        state = deepcopy({name: state[name] for name in ("edit", "optimizers", "step")})
        self._edit.load_state_dict(state["edit"])
        self._optimizers = self._edit.make_optimizers()
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self._step = state["step"]


class SceneRun(Run):
    """An edit of a scene; made by ``edit_scene``, ``refit_scene`` and ``remove_from_scene``."""

    def __init__(self, job: SceneEdit | SceneRefit | SceneRemoval) -> None:
        super().__init__(job.edit)
        self._job = job

    @property
    def source(self) -> Any:
        """The scene before the edit: Gaussians, or a radiance field."""
        return self._job.source

    @property
    def is_selected(self) -> Tensor:
        """(n) which Gaussians of it may change."""
        return self._job.selection.is_selected.cpu()

    def result(self) -> Gaussians:
        """The scene as it is now, on the CPU; what is not selected is as it was, bit for bit."""
        return self._job.editable.result().to("cpu")

    def result_selection(self) -> Tensor:
        """(n2) which Gaussians of ``result()`` the edit could change; a second edit starts from it."""
        return self._job.editable.result_selection().cpu()

    @torch.no_grad()
    def images(self, count: int = 4, *, before: bool = False) -> Float[Tensor, "count h w 3"]:
        """Held-out views of the scene as it is now, in [0, 1].

        Args:
            count: How many, at most as many as ``data.num_test_views``.
            before: The scene before the edit instead.

        Raises:
            ConfigError: If ``count`` is no whole number from 1.
        """
        count = count_of("count", count, 1, 4)
        gaussians = self._job.scene_before() if before else self._job.editable.scene()
        cameras = self._job.views.test[slice(0, count)]
        return torch.stack([image.cpu() for image in render_each(gaussians, cameras, self._job.background)])

    def save(self, path: str | Path) -> None:
        """Write the scene as it is now; the suffix decides the format.

        Raises:
            NotFiniteError: If the parameters are not finite; nothing is written then.
            InputError: If the path or the format cannot be written.
        """
        path = path_of("path", path, 'write save("edited.ply")')
        self._check_finite()
        save_gaussians(self.result(), path)


class ImageRun(Run):
    """An edit of an image; made by ``edit_image``."""

    def __init__(self, job: ImageEdit, picture: str) -> None:
        super().__init__(job.edit)
        self._job, self._picture = job, picture

    def result(self) -> Float[Tensor, "h w 3"]:
        """The image as it is now at its own size, in [0, 1], on the CPU."""
        edit = self._job.edit
        whole = at_full_size(self._picture, self._job.cfg.mask_picture, edit.editable.unedited(), edit.result())
        return whole[0].permute(1, 2, 0).cpu()

    def save(self, path: str | Path) -> None:
        """Write the image as it is now.

        Raises:
            NotFiniteError: If it is not finite; nothing is written then.
            InputError: If the path or the format cannot be written.
        """
        path = path_of("path", path, 'write save("edited.png")')
        self._check_finite()
        save_image(path, self.result())


def edit_scene(
    scene: str | Path,
    *,
    target: str,
    source: str = "",
    cameras: str | Path | None = None,
    mask: Mask | None = None,
    model: str | Path = "data/tiny-ldm",
    steps: int = 1500,
    strength: float | None = None,
    seed: int = 0,
    config: str | Path = SCENE_CONFIG,
    changes: Mapping[str, Any] | None = None,
) -> SceneRun:
    """Read a scene and a model and lay out an edit; nothing is optimised before ``run``.

    Args:
        scene: Splat file.
        target: A sentence for what should be there; for InstructPix2Pix, an instruction.
        source: A sentence for what is there.
        cameras: File or folder of the capture's cameras; None: an orbit around the scene.
        mask: What may change; None: everything.
        model: Folder or hub id of the diffusion model.
        steps: Optimisation steps.
        strength: How strong the edit is, from 0, hardly anything, to 2; None: as the config says, which is 1.
        seed: Decides views, timesteps and noise.
        config: Where all other keys come from, a file of the repository or one of your own.
        changes: Other keys by their dotted names: ``{"system.lambda_detail": 1, "data.crop": "selection"}``.

    Raises:
        ConfigError: For a key or value that cannot be used.
        SceneFormatError: For a file that cannot be read.
    """
    words = _scene_words(scene, cameras, mask) | _common_words(source, target, steps, strength, seed)
    words |= _model_word(model)
    return SceneRun(_opened(SceneEdit, _experiment(config, words, changes, "ssd-gs-system")))


def refit_scene(
    scene: str | Path,
    *,
    target: str,
    source: str = "",
    cameras: str | Path | None = None,
    mask: Mask | None = None,
    model: str | Path | None = None,
    steps: int | None = None,
    strength: float | None = None,
    seed: int = 0,
    config: str | Path = REFIT_CONFIG,
    changes: Mapping[str, Any] | None = None,
    on_views: OnViews | None = None,
) -> SceneRun:
    """The same by editing the views and refitting the splat to them, which can change a shape.

    Args:
        scene: Splat file.
        target: A sentence for what should be there; for an editor that takes one, an instruction.
        source: A sentence for what is there, for editors that read it.
        cameras: File or folder of the capture's cameras; None: an orbit around the scene.
        mask: What is replaced; it must leave something.
        model: Folder or hub id of the editor's model; None: as the config says, which is ``data/tiny-ip2p``.
        steps: Optimisation steps of all rounds together; None: as the config says: 70 with ``data/tiny-ip2p``, or 280.
        strength: How strong the edit is, from 0 to 2; None: as the config says, which is 1.
        seed: Decides views and noise.
        config: Where all other keys come from, a file of the repository or one of your own.
        changes: Other keys by their dotted names: ``{"system.editing.editor": {"name": "inversion"}}``.
        on_views: Called each time views were edited with the number of that edit, the names of the views, and the
            images, (b 3 h w) in [0, 1].

    Raises:
        ConfigError: For a key or value that cannot be used.
        SceneFormatError: For a file that cannot be read.
    """
    if on_views is not None and not callable(on_views):
        expected, fix = "a function of a number, names and images", "write on_views=lambda number, names, images: ..."
        raise ConfigError(what=f"on_views is {shown_value(on_views)}", expected=expected, fix=fix)
    words = _scene_words(scene, cameras, mask) | _common_words(source, target, steps, strength, seed)
    words |= {} if model is None else _model_word(model)
    job = _opened(SceneRefit, _experiment(config, words, changes, "idu-gs-system"))
    job.edit.on_views = on_views
    return SceneRun(job)


def remove_from_scene(
    scene: str | Path,
    *,
    mask: Mask,
    cameras: str | Path | None = None,
    model: str | Path = "data/tiny-ldm",
    steps: int = 400,
    seed: int = 0,
    config: str | Path = REMOVAL_CONFIG,
    changes: Mapping[str, Any] | None = None,
) -> SceneRun:
    """Take what the mask selects out of a scene, and lay out the fit that closes the hole.

    Args:
        scene: Splat file.
        mask: What is removed; it must leave something.
        cameras: File or folder of the capture's cameras; None: an orbit around the scene.
        model: Folder or hub id of the model that fills views where ``{"system.inpainter": "model"}`` asks for it.
        steps: Optimisation steps that close the hole.
        seed: Decides views and noise.
        config: Where all other keys come from, a file of the repository or one of your own.
        changes: Other keys by their dotted names: ``{"data.size": 512}``.

    Raises:
        ConfigError: For a key or value that cannot be used.
        SceneFormatError: For a file that cannot be read.
    """
    words = _scene_words(scene, cameras, mask) | _model_word(model) | _run_words(steps, seed)
    return SceneRun(_opened(SceneRemoval, _experiment(config, words, changes, "gs-delete-system")))


def select_in_scene(
    scene: str | Path,
    mask: Mask,
    *,
    cameras: str | Path | None = None,
    model: str | Path = "data/tiny-ldm",
    config: str | Path = SCENE_CONFIG,
    changes: Mapping[str, Any] | None = None,
) -> Bool[np.ndarray, "n"]:
    """Which Gaussians of a scene a mask selects, as an edit with the same words would; no model is loaded.

    Args:
        scene: Splat file.
        mask: What is looked for.
        cameras: File or folder of the capture's cameras; None: an orbit around the scene.
        model: The model of the edit, for ``segmenter="auto"``.
        config: Where all other keys come from.
        changes: Other keys by their dotted names.

    Returns:
        (n) booleans; ``np.save`` makes of them what ``Mask(saved=...)`` reads.

    Raises:
        ConfigError: For a key or value that cannot be used.
        SceneFormatError: For a file that cannot be read.
    """
    words = _scene_words(scene, cameras, mask) | {"model": path_of("model", model, 'write model="data/tiny-ldm"')}
    experiment = _experiment(config, words, changes, "ssd-gs-system")
    system, plan = experiment.system, ViewPlan(experiment.data)
    check_mask(system.mask)
    gaussians, background = load_visible(system.scene), torch.tensor(list(system.background), dtype=torch.float32)
    views = plan.views(gaussians, system.mask.view_size, 2).train
    selection = find_selection(SceneEdit.mask_of(system), gaussians, views, plan.capture, background)
    return selection.is_selected.cpu().numpy()


@torch.no_grad()
def views_of_scene(
    scene: str | Path,
    *,
    cameras: str | Path | None = None,
    count: int = 24,
    size: int = IMAGE_SIZE,
    seed: int = 0,
    config: str | Path = SCENE_CONFIG,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Float[Tensor, "c h w 3"], Cameras]:
    """Render a scene from the views that an edit would have.

    Args:
        scene: Splat file.
        cameras: File or folder of the capture's cameras; None: an orbit around the scene.
        count: How many views, at most.
        size: Their shorter side, pixels.
        seed: Decides which.
        config: Where all other keys come from.
        changes: Other keys by their dotted names: ``{"data.up": "-y"}``.

    Returns:
        The images, in [0, 1], and where they were taken from.

    Raises:
        ConfigError: For a key or value that cannot be used.
        SceneFormatError: For a file that cannot be read.
    """
    chosen = {"data.num_train_views": count_of("count", count, 1, 24), "data.size": count_of("size", size, 2, 512)}
    words = _scene_words(scene, cameras, None) | {"seed": count_of("seed", seed, 0, 0)}
    experiment = _experiment(config, words, {**chosen, **(changes or {})}, "ssd-gs-system")
    gaussians = load_visible(experiment.system.scene)
    train = ViewPlan(experiment.data).views(gaussians, size, 2).train
    background = torch.tensor(list(experiment.system.background), dtype=torch.float32)
    return torch.stack(list(render_each(gaussians, train, background))), train


def edit_image(
    picture: str | Path,
    *,
    target: str,
    source: str = "",
    mask: str | Path | None = None,
    model: str | Path = "data/tiny-ldm",
    steps: int = 200,
    strength: float | None = None,
    seed: int = 0,
    config: str | Path = IMAGE_CONFIG,
    changes: Mapping[str, Any] | None = None,
) -> ImageRun:
    """The same for one image; ``mask`` is an image that is white where it may change."""
    words = {
        "picture": path_of("picture", picture, 'write picture="in.png"'),
        "mask_picture": None if mask is None else path_of("mask", mask, 'write mask="mask.png"'),
        **_common_words(source, target, steps, strength, seed),
        **_model_word(model),
    }
    experiment = _experiment(config, words, changes, "ssd-image-system")
    job = ImageEdit(experiment.system)
    backbone = job.guidance.backbone
    job.open(load_image(experiment.data, backbone.image_size, backbone.size_multiple))
    return ImageRun(job, experiment.data.picture)


def _opened(kind: type[Job], experiment: DictConfig) -> Job:
    """An edit of a scene, laid out from its experiment."""
    plan = ViewPlan(experiment.data)
    job = kind(experiment.system)
    job.open(plan)
    return job


def _scene_words(scene: str | Path, cameras: str | Path | None, mask: Mask | None) -> dict[str, Any]:
    """The words that all edits of scenes share, as a config names them."""
    if mask is not None:
        fix = 'write mask=ssd.Mask(box=[-1, -1, 0, 1, 1, 2]), or ssd.Mask(text="the ball")'
        checked("mask", mask, (Mask,), "an ssd.Mask", fix)
    return {
        "scene": path_of("scene", scene, 'write scene="scene.ply"'),
        "cameras": "" if cameras is None else path_of("cameras", cameras, "leave cameras out for an orbit"),
        "mask": asdict(Mask()) | config_value("mask", mask or Mask()),
    }


def _common_words(source: str, target: str, steps: int | None, strength: float | None, seed: int) -> dict[str, Any]:
    """The words that edits of scenes and images share, as a config names them; None leaves what it says."""
    fix = "write strength=1, for example"
    given = {} if strength is None else {"strength": number_of("strength", strength, "a number from 0 to 2", fix)}
    prompts = {"source_prompt": text_of("source", source), "target_prompt": text_of("target", target)}
    return given | prompts | _run_words(steps, seed)


def _model_word(model: str | Path) -> dict[str, str]:
    """The model, as a config names it."""
    return {"model": path_of("model", model, 'write model="data/tiny-ldm"')}


def _run_words(steps: int | None, seed: int) -> dict[str, Any]:
    """The words that all runs share, as a config names them; steps of None are the config's."""
    given = {} if steps is None else {"steps": count_of("steps", steps, 1, 200)}
    return given | {"seed": count_of("seed", seed, 0, 0)}


def _experiment(
    config: str | Path, words: dict[str, Any], changes: Mapping[str, Any] | None, system_type: str
) -> DictConfig:
    """The complete experiment that ``launch.py --config`` would run with these words."""
    path = Path(path_of("config", config, f'write config="{SCENE_CONFIG}"'))
    argument_of = {"source_prompt": "source", "target_prompt": "target", "mask_picture": "mask"}
    declared = {*read_file(path), *(field.name for field in fields(ExperimentConfig))}
    set_already = {word: word for word in words} | _references(path, words)
    tree = OmegaConf.create(literal(words))
    expected, fix = "keys by their dotted names", 'write changes={"system.lambda_detail": 1}'
    given: Mapping[str, Any] = checked("changes", {} if changes is None else changes, (Mapping,), expected, fix)
    for key, value in given.items():
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise ConfigError(what=f"changes has the key {key!r}", expected=expected, fix=fix)
        if any(f"{key}.".startswith(top) for top in OF_LAUNCH):
            expected, fix = "a key of the data, the guidance or the edit", "leave it out, or run launch.py with it"
            raise ConfigError(what=f"{key} says nothing to the Python call", expected=expected, fix=fix)
        if key in set_already:
            said = f"write {argument_of.get(set_already[key], set_already[key])}=..., and leave it out of changes"
            raise ConfigError(what=f"changes sets {key}, which an argument sets", expected="one of the two", fix=said)
        OmegaConf.update(tree, key, config_value(key, value))
    for key in tree:
        if key not in declared:
            expected, fix = f"some of {', '.join(sorted(declared))}", "check the key, or use another config"
            raise ConfigError(what=f"config {config} has no key {key}", expected=expected, fix=fix)
    unresolved: Any = OmegaConf.to_container(tree, resolve=False)
    experiment = complete(load_config(path, **unresolved))
    if experiment.system_type != system_type:
        expected = f"system_type: {system_type}"
        fix = (
            f"use {SCENE_CONFIG} for scenes, {REFIT_CONFIG} for refits, {REMOVAL_CONFIG} for removals, {IMAGE_CONFIG} "
            "for images"
        )
        raise ConfigError(what=f"config {config} is of {experiment.system_type}", expected=expected, fix=fix)
    return experiment


def _references(path: Path, words: Mapping[str, Any]) -> dict[str, str]:
    """The keys of a config that are no more than a reference to one of these words, and to which."""
    values = leaves(OmegaConf.to_container(read_file(path), resolve=False))  # pyright: ignore[reportArgumentType]  # a dict
    targets = {f"${{{word}}}": word for word in words}
    return {key: targets[value] for key, value in values.items() if isinstance(value, str) and value in targets}
