"""Edits of scenes: the one loop body of scene edits, additions, removals, fits and the toy benchmark.

Scenes are Gaussians or radiance fields; what is said of Gaussians here holds for the nodes of a field.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from ..cameras import Cameras
from ..data import view_order
from ..errors import ConfigError
from ..gaussians.sh import rgbs_from_sh0
from ..masks import settle_mask, visible_weights
from ..metrics import ColorReading, hidden_ones, read_colors
from ..ranks import Rank
from ..rendering import render_with_info
from ..scenes import Scene
from .edit import Edit, Facts, refuse_others, value_at, values_of
from .editable import EditableScene
from .growth import Growth
from .keys import check_not_negative
from .shading import Shading
from .shared_grid import linear_shares
from .visible_adam import COLORS, VisibleAdam, color_steps_group

ColorSteps = Literal["adam", "visible-weight", "shared"]
Interpolation = Literal["linear", "exp"]
NODES_PER_CELL = 2
"""Nodes of the grid that steps are shared on, along a latent cell's side."""


@dataclass
class LearningRates:
    """Adam's learning rate per attribute, >= 0, a number or schedule [step, value, value, step]; 0 keeps it."""

    means: Any = 1.6e-4
    """Times the extent of the cameras (``cameras_extent``); a schedule goes from value to value by a constant ratio a
    step, so none of its values is 0."""
    log_scales: Any = 5e-3
    """Of the natural logs."""
    raw_quats: Any = 1e-3
    """Of the quaternions as stored."""
    logit_opacities: Any = 0.05
    """Of the logits."""
    sh0: Any = 0.0125
    """Of the degree 0 coefficients; times 0.28 in colour."""
    shN: Any = 0.000625
    """Of the higher degrees."""
    raw_densities: Any = 0.0
    """Of a radiance field's densities, before the softplus; splats have none."""


def check_learning_rates(cfg: Any) -> None:
    """Refuse rates below 0, and a schedule of means that reaches 0.

    Args:
        cfg: Keys of ``LearningRates``, at ``system.learning_rates``.

    Raises:
        ConfigError: For the first that is.
    """
    check_not_negative("system.learning_rates", cfg, LearningRates)
    values = values_of(cfg.means)
    if len(values) > 1 and min(values) == 0:
        raise ConfigError(
            what=f"system.learning_rates.means is {cfg.means}",
            expected="values above 0 in a schedule, which goes from one to the next by a constant ratio",
            fix="write a small value such as 1.6e-6 in place of 0, or a single 0 to keep means where they are",
        )  # fmt: skip


@dataclass
class Anchors:
    """Weights of the mean squared distance of each attribute from its anchor, >= 0: the source, or the last growth."""

    means: float = 0.0
    log_scales: float = 0.0
    raw_quats: float = 0.0
    logit_opacities: float = 0.0
    sh0: float = 0.0
    shN: float = 0.0
    raw_densities: float = 0.0


@dataclass(frozen=True)
class Movement:
    """How Gaussians move: what ``system`` keys of every edit of Gaussians say.

    Attributes:
        learning_rates: Per attribute.
        color_steps: ``adam``, ``visible-weight`` or ``shared``, see ``VisibleAdam``.
        betas: Of Adam.
        anchors: Weights of the anchors, by attribute.
        lambda_shading: Weight of ``Shading``, number or schedule, visible weight counted in latent cells.
        interpolations: How a schedule of an attribute's rate goes from value to value, ``linear`` (the default) or
            ``exp``, by attribute; that of means always ``exp``, as in 3D Gaussian splatting.
    """

    learning_rates: Mapping[str, Any]
    color_steps: ColorSteps = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    anchors: Mapping[str, float] = field(default_factory=dict)
    lambda_shading: Any = 0.0
    interpolations: Mapping[str, Interpolation] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneUnderEdit:
    """One scene of an edit.

    Attributes:
        editable: Its Gaussians, and which of them move.
        cameras: Training views, where the Gaussians are.
        seed: Decides the order of views, timesteps and noise.
        growth: Lets the selection grow; knows the scene's extent.
        cell: Side of a latent cell in the views, pixels.
        color_reach: What the rate of sh0 is multiplied with.
        shading_share: What the weight of the shading term is multiplied with, >= 0; at 0 there is none.
        mask: Which rows of the source say where images may change; None: those that move.
    """

    editable: EditableScene
    cameras: Cameras
    seed: int
    growth: Growth
    cell: float = 1.0
    color_reach: float = 1.0
    shading_share: float = 0.0
    mask: Bool[Tensor, "n"] | None = None

    @property
    def in_mask(self) -> Bool[Tensor, "n"]:
        """Which rows of the source say where images may change."""
        return self.editable.is_selected if self.mask is None else self.mask

    @property
    def extent(self) -> float:
        """``cameras_extent``, world units: what the learning rate of means is times."""
        return self.growth.extent

    @cached_property
    @torch.no_grad()
    def visible_weights(self) -> Float[Tensor, "n"]:
        """Pixels' worth of weight that each Gaussian of the source has in an average training view.

        All views count: a Gaussian that only a view left out here shows would be thrown about.
        """
        source, views = self.editable.source, self.cameras
        everything = torch.ones(len(views), int(views.heights[0]), int(views.widths[0]))
        return visible_weights(source, views, everything)[1] / len(views)

    @property
    def share_of_views(self) -> float:
        """Share of what the training views show of the scene that the selection takes, in [0, 1]."""
        return float(self.visible_weights[self.editable.is_selected].sum() / self.visible_weights.sum())

    @torch.no_grad()
    def cell_size(self) -> float:
        """Side of a latent cell at the selection's distance, world units: the median over views."""
        points, views = self.editable.source.means[self.editable.is_selected], self.cameras
        if len(points) == 0:
            return 1.0
        sizes = []
        for viewmat, K in zip(views.viewmats, views.Ks, strict=True):
            depths = points @ viewmat[2, :3] + viewmat[2, 3]
            seen = depths[depths > 0]
            if len(seen):
                sizes.append(seen.median() / K[0, 0])
        return self.cell * float(torch.stack(sizes).median()) if sizes else 1.0


class SceneJob:
    """One scene and the edit of it, from its keys to the Gaussians that come out.

    Attributes:
        cfg: Keys, checked against their dataclass.
        device: Where the edit runs.
        edit: The edit, once it was laid out.
    """

    cfg: Any
    device: torch.device
    edit: "GaussianEdit"

    @staticmethod
    def mask_of(cfg: Any) -> DictConfig:
        """The keys of the mask as the job settles them, which needs no model loaded; see ``settle_mask``."""
        return settle_mask(cfg.mask, cfg.scene, cfg.model)

    @property
    def background(self) -> Float[Tensor, "3"]:
        """Colour behind the scene, where the edit runs."""
        return torch.tensor(list(self.cfg.background), dtype=torch.float32, device=self.device)

    @property
    def editable(self) -> Any:
        """The scene as it is now, an ``EditableScene``."""
        return self.edit.scenes[0].editable


class Objective:
    """What renders of the edited scenes are held against."""

    def join(self, rank: Rank) -> None:
        """Override where the loss is the mean over views, so that processes can share them.

        Raises:
            ConfigError: If it is not, and there are several.
        """
        refuse_others(rank)

    def prepare(self, scenes: Sequence[SceneUnderEdit], views_per_step: int) -> None:
        """Override to compute what is known before the first step; each will show that many views of each scene."""

    def look(
        self, scene: Scene, cameras: Cameras, background: Float[Tensor, "3"], **options: Any
    ) -> tuple[Float[Tensor, "b h w d"], dict[str, Any]]:
        """What of a scene is held against something, and what the rasteriser knows beside it.

        Override for what else than images a scene shows.

        Args:
            scene: As it is now.
            cameras: Views.
            background: Colour behind it.
            **options: Of ``render_with_info``.
        """
        images, _, info = render_with_info(scene, cameras, background, **options)
        return images, info

    def __call__(
        self, images: Sequence[Float[Tensor, "b h w d"]], rows: Sequence[Int[Tensor, "b"]], step: int
    ) -> tuple[Tensor, Facts]:
        """The loss of a step, summed over scenes so that each has the gradient it would have alone, and what to log.

        Args:
            images: Of ``look``, of each scene; renders are not clamped.
            rows: Which of its cameras they are, on the CPU.
            step: Of the run.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what renders are held against")

    def shrink(self) -> str | None:
        """Override to do with less memory from now on, see ``Edit.shrink``."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Override for what a checkpoint keeps: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Override to go on from a checkpoint."""


class GaussianEdit(Edit):
    """Scenes that move towards an objective.

    Args:
        scenes: At least one.
        objective: What their renders are held against.
        movement: Rates and anchors.
        num_steps: Length of the run.
        background: Colour behind the scenes, RGB in [0, 1].
        views_per_step: Views of each scene a step shows.
        sh_degree_at: Step -> highest degree of view-dependent colour that is used; None: all.
        keep_inside: Called with a scene's Gaussians after each step, to put them back where they have to stay.
    """

    def __init__(
        self,
        scenes: Sequence[SceneUnderEdit],
        objective: Objective,
        movement: Movement,
        *,
        num_steps: int,
        background: Float[Tensor, "3"],
        views_per_step: int = 1,
        sh_degree_at: Callable[[int], int] | None = None,
        keep_inside: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(num_steps)
        self.scenes, self.objective, self.movement = list(scenes), objective, movement
        self.editables = nn.ModuleList([scene.editable for scene in scenes])
        self.background, self.views_per_step = background, views_per_step
        self._sh_degree_at, self._keep_inside = sh_degree_at, keep_inside
        self._shadings: list[Shading | None] = []

    def join(self, rank: Rank) -> None:
        """Show a share of each step's views; the other processes show the others."""
        self.objective.join(rank)
        if self.views_per_step % rank.count:
            raise ConfigError(
                what=f"data.batch_size is {self.views_per_step}, and {rank.count} devices share the views of a step",
                expected=f"a multiple of {rank.count}", fix=f"set data.batch_size={rank.count}",
            )  # fmt: skip
        self.rank = rank
        for scene in self.scenes:
            scene.growth.rank = rank

    @torch.no_grad()
    def prepare(self) -> None:
        """See ``Edit.prepare``."""
        self.objective.prepare(self.scenes, self.views_per_step // self.rank.count)
        if self.movement.lambda_shading != 0:
            for scene in self.scenes:
                rgbs = rgbs_from_sh0(scene.editable.source.sh0[:, 0])
                shading = Shading(rgbs, scene.visible_weights / scene.cell**2) if scene.shading_share > 0 else None
                self._shadings.append(shading)

    def make_optimizers(self) -> list[Optimizer]:
        """One for each scene, with one group for each attribute that moves."""
        return [self._optimizer(scene) for scene in self.scenes]

    def _optimizer(self, scene: SceneUnderEdit) -> VisibleAdam:
        editable, how = scene.editable, self.movement.color_steps
        groups = editable.optimizer_groups(self.movement.learning_rates)
        if how != "adam":
            shares = None
            if how == "shared":
                side = scene.cell_size() / NODES_PER_CELL
                shares = linear_shares(editable.current().means.detach(), side)
            weights = scene.visible_weights[editable.rows]
            for group in groups:
                if group["name"] in COLORS:
                    group.update(color_steps_group(weights, shares))
        return VisibleAdam(groups, betas=self.movement.betas)

    def color_readings(self, scene: SceneUnderEdit) -> tuple[ColorReading, ColorReading]:
        """Whether colours of the selection ran away: before the edit, and as they are now."""
        editable, is_selected = scene.editable, scene.editable.is_selected
        is_hidden = hidden_ones(scene.visible_weights[is_selected])
        chosen, places = editable.source.select(is_selected), is_selected.cumsum(0) - 1
        before = read_colors(chosen.means, rgbs_from_sh0(chosen.sh0[:, 0]), is_hidden)
        current = editable.current()
        after = read_colors(current.means, rgbs_from_sh0(current.sh0[:, 0]), is_hidden[places[editable.rows]])
        return before, after

    def shrink(self) -> str | None:
        """What the objective can do without; else half the views a step."""
        smaller = self.objective.shrink()
        if smaller is None and self.views_per_step > 1:
            self.views_per_step //= 2
            smaller = f"data.batch_size={self.views_per_step}"
        return smaller

    def before_step(self, step: int, optimizers: Sequence[Optimizer]) -> None:
        """Grow and prune where it is time."""
        for scene, optimizer in zip(self.scenes, optimizers, strict=True):
            scene.growth.before_step(step, optimizer)

    def loss(self, step: int) -> tuple[Tensor, Facts]:
        """Render some views of each scene and ask the objective; anchors and shading are added."""
        degree = None if self._sh_degree_at is None else self._sh_degree_at(step)
        images, rows = [], []
        for scene in self.scenes:
            row = self.rank.part(view_order(len(scene.cameras), step, self.views_per_step, scene.seed))
            image, info = self.objective.look(
                scene.editable.scene(), scene.cameras[row], self.background, sh_degree=degree,
                absgrad=scene.growth.cfg.absgrad,
            )  # fmt: skip
            scene.growth.watch(info, step)
            images.append(image)
            rows.append(row)
        loss, facts = self.objective(images, rows, step)
        for scene in self.scenes:
            loss = loss + self._anchor_loss(scene, step)
        for scene, shading in zip(self.scenes, self._shadings, strict=False):  # none where the weight is 0
            if shading is not None:
                rgbs = rgbs_from_sh0(scene.editable.current_sh0()[:, 0])
                weight = value_at(self.movement.lambda_shading, step) * scene.shading_share
                loss = loss + weight * shading(rgbs, scene.editable.rows)
        return loss, facts

    def _anchor_loss(self, scene: SceneUnderEdit, step: int) -> Tensor | float:
        weights = scene.growth.generation_weights(step)
        return sum(
            self.movement.anchors[name] * scene.editable.drift(name, weights)
            for name, parameter in scene.editable.selected.items()
            if self.movement.anchors.get(name, 0.0) > 0 and parameter.numel()
        )

    def after_backward(self, is_good: Bool[Tensor, ""], loss_scale: float) -> None:
        """Gradients on the screen decide what grows."""
        for scene in self.scenes:
            scene.growth.record(is_good, loss_scale)

    def set_rates(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """The learning rates of this step; that of means is times the scene's extent, that of sh0 times its reach."""
        for scene, optimizer in zip(self.scenes, optimizers, strict=True):
            factors = {"means": scene.extent, "sh0": scene.color_reach}
            for group in optimizer.param_groups:
                name = group["name"]
                how = "exp" if name == "means" else self.movement.interpolations.get(name, "linear")
                group["lr"] = value_at(self.movement.learning_rates[name], step, how) * factors.get(name, 1.0)

    def after_step(self, step: int) -> None:
        """Put the Gaussians back where they have to stay."""
        if self._keep_inside is not None:
            for scene in self.scenes:
                self._keep_inside(scene.editable)

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the Gaussians: what the objective has learned."""
        return self.objective.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.objective.load_state_dict(state)
