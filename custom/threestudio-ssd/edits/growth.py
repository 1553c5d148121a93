"""Growth of the selection while it is optimised: GaussianEditor's hierarchy, or gsplat's strategy kept inside it."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

import threestudio

from ..errors import ConfigError, check_values
from ..gaussians import Gaussians, Offspring, anchor_weights, grow, strongest
from ..gaussians.model import FIELD_NAMES
from ..ranks import ALONE, Rank
from ..seeds import Stream, generator
from .edit import A_MOMENT, AN_INTERVAL, due_steps, in_steps, is_interval, is_moment
from .editable import EditableScene

GSPLAT_NAMES = dict(zip(("means", "scales", "quats", "opacities", "sh0", "shN"), FIELD_NAMES, strict=True))
"""gsplat's names of the attributes as they are optimised -> ours."""


@dataclass
class GrowthConfig:
    """Keys of growth; outside the selection nothing grows, moves or is pruned.

    ``start``, ``stop``, ``every`` and ``reset_every`` count steps where they are whole numbers. With a decimal point
    they are shares of the run, so that it grows alike in any number of steps. The defaults are GaussianEditor's steps
    100, 200, .. 1400 of 1500.
    """

    kind: Literal["none", "hierarchical", "default"] = "none"
    """hierarchical: GaussianEditor's (a share of the Gaussians grows, generations are held by anchors); default:
    gsplat's DefaultStrategy (whatever is above a gradient grows)."""
    start: int | float = 0.06
    """No growth before it: a step, or a share of the run."""
    stop: int | float = 0.94
    """None after it: a step, or a share of the run."""
    every: int | float = 0.06667
    """Growth happens at its multiples: steps, >= 1, or a share of the run, in (0, 1]."""
    max_gaussians: int = 1_000_000
    """The scene never has more than this, whatever grows."""
    top_share: float = 0.01
    """hierarchical: share of the Gaussians with any gradient that grow each time, in (0, 1]."""
    least_grad: float = 0.0
    """hierarchical: mean screen gradient below which none grows; gsplat's units, no gradient scaler in them."""
    grad_above: float = 2e-4
    """default: mean screen gradient above which a Gaussian grows; fits losses that are a mean over pixels."""
    absgrad: bool = False
    """default: use absolute gradients (AbsGS); grad_above is then about 8e-4."""
    split_scale: float = 0.01
    """Gaussians larger than this are split, smaller ones cloned; in units of the cameras' extent."""
    prune_opacity: float = 0.005
    """Fainter Gaussians are removed."""
    prune_scale: float = 0.1
    """Gaussians that grew larger than this are removed; in units of the cameras' extent."""
    reset_every: int | float = 0
    """default: opacities are reset at its multiples, steps or a share of the run; 0: never, as an edit of a finished
    scene wants it."""
    anchor_first: float = 0.05
    """hierarchical: weight of the scene's own Gaussians in the anchors before the first growth."""
    anchor_birth: float = 0.1
    """hierarchical: weight of a generation one growth after its birth."""
    anchor_factor: float = 1.3
    """hierarchical: all weights times this at each growth, up to 10."""


def check_growth(cfg: DictConfig, num_steps: int) -> None:
    """Find what is wrong with the keys of growth before any work, and say so if nothing would ever grow.

    Args:
        cfg: Keys of ``GrowthConfig``, at ``system.growth``.
        num_steps: Length of the run.

    Raises:
        ConfigError: For a number out of range.
    """
    check_values("system.growth", cfg, GrowthConfig, {
        "start": (is_moment(cfg.start), A_MOMENT),
        "stop": (is_moment(cfg.stop), A_MOMENT),
        "every": (is_interval(cfg.every), AN_INTERVAL),
        "reset_every": (is_moment(cfg.reset_every), f"0 for never, {AN_INTERVAL}"),
        "max_gaussians": (cfg.max_gaussians >= 1, "at least 1"),
        "top_share": (0 < cfg.top_share <= 1, "above 0, at most 1"),
    })  # fmt: skip
    if in_steps(cfg.stop, num_steps) < in_steps(cfg.start, num_steps):
        expected, fix = f"at least growth.start, which is {cfg.start}", f"set system.growth.stop={cfg.start}"
        raise ConfigError(what=f"system.growth.stop is {cfg.stop}", expected=expected, fix=fix)
    if cfg.kind != "none" and not due_steps(cfg.start, cfg.stop, cfg.every, num_steps):
        threestudio.warn(
            f"Nothing grows in {num_steps} steps: system.growth starts at {cfg.start} and goes by {cfg.every}. "
            "Shares of the run, such as start=0.1 every=0.1, fit any number of steps."
        )


class Growth:
    """Watches gradients on the screen and lets the selection grow between steps.

    A growth happens before the step it is due at, after the optimiser step and the checkpoint of the one before: no
    step is lost, and a resumed run grows as the uninterrupted one does.

    Args:
        cfg: When and how.
        editable: What grows, Gaussians if anything; what changes is kept in it, and so in the checkpoint.
        extent: ``cameras_extent`` of the scene, world units.
        num_steps: Length of the run, which shares are of.
        seed: With the step, decides where the halves of split Gaussians lie.
    """

    def __init__(
        self,
        cfg: GrowthConfig | DictConfig,
        editable: EditableScene,
        *,
        extent: float,
        num_steps: int,
        seed: int,
    ) -> None:
        self.cfg, self.extent, self.seed = cfg, extent, seed
        self.editable: Any = editable
        self.rank: Rank = ALONE
        """Whose views it watches; what it records is summed over all processes."""
        self._due = due_steps(cfg.start, cfg.stop, cfg.every, num_steps) if self.is_on else []
        self._resets = due_steps(0, num_steps, cfg.reset_every, num_steps) if cfg.reset_every else []
        self._info: dict[str, Any] | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything ever grows."""
        return self.cfg.kind != "none"

    def num_growths(self, step: int) -> int:
        """Growths before a step."""
        return bisect_right(self._due, step)

    def is_due(self, step: int) -> bool:
        """Whether the selection grows before this step."""
        return step in self._due

    def generation_weights(self, step: int) -> Float[Tensor, "g"] | None:
        """How firmly each generation is held to its anchor at a step; None: all alike."""
        if self.cfg.kind != "hierarchical":
            return None
        return anchor_weights(
            self.num_growths(step), first=self.cfg.anchor_first, birth=self.cfg.anchor_birth,
            factor=self.cfg.anchor_factor,
        )  # fmt: skip

    def watch(self, info: dict[str, Any], step: int) -> None:
        """Keep the gradient on the screen of a render; call it before the backward pass."""
        self._info = None
        if self._due and step < self._due[-1]:
            info["means2d"].retain_grad()
            self._info = info

    @torch.no_grad()
    def record(self, is_good: Bool[Tensor, ""], loss_scale: float = 1.0) -> None:
        """Add the gradients of the backward pass to the statistics.

        Args:
            is_good: Whether the step is made; one that is not says nothing.
            loss_scale: What a gradient scaler multiplied the loss with; taken out, so that thresholds mean the same.
        """
        info, self._info = self._info, None
        if info is None:
            return
        sums, counts = torch.zeros_like(self.editable.grad_sums), torch.zeros_like(self.editable.grad_counts)
        means2d = info["means2d"]
        if means2d.grad is not None:
            grads = (means2d.absgrad if self.cfg.absgrad and hasattr(means2d, "absgrad") else means2d.grad) / loss_scale
            sides = grads.new_tensor([info["width"], info["height"]])
            norms = (grads * (sides / 2 * info["n_cameras"])).norm(dim=-1)
            rows = info["gaussian_ids"] - self.editable.num_fixed
            is_ours = (rows >= 0) & torch.isfinite(norms)  # left on the CPU by a rasteriser there
            rows, is_ours = rows.clamp_min(0).to(sums.device), is_ours.to(sums.device) & is_good.to(sums.device)
            sums.index_add_(0, rows, torch.where(is_ours, norms.to(sums.device), 0.0))
            counts.index_add_(0, rows, is_ours.to(counts))
        self.editable.grad_sums += self.rank.total(sums)
        self.editable.grad_counts += self.rank.total(counts)

    @torch.no_grad()
    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Grow and prune if it is time.

        Args:
            step: The step about to be made.
            optimizer: Follows what happens to the parameters.
        """
        if self.cfg.kind == "default" and step in self._resets:
            self._reset_opacities(optimizer)
        if not self.is_due(step):
            return
        before = len(self.editable)
        offspring = self._hierarchical(step) if self.cfg.kind == "hierarchical" else self._default(step)
        self.editable.rearrange(offspring, optimizer)
        self.editable.begin_generation(offspring.is_new, self.num_growths(step))
        threestudio.debug(f"step {step}: {before} -> {len(self.editable)} selected Gaussians")

    @property
    def _room(self) -> int:
        return max(0, self.cfg.max_gaussians - self.editable.num_fixed - len(self.editable))

    @property
    def _mean_grads(self) -> Float[Tensor, "m"]:
        return self.editable.grad_sums / self.editable.grad_counts.clamp_min(1)

    def _hierarchical(self, step: int) -> Offspring:
        """The strongest share grows; then faint and overgrown Gaussians leave (Chen et al. 2024)."""
        cfg = self.cfg
        is_growing = strongest(self._mean_grads, cfg.top_share, cfg.least_grad, self._room)
        draws = generator(self.seed, step, Stream.GROWTH)
        current = self.editable.current().detach()
        offspring = grow(current, is_growing, cfg.split_scale * self.extent, draws)
        return offspring.without(self._is_worthless(offspring))

    def _default(self, step: int) -> Offspring:
        """gsplat's rules on copies of the selection; what it did is read off the rows it carries along."""
        from gsplat.strategy import DefaultStrategy

        cfg, grads = self.cfg, self._mean_grads
        threshold = cfg.grad_above
        if int((grads > threshold).sum()) > self._room:  # one more Gaussian for each that grows
            threshold = float(grads.topk(self._room + 1).values[-1])
        strategy = DefaultStrategy(grow_grad2d=threshold, grow_scale3d=cfg.split_scale, absgrad=cfg.absgrad)
        params = {theirs: self.editable.selected[ours].detach() for theirs, ours in GSPLAT_NAMES.items()}
        parents = torch.arange(len(self.editable), device=grads.device)
        carried = {"grad2d": grads, "count": torch.ones_like(grads), "scene_scale": self.extent, "parents": parents}
        kept = {name: _Follower(param) for name, param in params.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(self.seed, step, Stream.GROWTH).initial_seed())
            strategy._grow_gs(params, kept, carried, step)  # pyright: ignore[reportArgumentType]  # stands in for Adam
        gaussians = Gaussians(**{ours: params[theirs].detach() for theirs, ours in GSPLAT_NAMES.items()})
        offspring = Offspring(gaussians, carried["parents"], kept["means"].is_new(params["means"]))
        return offspring.without(self._is_worthless(offspring))

    def _is_worthless(self, offspring: Offspring) -> Bool[Tensor, "m"]:
        """Faint ones, and those that became too large; a Gaussian that was large in the scene may stay so."""
        bound = self.cfg.prune_scale * self.extent
        source, rows = self.editable.source, self.editable.rows[offspring.parents]
        was_large = (source.scales.amax(dim=1)[rows.clamp_min(0)] > bound) & (rows >= 0)
        is_large = (offspring.gaussians.scales.amax(dim=1) > bound) & ~was_large
        return is_large | (offspring.gaussians.opacities < self.cfg.prune_opacity)

    def _reset_opacities(self, optimizer: torch.optim.Optimizer) -> None:
        """Down to twice the pruning bound, moments to zero, as gsplat's reset_opa."""
        parameter = self.editable.selected["logit_opacities"]
        parameter.clamp_(max=float(torch.logit(torch.tensor(2 * self.cfg.prune_opacity))))
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value.zero_()


class _Follower:
    """Stands in for an optimiser in gsplat's functions and remembers which rows they made: those have no moments."""

    def __init__(self, parameter: Tensor) -> None:
        self.param_groups = [{"params": [parameter]}]
        self.state = {parameter: {"kept": torch.ones(len(parameter), device=parameter.device)}}

    def is_new(self, parameter: Tensor) -> Bool[Tensor, "m"]:
        """Which rows of the parameter as it is now were made."""
        return self.state[parameter]["kept"] == 0
