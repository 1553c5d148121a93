"""A change of shape by words: what its keys mean, from the splat file to the Gaussians that come out."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio

from ..cameras import Cameras
from ..data import SceneViews, ViewPlan
from ..diffusion import Counters
from ..editors import EditorKeys, EditorPrompts, build_editor, load_editor
from ..edits.editable_field import for_editing
from ..edits.editable_gaussians import with_moved
from ..edits.field_splat import STEPS
from ..edits.gaussian_edit import (
    Anchors,
    LearningRates,
    Movement,
    SceneJob,
    SceneUnderEdit,
    check_learning_rates,
)
from ..edits.growth import Growth, GrowthConfig, check_growth
from ..edits.keys import EditConfig, check_background, check_betas, check_not_negative, check_num_steps
from ..edits.removal import FillKeys, Hole, check_fill
from ..edits.scene_edit import check_field_edit, editable_of
from ..errors import ConfigError, check_values
from ..fields import LatentField, RadianceField
from ..gaussians import Gaussians
from ..guidance.prompts import check_target
from ..host import get_device
from ..masks import MaskConfig, Selection, check_mask, find_selection, in_box, settle_mask
from ..masks.region import HEIGHT_ROOM, RADIUS_ROOM, Region, region_around, region_of_box
from ..metrics import load_lpips
from ..scenes import Scene, load_scene
from .carver import Carver
from .editing import ViewEditing
from .placement import frame_in, measured, redrawing
from .rounds import Round, Schedule, at_strength, rounds_from
from .view_words import ViewWordsConfig, all_view_words, check_view_words, phrases_of, view_words
from .views_edit import EditedViews, ViewsEdit

_CARVED = {"lambda_opacity": 0, "carve": "views", "shape_rates": 0.35}
_LAST = {"rates": 0.3, "resize": True, "recenter": True, "relight": True}
ROUNDS = (
    {"strength": 0.98, "steps": 40, **_CARVED},
    {"strength": 0.9, "steps": 40, **_CARVED, "recenter": True},
    {"strength": 0.45, "steps": 200, **_CARVED, **_LAST},
)
"""The rounds of a change of shape: from nearly nothing left of the old views down to touching up. Each begins with the
shape that its views agree on; the last one makes it as large as things are here, where the old object stood, and puts
it into the light of the source."""


LEAST_OPEN = 0.01
"""Share of the pixels about the place where the selection stood that must show what is behind it, to be closed."""


@dataclass
class SnapConfig:
    """Keys of what counts as the new object in an edited view: its difference from the empty scene, in [0, 1]."""

    sure: float = 0.15
    """The most different channel differs by so much, averaged over 3x3 pixels: it is the object."""
    soft: float = 0.07
    """Up to this difference it is not; in between it is in part."""
    weak: float = 0.05
    """This is enough for parts that touch the object: stems and trunks of pale colour."""


@dataclass
class CarveConfig:
    """Keys of the first shape."""

    agreement: float | None = None
    """Share of the views that must take a point for the object, in (0, 1]; none: so many that the outlines of the
    object are those of the views."""
    turn_deg: float = 15.0
    """How far each edited view is turned about the region's axis at most, to either side, so that outlines agree, 0 to
    90 degrees; 0: none is. Only where ``view_words.sides`` says a side: an editor draws about that side."""
    spacing: float = 0.035
    """Distance of neighbouring Gaussians on its surface, in units of the region's size, > 0."""
    opacity: float = 0.95
    """Of all, in (0, 1)."""
    fine_spacing: float = 0.035
    """The same where a round carves the object from its own renders, > 0."""
    fine_agreement: float = 0.9
    """Share of these views, which agree with one another, that must take a point for the object, in (0, 1]."""
    fine_opacity: float = 0.9
    """Opacity then, in (0, 1)."""
    flatness: float = 0.5
    """Their thickness in units of their width, in (0, 1]."""


@dataclass
class ClosingConfig(FillKeys):
    """Keys of closing the place where the selection stood, as a removal does; what touched it stays as it is."""

    num_steps: int = 150
    """Steps of fitting new Gaussians there, >= 0; 0: it stays open."""


@dataclass
class RefitRates(LearningRates):
    """Adam's learning rate per attribute at the start of a round, >= 0; 0 keeps it."""

    means: Any = 3e-3
    """Times half the longest side of the region."""
    log_scales: Any = 0.02
    raw_quats: Any = 0.005
    logit_opacities: Any = 0.05
    sh0: Any = 0.03
    shN: Any = 0.0
    raw_densities: Any = 0.05


@dataclass
class SceneRefitConfig(EditConfig):
    """Keys of a change of shape."""

    scene: str = ""
    """Splat file to edit."""
    num_steps: int = 280
    """Optimisation steps, at least one a round; the rounds share them."""
    strength: float = 1.0
    """How strong the edit is, from 0 to 2: how strongly rounds edit views; 1: as they say (``strength_of_round``)."""
    source_prompt: str = ""
    """What is there, for editors that read it."""
    target_prompt: str = ""
    """What should be there, or an instruction for an editor that takes one."""
    negative_prompt: str = ""
    """What to keep away from."""
    background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Colour behind the scene, RGB in [0, 1]."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """What is replaced; it must leave something."""
    editing: EditorKeys = field(default_factory=EditorKeys)
    """The image editor and its model."""
    view_words: ViewWordsConfig = field(default_factory=ViewWordsConfig)
    """What the prompt of a view says of the side that it shows."""
    rounds: list[Any] = field(default_factory=lambda: [dict(each) for each in ROUNDS])
    """[{strength: 0.9, steps: 100}, ...]: all views are edited at the start of each, so strongly. Steps are in units of
    their sum: the run has ``num_steps``. More keys of a round: ``Round``."""
    edit_rate: int = 0
    """Steps between edits of a few views, as Instruct-NeRF2NeRF has them; 0: all views, once a round."""
    edit_count: int = 1
    """How many are edited then, >= 1, in turn."""
    edit_order: Literal["turn", "shown"] = "turn"
    """Which: turn, one after the other; shown, those that the step shows, and any that is shown for the first time, as
    GaussianEditor has it."""
    replaces: bool = True
    """Whether the selection is taken out and something else grows in its place; false: views are edited as a whole,
    and the selection follows them from where it is, as published."""
    closing: ClosingConfig = field(default_factory=ClosingConfig)
    """How the place where the selection stood is closed, if it shows."""
    region: list[float] | None = None
    """x_min y_min z_min x_max y_max z_max, world units, where the new object may be; none: an upright cylinder around
    the selection."""
    room: list[float] = field(default_factory=lambda: [RADIUS_ROOM, HEIGHT_ROOM])
    """How much wider and higher than the selection that cylinder is, each >= 1."""
    snap: SnapConfig = field(default_factory=SnapConfig)
    """What of an edited view is the new object."""
    carve: CarveConfig = field(default_factory=CarveConfig)
    """The first shape."""
    learning_rates: RefitRates = field(default_factory=RefitRates)
    """Per attribute."""
    learning_rate_end: float = 0.3
    """Share of themselves that rates fall to within a round, in (0, 1]."""
    adam_betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    """Adam's betas."""
    scale_limits: list[float] = field(default_factory=lambda: [0.006, 0.18])
    """Smallest and largest standard deviation of a Gaussian, in units of half the longest side of the region."""
    lambda_ssim: float = 0.2
    """Share of 1 - SSIM in the loss, in [0, 1]; the rest is L1."""
    lambda_lpips: float = 0.0
    """Weight of LPIPS (its weights are downloaded), >= 0."""
    lambda_anchor: Anchors = field(default_factory=Anchors)
    """Weights of the anchors."""
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    """Whether and how the new object grows; its scales are in units of half the longest side of the region."""
    clip_model: str = "auto"
    """CLIP of the report, see docs/metrics.md; auto: ViT-L/14, but tiny-clip beside an embedded model."""
    splat_steps: int = STEPS
    """Of a radiance field: steps of fitting the splat that is written beside it, for viewers; 0: none."""
    preview_every: int = 250
    """Steps between pictures of the progress in save/progress; 0: none, and none of the mask and the edited views."""


class SceneRefit(SceneJob):
    """One scene, the region in it where something else shall stand, and the views that say what.

    Making it reads the scene and loads the model, so that everything that can be wrong is found before any work.

    Args:
        cfg: Keys of ``SceneRefitConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used.
        SceneFormatError: For a scene or model that cannot be read.

    Attributes:
        source: The scene as its file has it, a ``Scene``.
        scene: The same where the edit runs, after ``open``.
        editor: The image editor with its model.
        views: Cameras, after ``open``.
        selection: What is replaced and why, after ``open``.
        editing: What edits the views, after ``open``.
    """

    source: Any
    scene: Any
    views: SceneViews
    selection: Selection
    editing: ViewEditing

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_num_steps(cfg, SceneRefitConfig)
        check_background(cfg)
        check_betas(cfg)
        self.rounds = at_strength(rounds_from(cfg.rounds), cfg.strength)
        _check(cfg, self.rounds)
        self.source = load_scene(cfg.scene)
        if isinstance(self.source, LatentField):
            expected, fix = "a splat, or a radiance field of colours", "edit it with configs/ed-nerf.yaml"
            what = f"scene {cfg.scene} is a radiance field of latents, which edited views cannot be fitted to"
            raise ConfigError(what=what, expected=expected, fix=fix)
        if isinstance(self.source, RadianceField):
            _check_field(cfg)
        self.mask = self.mask_of(cfg)
        self.device = get_device()
        words = EditorPrompts(cfg.source_prompt, cfg.target_prompt, cfg.negative_prompt)
        if not _can_redraw(cfg):
            self.rounds = [replace(each, resize=False) for each in self.rounds]
        elif any(each.resize for each in self.rounds):
            words = words._replace(others=(redrawing(words),))
        view_words = {word: None for each in self._prompts for word in all_view_words(cfg.view_words, each)}
        given = {"names", "cameras", "depths"} | ({"frame"} if cfg.replaces else set())
        self.editor = load_editor(cfg.editing, self.device, words, list(view_words), given=given)
        self.lpips = load_lpips(device=str(self.device)) if cfg.lambda_lpips else None

    @staticmethod
    def mask_of(cfg: Any) -> DictConfig:
        """See ``SceneJob``."""
        return settle_mask(cfg.mask, cfg.scene, cfg.editing.model, is_replaced=cfg.replaces)

    def open(self, plan: ViewPlan) -> None:
        """Choose views, selection and region, and lay out the edit.

        Args:
            plan: Says which views there are.

        Raises:
            ConfigError: If the mask selects everything.
        """
        cfg, network = self.cfg, self.editor.network
        views = plan.views(self.source, network.image_size, network.size_multiple)
        self.scene = self.source.to(self.device)
        self.selection = find_selection(self.mask, self.scene, views.train, plan.capture, self.background)
        is_replaced = self.selection.is_selected
        if cfg.replaces and is_replaced.all():
            expected, fix = "something that stays", "say by mask.text, mask.picture or mask.box what is to be replaced"
            raise ConfigError(what=f"the mask selects all {len(self.scene)} Gaussians", expected=expected, fix=fix)
        region = self._region(is_replaced, views.orbit.up)
        if region is None:
            self.views = plan.cropped(views, self.scene, is_replaced)
        else:
            center = views.orbit.center.to(region.center)
            is_about = bool(region.contains(center[None]))
            self.views = plan.cropped_on(views, region.masks, center if is_about else region.middle)
        cameras = self.views.train.to(self.device)
        if isinstance(self.scene, RadianceField):
            whole = self.scene = for_editing(self.scene, is_replaced, cfg.learning_rates.raw_densities)
        else:
            patch = self._patch(is_replaced)
            whole = self.scene.append(patch)
            is_replaced = torch.cat([is_replaced, is_replaced.new_zeros(len(patch))])
        seeds = [cfg.seed * len(cameras) + row for row in range(len(cameras))]
        self.editing = ViewEditing(
            self.editor,
            cameras,
            region,
            self.scene,
            whole.select(~is_replaced),
            self.background,
            cfg.snap,
            seeds,
            *(self._view_words(cameras, each, views.orbit.up) for each in self._prompts),
            frame=None if region is None else frame_in(region, cfg.view_words.front_deg, views.orbit),
        )
        carver = Carver(self.editing, whole, is_replaced, cfg.carve, self._turn_deg)
        self.editing = replace(self.editing, frame=measured(carver))
        editable = editable_of(whole, is_replaced)
        extent = self.views.extent if region is None else region.size
        growth = Growth(cfg.growth, editable, extent=extent, num_steps=cfg.num_steps, seed=cfg.seed)
        rates = {name: cfg.learning_rates[name] for name in editable.selected}
        self.edit: ViewsEdit = ViewsEdit(
            SceneUnderEdit(editable, cameras, cfg.seed, growth),
            replace(carver, editing=self.editing),
            EditedViews(len(cameras), cfg.lambda_ssim, cfg.lambda_lpips, self.lpips),
            Movement(rates, betas=tuple(cfg.adam_betas), anchors=cfg.lambda_anchor),
            Schedule(self.rounds, cfg.num_steps),
            cfg,
            background=self.background,
            views_per_step=plan.cfg.batch_size,
        )

    def _region(self, is_replaced: Bool[Tensor, "n"], up: Float[Tensor, "3"]) -> Region | None:
        """Where the new object may be; None where nothing is replaced."""
        cfg = self.cfg
        if not cfg.replaces:
            return None
        if cfg.region is not None:
            return region_of_box(self.scene.local(cfg.region)).to(self.device)
        return region_around(self.scene.means[is_replaced], up, tuple(cfg.room)).to(self.device)

    @property
    def _turn_deg(self) -> float:
        """How far views are turned to agree: only those whose words say a side, for round things have none."""
        return self.cfg.carve.turn_deg if phrases_of(self.cfg.view_words, self.cfg.target_prompt) else 0.0

    @property
    def _prompts(self) -> tuple[str, str]:
        return self.cfg.target_prompt, self.cfg.source_prompt

    def _view_words(self, cameras: Cameras, prompt: str, up: Float[Tensor, "3"]) -> list[str] | None:
        """What is added to a prompt for each view."""
        if not all_view_words(self.cfg.view_words, prompt):
            return None
        center = self.scene.means[self.selection.is_selected].mean(dim=0)
        return view_words(self.cfg.view_words, prompt, cameras, center, up)

    def _patch(self, is_replaced: Bool[Tensor, "n"]) -> Gaussians:
        """New Gaussians where the selection touched something, fitted to filled views; none where nothing is open."""
        cfg, cameras = self.cfg, self.views.train
        nothing = self.scene.select(slice(0, 0))
        if cfg.closing.num_steps == 0 or not cfg.replaces:
            return nothing
        hole = Hole(cfg.closing, self.scene, is_replaced, cameras, self.background, cfg.seed, self.device)
        if hole.num_seeds == 0 or hole.open_share < LEAST_OPEN:
            return nothing
        is_seed = torch.arange(len(hole.start), device=self.device) >= len(hole.bare)
        edit = hole.closing(
            is_seed, LearningRates(), self.views.extent, cameras.to(self.device),
            num_steps=cfg.closing.num_steps, seed=cfg.seed, lambda_ssim=cfg.lambda_ssim,
        )  # fmt: skip
        edit.prepare()
        edit.make_steps()
        threestudio.info(f"{hole.num_seeds:,} Gaussians close the place where the selection stood.")
        return edit.scenes[0].editable.result().select(is_seed)

    @property
    def counters(self) -> Counters:
        """What the editor's network has computed so far."""
        return self.editor.network.counters

    def scene_before(self) -> Scene:
        """The scene as the user gave it, where the edit runs."""
        return self.scene

    def selection_in_view(self) -> tuple[Scene, Bool[Tensor, "n"]]:
        """The old object and the new one in one scene, for where images may change."""
        if not self.cfg.replaces:
            return self.scene, self.selection.is_selected
        return with_moved(self.scene, self.selection.is_selected, self.editable)

    @property
    def num_selected(self) -> int:
        """How many Gaussians of the source are replaced, or may change."""
        return int(self.selection.is_selected.sum())


def _can_redraw(cfg: DictConfig) -> bool:
    """Whether the editor can be asked for the old object: it takes descriptions, and there is one."""
    editor = build_editor(cfg.editing.editor)
    return bool(cfg.source_prompt) and editor.has_network and not editor.reads_instruction_of(cfg.editing)


def _check_field(cfg: DictConfig) -> None:
    """Refuse what the nodes of a radiance field cannot do.

    Raises:
        ConfigError: For the first key that asks for it.
    """
    if cfg.replaces:
        raise ConfigError(
            what=f"system.replaces is true, and scene {cfg.scene} is a radiance field", expected="false: its views are "
            "edited as a whole, and it follows them", fix="start from configs/idu-nerf.yaml",
        )  # fmt: skip
    check_field_edit(cfg)


def _check(cfg: DictConfig, rounds: list[Round]) -> None:
    """Refuse numbers out of range.

    Raises:
        ConfigError: For the first.
    """
    keys = SceneRefitConfig
    check_learning_rates(cfg.learning_rates)
    check_not_negative("system.lambda_anchor", cfg.lambda_anchor, Anchors)
    check_not_negative("system", cfg, keys, ("lambda_lpips",))
    check_mask(cfg.mask)
    check_fill("system.closing", cfg.closing, ClosingConfig)
    check_not_negative("system.closing", cfg.closing, ClosingConfig, ("num_steps",))
    check_growth(cfg.growth, cfg.num_steps)
    if cfg.num_steps < len(rounds):
        expected, fix = f"at least one a round, of which there are {len(rounds)}", f"set steps={keys.num_steps}"
        raise ConfigError(what=f"steps is {cfg.num_steps}", expected=expected, fix=fix)
    check_target(cfg.target_prompt)
    check_view_words(cfg.view_words)
    if not cfg.replaces:
        of_new = ("carve", "resize", "recenter", "relight")
        key = next((f"system.rounds[{i}].{word}" for i, each in enumerate(rounds) for word in of_new
                    if getattr(each, word) not in ("none", False)), None)  # fmt: skip
        key = "system.region" if cfg.region is not None else key
        if key is not None:
            raise ConfigError(
                what=f"{key} is set, and system.replaces is false", expected="nothing that is for a new object",
                fix=f"leave {key} out, or set system.replaces=true",
            )  # fmt: skip
    if cfg.region is not None:
        in_box(torch.zeros(1, 3), list(cfg.region), "system.region")
    snap, carve = cfg.snap, cfg.carve
    check_values("system", cfg, keys, {
        "splat_steps": (cfg.splat_steps >= 0, "at least 0"),
        "edit_rate": (cfg.edit_rate >= 0, "at least 0"),
        "edit_count": (cfg.edit_count >= 1, "at least 1"),
        "learning_rate_end": (0 < cfg.learning_rate_end <= 1, "above 0, at most 1"),
        "lambda_ssim": (0 <= cfg.lambda_ssim <= 1, "0 to 1"),
    })  # fmt: skip
    _check_pair("system.room", cfg.room, [RADIUS_ROOM, HEIGHT_ROOM], len(cfg.room) == 2 and min(cfg.room) >= 1,
                "two numbers, each at least 1")  # fmt: skip
    low_then_high = len(cfg.scale_limits) == 2 and 0 < cfg.scale_limits[0] < cfg.scale_limits[1]
    _check_pair("system.scale_limits", cfg.scale_limits, [0.006, 0.18], low_then_high, "two numbers above 0, low first")
    check_values("system.snap", snap, SnapConfig, {
        "sure": (snap.soft < snap.sure <= 1, f"above system.snap.soft, which is {snap.soft}, and at most 1"),
        "soft": (0 < snap.soft, "above 0"),
        "weak": (0 < snap.weak <= snap.sure, f"above 0, at most system.snap.sure, which is {snap.sure}"),
    })  # fmt: skip
    check_values("system.carve", carve, CarveConfig, {
        "agreement": (carve.agreement is None or 0 < carve.agreement <= 1, "above 0, at most 1, or null"),
        "turn_deg": (0 <= carve.turn_deg <= 90, "0 to 90"),
        "spacing": (0.01 <= carve.spacing <= 1, "0.01 to 1"),
        "opacity": (0 < carve.opacity < 1, "between 0 and 1"),
        "fine_spacing": (0.01 <= carve.fine_spacing <= 1, "0.01 to 1"),
        "fine_agreement": (0 < carve.fine_agreement <= 1, "above 0, at most 1"),
        "fine_opacity": (0 < carve.fine_opacity < 1, "between 0 and 1"),
        "flatness": (0 < carve.flatness <= 1, "above 0, at most 1"),
    })  # fmt: skip
    for word in ("resize", "recenter"):
        if getattr(rounds[0], word):
            raise ConfigError(
                what=f"system.rounds[0].{word} is true", expected="a later round: before it nothing is new",
                fix="take it out, or set it in another round",
            )  # fmt: skip
    if cfg.edit_rate and any(each.carve != "none" or each.resize or each.recenter for each in rounds):
        raise ConfigError(
            what=f"a round is carved, resized or recentered and system.edit_rate is {cfg.edit_rate}",
            expected="all views edited at once, from which a shape is carved",
            fix="set carve: none, resize: false and recenter: false in system.rounds",
        )  # fmt: skip


def _check_pair(key: str, values: Any, usual: list[float], is_right: bool, expected: str) -> None:
    if not is_right:
        fix = f"set {key}={str(usual).replace(' ', '')}"
        raise ConfigError(what=f"{key} is {list(values)}", expected=expected, fix=fix)
