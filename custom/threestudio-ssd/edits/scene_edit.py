"""An edit of a scene by words: what its keys mean, from the splat file to the Gaussians that come out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

from ..data.scene_views import SceneViews, ViewPlan
from ..diffusion import Counters, PromptEmbeds
from ..errors import ConfigError, check_values
from ..fields import LatentField, RadianceField
from ..guidance import EditGuidance, EditKind, edit_kind
from ..latents import seen_through
from ..masks import MaskConfig, Selection, check_mask, find_selection, settle_mask
from ..masks.region import Region
from ..scenes import Scene, load_scene
from .background import BackgroundConfig, KeptBackground, check_keeping
from .edit import values_of
from .editable import EditableScene
from .editable_field import EditableField, for_editing
from .editable_gaussians import EditableGaussians, with_moved
from .field_splat import STEPS
from .gaussian_edit import (
    Anchors,
    ColorSteps,
    GaussianEdit,
    Interpolation,
    LearningRates,
    Movement,
    SceneJob,
    SceneUnderEdit,
    check_learning_rates,
)  # fmt: skip
from .growth import Growth, GrowthConfig, check_growth
from .keys import DistillationConfig, check_background, check_betas, check_not_negative, check_num_steps, load_guidance
from .latent_distillation import LatentDistillation, check_latent_edit
from .objectives import Distillation
from .seeding import SeedConfig, check_seeds, seeded
from .strength import at_strength, check_strength

STEPS_OF_A_WAY = 225
"""Steps from which on colours may go the whole of ``color_way``."""


class Freedom(NamedTuple):
    """How an edit's kind bears on its colours.

    Attributes:
        color_reach: What ``color_way`` is multiplied with where the whole scene is edited.
        color_reach_of_part: The same where a part of it is; None: ``color_reach`` times 2 s², at most whole, where the
            part takes the share s of the views.
        shading_share: What ``lambda_shading`` is multiplied with.
    """

    color_reach: float = 1.0
    color_reach_of_part: float | None = 1.0
    shading_share: float = 0.0


FREEDOMS: dict[EditKind, Freedom] = {
    "recolor": Freedom(shading_share=1.0),
    "material": Freedom(color_reach=2.0, color_reach_of_part=3.0, shading_share=1 / 8),
    "relight": Freedom(color_reach=2.0, color_reach_of_part=None, shading_share=1 / 48),
    "other": Freedom(),
}
"""Grass to snow and night to day are far, so colours go farther; where nothing is masked, not so far that sky and
object go along. The light of a scene shows in the whole image: a small part can do little about it, and would be
pushed too far. Like surfaces change alike: a material has its texture under the source's light, and the light of a
scene changes that of all its parts."""
LAST_SHARE = 0.05
"""What a rate has fallen to at the end of a run."""


@dataclass
class SceneEditConfig(DistillationConfig):
    """Keys of an edit of a scene."""

    scene: str = ""
    """Splat file to edit, or the folder of a radiance field."""
    num_steps: int = 1500
    """Optimisation steps, >= 1."""
    preset: Literal["none", "local", "style", "subtle", "strong"] = "none"
    """Which preset other keys come from, for the report; ``when:`` in the config says what it sets."""
    background: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Colour behind the scene, RGB in [0, 1]."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """What may change; empty: everything."""
    learning_rates: LearningRates = field(default_factory=LearningRates)
    """Per attribute."""
    rate_schedules: Interpolation = "linear"
    """How schedules of the learning rates go from value to value; exp: by a constant ratio per step, as published."""
    colors: Literal["free", "bounded"] = "free"
    """bounded: each Gaussian's colour stays in [0, 1], and what depends on the view follows it; free: as published."""
    color_way: float | None = None
    """How far colours may go over the whole run, > 0, in place of learning_rates.sh0: the sum of its rates, which fall
    to a twentieth. Less in fewer than 225 steps, by the root of their number, so that short runs are not noisier."""
    color_steps: ColorSteps = "adam"
    """adam: each Gaussian's colour is normalised by its own history, as published; visible-weight: one second
    moment for all, gradients per visible pixel, so that what the score hardly touches hardly moves; shared: neighbours
    within half a latent cell move together as well, so that hardly seen ones stay among their like."""
    adam_betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Adam's betas."""
    lambda_guidance: Any = 1.0
    """Weight of the guidance loss, number or schedule."""
    lambda_anchor: Anchors = field(default_factory=Anchors)
    """Weights of the anchors."""
    lambda_detail: Any = 0.0
    """Weight of changes finer than a latent cell, number or schedule, >= 0: an autoencoder that cannot see them
    lets them grow into speckles."""
    lambda_shading: Any = 0.0
    """Weight of changes that are not a change of material under the source's light, number or schedule, >= 0
    (``Shading``); each kind of edit has its share of it, ``FREEDOMS``."""
    edit_kind: Literal["auto", "recolor", "material", "relight", "other"] = "auto"
    """How firmly light and shade are kept and how far colours may go, ``FREEDOMS``; auto: as the prompts' words say."""
    seeds: SeedConfig = field(default_factory=SeedConfig)
    """Faint Gaussians around the selection, from which a new shape can grow."""
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    """Whether and how the selection grows."""
    keep: BackgroundConfig = field(default_factory=BackgroundConfig)
    """How what the mask leaves out is kept."""
    mask_latents: bool = False
    """Also drop the score where no selected Gaussian is visible."""
    splat_steps: int = STEPS
    """Of a radiance field: steps of fitting the splat that is written beside it, for viewers; 0: none."""
    preview_every: int = 250
    """Steps between pictures of the progress in save/progress; 0: none, and none of the mask in save/mask."""


class SceneEdit(SceneJob):
    """One scene, its views, its selection and the edit of it; systems and the Python call drive its ``edit``.

    Making it reads the scene and loads the model, so that everything that can be wrong is found before any work.

    Args:
        cfg: Keys of ``SceneEditConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used.
        SceneFormatError: For a scene or model that cannot be read.

    Attributes:
        source: The scene as its file has it, a ``Scene``.
        scene: The same where the edit runs, after ``open``.
        guidance: Network and score.
        kind: What kind of edit it is.
        views: Cameras, after ``open``.
        selection: What may change and why, after ``open``.
        region: Where seeds are and what moves has to stay, after ``open``; None without seeds.
    """

    load = staticmethod(load_scene)
    """Which scenes can be edited."""
    source: Any
    scene: Any
    views: SceneViews
    selection: Selection
    kind: EditKind
    region: Region | None = None

    def __init__(self, cfg: DictConfig) -> None:
        check_strength(cfg.strength)
        check_num_steps(cfg, SceneEditConfig)
        check_not_negative("system", cfg, SceneEditConfig, ("lambda_detail", "lambda_shading"))
        check_learning_rates(cfg.learning_rates)
        check_not_negative("system.lambda_anchor", cfg.lambda_anchor, Anchors)
        check_background(cfg)
        check_betas(cfg)
        check_mask(cfg.mask)
        check_growth(cfg.growth, cfg.num_steps)
        check_seeds("system.seeds", cfg.seeds)
        check_keeping(cfg)
        check_values("system", cfg, SceneEditConfig, {
            "color_way": (cfg.color_way is None or 0 < cfg.color_way < math.inf, "above 0 and finite"),
            "splat_steps": (cfg.splat_steps >= 0, "at least 0"),
        })  # fmt: skip
        self.source = self.load(cfg.scene)
        if isinstance(self.source, RadianceField):
            check_field_edit(cfg)
        rates = {name: values_of(rate) for name, rate in learning_rates_of(cfg).items()}
        if not any(values.numel() and any(rates[name]) for name, values in self.source.parameters().items()):
            what = "all of system.learning_rates are 0"
            raise ConfigError(what=what, expected="one above 0", fix="set system.learning_rates.sh0=0.0125")
        self.mask = self.mask_of(cfg)
        self.cfg = cfg = at_strength(cfg)
        self.prompts, self.guidance, self.embeddings = load_guidance(cfg)
        self.device = self.guidance.backbone.device
        words = self.prompts.cfg
        if isinstance(self.source, LatentField):
            self.source = seen_through(self.source, self.guidance.backbone, cfg.scene)
        self.kind = kind_of(cfg, words.source_prompt, words.target_prompt, self.guidance.reads_image)

    @staticmethod
    def mask_of(cfg: Any) -> DictConfig:
        """See ``SceneJob``; with seeds something else comes into the place of the selection."""
        return settle_mask(cfg.mask, cfg.scene, cfg.guidance.get("model", ""), is_replaced=cfg.seeds.count > 0)

    def open(self, plan: ViewPlan) -> None:
        """Choose views and selection, and lay out the edit.

        Args:
            plan: Says which views there are.
        """
        backbone, size = self.guidance.backbone, self.guidance.backbone.image_size
        if isinstance(self.source, LatentField):
            check_latent_edit(self.cfg, plan.cfg.crop)
            size = self.source.space.size
        views = plan.views(self.source, size, backbone.size_multiple)
        self.scene, self.selection = self.choose(views, plan)
        whole, is_moving = self.scene, self.selection.is_selected
        if self.cfg.seeds.count:
            up = views.orbit.up.to(whole.means)
            whole, is_moving, self.region = seeded(self.cfg.seeds, whole, is_moving, up, self.cfg.seed)
        if isinstance(whole, RadianceField):
            moving, rate = moving_of(self.cfg, is_moving), self.cfg.learning_rates.raw_densities
            self.scene = whole = for_editing(whole, moving, rate)
        self.views = plan.cropped(views, whole, is_moving)
        scene = scene_under_edit(
            self.cfg, whole, is_moving, self.views, self.cfg.seed, backbone.downscale, self.kind,
        )  # fmt: skip
        self.edit = distil(
            self.cfg, self.guidance, self.embeddings, [scene], self.views.size, self.background,
            sources=[self.scene_before()], views_per_step=plan.cfg.batch_size, keep_inside=self.keep_inside,
        )  # fmt: skip

    def choose(self, views: SceneViews, plan: ViewPlan) -> tuple[Scene, Selection]:
        """What is optimised, where the edit runs: the scene, and which of its rows may change."""
        scene = self.source.to(self.device)
        return scene, find_selection(self.mask, scene, views.train, plan.capture, self.background)

    @property
    def counters(self) -> Counters:
        """What the network has computed so far."""
        return self.guidance.backbone.counters

    def scene_before(self) -> Scene:
        """The scene as the user gave it, where the edit runs."""
        return self.scene

    def selection_in_view(self) -> tuple[Scene, Bool[Tensor, "n"]]:
        """A scene and which of its Gaussians say where images may change: with seeds the old object and the new one."""
        if self.region is None:
            return self.scene, self.selection.is_selected
        return with_moved(self.scene, self.selection.is_selected, self.editable)

    @property
    def num_selected(self) -> int:
        """How many Gaussians of the source may change."""
        return int(self.selection.is_selected.sum())

    @torch.no_grad()
    def keep_inside(self, editable: EditableScene) -> None:
        """Put the Gaussians back where they have to stay: in the region of the seeds, if there are any."""
        if self.region is not None:
            means = editable.selected["means"]
            means.copy_(self.region.clamped(means))


def kind_of(cfg: Any, source_prompt: str, target_prompt: str, is_instruction: bool = False) -> EditKind:
    """What kind of edit it is, by ``edit_kind`` of ``SceneEditConfig``.

    Args:
        cfg: The keys.
        source_prompt: What is there.
        target_prompt: What should be there.
        is_instruction: The target says what to do, and need not name what is there.
    """
    if cfg.edit_kind != "auto":
        return cfg.edit_kind
    return edit_kind("" if is_instruction else source_prompt, target_prompt)


def learning_rates_of(cfg: Any) -> dict[str, Any]:
    """Learning rates by attribute, that of colours as ``color_way`` says where it is set.

    Raises:
        ConfigError: If both ``color_way`` and ``learning_rates.sh0`` are set.
    """
    rates = {each.name: cfg.learning_rates[each.name] for each in fields(LearningRates)}
    if cfg.rate_schedules == "exp" and (zero := next((n for n, rate in rates.items() if _reaches_zero(rate)), None)):
        raise ConfigError(
            what=f"a schedule reaches 0, system.learning_rates.{zero}={values_of(rates[zero])}",
            expected="values above 0, between which a constant ratio leads",
            fix=f"set a small value in place of 0 in system.learning_rates.{zero}, or system.rate_schedules=linear",
        )
    if cfg.color_way is None:
        return rates
    if rates["sh0"] != LearningRates.sh0:
        raise ConfigError(
            what=f"both system.color_way ({cfg.color_way}) and system.learning_rates.sh0 ({rates['sh0']}) are set",
            expected="one of them: the rate of colours follows from their way",
            fix="set system.color_way=null to give the rate itself",
        )  # fmt: skip
    way = cfg.color_way * min(1.0, (cfg.num_steps / STEPS_OF_A_WAY) ** 0.5)
    first = 2 * way / ((1 + LAST_SHARE) * cfg.num_steps)
    return rates | {"sh0": [0, first, LAST_SHARE * first, cfg.num_steps]}


def movement_of(cfg: Any) -> Movement:
    """How Gaussians move by the keys of ``SceneEditConfig``."""
    interpolations: dict[str, Any] = dict.fromkeys(learning_rates_of(cfg), cfg.rate_schedules)
    if cfg.color_way is not None:  # whose rates fall in a straight line, or their sum would be another way
        interpolations["sh0"] = "linear"
    return Movement(
        learning_rates_of(cfg), cfg.color_steps, tuple(cfg.adam_betas), cfg.lambda_anchor, cfg.lambda_shading,
        interpolations,
    )  # fmt: skip


def _reaches_zero(rate: Any) -> bool:
    """Whether a schedule (a number is none) has a 0 in it."""
    return len(values_of(rate)) > 1 and min(values_of(rate)) <= 0


def scene_under_edit(
    cfg: Any, scene: Scene, is_selected: Bool[Tensor, "n"], views: SceneViews, seed: int, downscale: int,
    kind: EditKind = "other",
) -> SceneUnderEdit:  # fmt: skip
    """A scene as its edit sees it.

    Args:
        cfg: Keys of ``SceneEditConfig``.
        scene: Where the edit runs.
        is_selected: Which of its rows the mask selects.
        views: Cameras.
        seed: Of this scene's edit.
        downscale: Pixels that a latent cell has along a side, as the diffusion model gets them.
        kind: What kind of edit it is.
    """
    editable = editable_of(scene, moving_of(cfg, is_selected), cfg.colors == "bounded")
    growth = Growth(cfg.growth, editable, extent=views.extent, num_steps=cfg.num_steps, seed=seed)
    cell = downscale * int(views.train.widths[0]) / views.size[0]
    freedom = FREEDOMS[kind]
    laid_out = SceneUnderEdit(
        editable,
        views.train.to(scene.device),
        seed,
        growth,
        cell,
        shading_share=freedom.shading_share,
        mask=is_selected,
    )
    if cfg.color_way is None:
        return laid_out
    if is_selected.all():
        return replace(laid_out, color_reach=freedom.color_reach)
    reach = freedom.color_reach_of_part
    if reach is None:
        reach = freedom.color_reach * min(1.0, 2 * laid_out.share_of_views**2)
    return replace(laid_out, color_reach=reach)


def moving_of(cfg: Any, is_selected: Bool[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Which rows move by ``keep`` of ``SceneEditConfig``: those that the mask selects, or all."""
    return torch.ones_like(is_selected) if cfg.keep.moves else is_selected


def editable_of(scene: Scene, is_selected: Bool[Tensor, "n"], is_bounded: bool = False) -> EditableScene:
    """A scene with some of its rows as parameters.

    Args:
        scene: Gaussians, or a field.
        is_selected: Which of its rows may change.
        is_bounded: See ``EditableScene``.
    """
    if isinstance(scene, RadianceField):
        return EditableField(scene, is_selected, is_bounded)
    return EditableGaussians(scene, is_selected, is_bounded)


def check_field_edit(cfg: Any) -> None:
    """Refuse what the nodes of a radiance field cannot do: they stay where they are.

    Args:
        cfg: Has ``growth``, and ``seeds`` or not.

    Raises:
        ConfigError: For the first key that asks for it.
    """
    asked = [("growth.kind", cfg.growth.kind, "none"), ("seeds.count", cfg.get("seeds", {}).get("count", 0), 0)]
    for key, value, usual in asked:
        if value != usual:
            raise ConfigError(
                what=f"system.{key} is {value}, and scene {cfg.scene} is a radiance field, whose nodes stay where they "
                "are", expected=str(usual), fix=f"set system.{key}={usual}",
            )  # fmt: skip


def distil(
    cfg: Any,
    guidance: EditGuidance,
    prompts: Mapping[str, PromptEmbeds],
    scenes: Sequence[SceneUnderEdit],
    size: tuple[int, int],
    background: Float[Tensor, "3"],
    *,
    sources: Sequence[Scene] | None = None,
    views_per_step: int = 1,
    keep_inside: Any = None,
) -> GaussianEdit:
    """Score distillation of scenes by the keys of ``SceneEditConfig``.

    Args:
        cfg: The keys.
        guidance: Network and score.
        prompts: Embeddings by name, one row for all scenes or one for each.
        scenes: What is edited.
        size: Width and height of the images that the diffusion model gets, pixels.
        background: Colour behind the scenes, RGB in [0, 1].
        sources: Each scene before the edit; None: as its ``EditableGaussians`` has it.
        views_per_step: Views of each scene a step shows.
        keep_inside: See ``GaussianEdit``.
    """
    before = [scene.editable.source for scene in scenes] if sources is None else sources
    kind = LatentDistillation if isinstance(before[0], LatentField) else Distillation
    objective = kind(guidance, prompts, before, size, background, cfg, KeptBackground.of(cfg, background.device))
    return GaussianEdit(
        scenes, objective, movement_of(cfg), num_steps=cfg.num_steps, background=background,
        views_per_step=views_per_step, keep_inside=keep_inside,
    )  # fmt: skip
