"""A dataset update: the views are edited, the Gaussians fitted to them, and round again (Haque et al. 2023)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.optim import Optimizer

from ..edits.edit import Facts
from ..edits.editable_gaussians import EditableGaussians
from ..edits.gaussian_edit import GaussianEdit, Movement, SceneUnderEdit
from ..edits.objectives import Photometric
from ..gaussians import Gaussians, Offspring
from ..gaussians import sh0_from_rgbs
from ..metrics import Lpips, gaussian_blur
from ..rendering import coverage, render
from .carve import carved, colored, seen_colors, surface_gaussians
from .editing import ViewEditing
from .light import light_on
from .rounds import Schedule

OnViews = Callable[[int, Sequence[str], Float[Tensor, "b 3 h w"]], Any]
"""Called with the number of an edit, the names of the views and what they were edited to."""


class EditedViews(Photometric):
    """Renders are held against the edited views as they stand; these are kept in checkpoints, a byte a channel.

    Args:
        count: Views there are.
        lambda_ssim: Share of 1 - SSIM in the loss; the rest is L1.
        lambda_lpips: Weight of LPIPS beside it.
        network: Of LPIPS; None where its weight is 0.
    """

    def __init__(self, count: int, lambda_ssim: float, lambda_lpips: float = 0.0, network: Lpips | None = None) -> None:
        super().__init__([torch.empty(0, 0, 3)] * count, lambda_ssim)
        self.lambda_lpips, self.network = lambda_lpips, network
        self.pixels: UInt8[Tensor, "v h w 3"] | None = None

    def update(self, rows: Int[Tensor, "b"], images: Float[Tensor, "b 3 h w"]) -> None:
        """Put edited views in place of the old ones; the first time it takes all of them."""
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        if self.pixels is None:
            self.pixels = pixels
        else:
            self.pixels = self.pixels.index_copy(0, rows.to(pixels.device), pixels)
        self._unpack()

    def __call__(
        self, images: Sequence[Float[Tensor, "b h w 3"]], rows: Sequence[Int[Tensor, "b"]], step: int
    ) -> tuple[Tensor, Facts]:
        """The loss of a step's views; see ``Photometric``."""
        loss, facts = super().__call__(images, rows, step)
        if self.network is None:
            return loss, facts
        targets = torch.stack([self.targets[place] for place in rows[0].tolist()])
        pair = (each.permute(0, 3, 1, 2) for each in (images[0].clamp(0, 1), targets))
        return loss + self.lambda_lpips * self.network(*pair).mean(), facts

    def state_dict(self) -> dict[str, Any]:
        """The edited views."""
        return {} if self.pixels is None else {"pixels": self.pixels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.pixels = state.get("pixels")
        if self.pixels is not None:
            self._unpack()

    def _unpack(self) -> None:
        assert self.pixels is not None
        self.targets = list(self.pixels.float() / 255)


class ViewsEdit(GaussianEdit):
    """A scene whose views are edited again and again, and whose Gaussians follow them.

    Args:
        scene: What moves.
        editing: Edits the views.
        objective: Holds the edited views.
        movement: Rates; they fall within each round.
        schedule: When views are edited, and how strongly.
        cfg: Of the keys of ``SceneRefitConfig``: edit_rate, edit_count, start, carve, learning_rate_end,
            lambda_opacity, scale_limits.
        background: Colour behind the scene, RGB in [0, 1].
        views_per_step: Views a step shows.
    """

    def __init__(
        self,
        scene: SceneUnderEdit,
        editing: ViewEditing,
        objective: EditedViews,
        movement: Movement,
        schedule: Schedule,
        cfg: Any,
        *,
        background: Float[Tensor, "3"],
        views_per_step: int,
    ) -> None:
        super().__init__(
            [scene], objective, movement, num_steps=cfg.num_steps, background=background,
            views_per_step=views_per_step, keep_inside=self._keep_in_region,
        )  # fmt: skip
        self.editing, self.views, self.schedule, self.cfg = editing, objective, schedule, cfg
        self.on_views: OnViews | None = None
        """What to do with edited views."""

    @property
    def editable(self) -> EditableGaussians:
        """The Gaussians that move."""
        return self.scenes[0].editable

    def due_views(self, step: int) -> Int[Tensor, "b"] | None:
        """Which views are edited before a step; None: none."""
        count, rate = len(self.editing.cameras), self.cfg.edit_rate
        if rate == 0:
            return torch.arange(count) if self.schedule.begins(step) else None
        if step % rate:
            return None
        first = step // rate * self.cfg.edit_count
        return torch.arange(first, first + min(self.cfg.edit_count, count)) % count

    def prepare(self) -> None:
        """See ``Edit.prepare``; until they are edited, views are as before the edit."""
        super().prepare()
        if self.views.pixels is None:
            self.views.update(torch.arange(len(self.editing.cameras)), self.editing.sources)

    def before_step(self, step: int, optimizers: Sequence[Optimizer]) -> None:
        """Edit views where it is time; then growth."""
        rows = self.due_views(step)
        if rows is not None:
            self._edit_views(step, rows, optimizers[0])
        super().before_step(step, optimizers)

    @torch.no_grad()
    def _edit_views(self, step: int, rows: Int[Tensor, "b"], optimizer: Optimizer) -> None:
        index, editing = self.schedule.index(step), self.editing
        one, count = self.schedule.rounds[index], len(editing.cameras)
        number = index if self.cfg.edit_rate == 0 else step // self.cfg.edit_rate * len(rows) // count
        current = None if step == 0 else self.editable.scene()
        images, shares = editing.edit(current, rows, one.strength, number)
        if one.carve != "none" and len(rows) == count:
            covered = shares if one.carve == "views" else self._coverage()
            new = self._carved(covered, images, shares, one.carve == "renders")
            self._replace(new, optimizer)
        if one.relight:
            images = images.lerp(images * self._light_maps(rows), shares).clamp(0, 1)
            if one.carve != "none":
                self._recolor(images, shares)
        self.views.update(rows, images)
        if self.on_views is not None:
            self.on_views(number, [editing.cameras.names[row] for row in rows.tolist()], images)

    def _whole(self, new: Gaussians) -> tuple[Gaussians, Bool[Tensor, "n"]]:
        """The empty scene with new Gaussians, and which those are."""
        empty = self.editing.empty.detach()
        fields: Any = {name: torch.cat([getattr(empty, name), tensor]) for name, tensor in new.parameters().items()}
        return Gaussians(**fields), torch.arange(len(empty) + len(new), device=new.device) >= len(empty)

    def _coverage(self) -> Float[Tensor, "c 1 h w"]:
        whole, is_new = self._whole(self.editable.current().detach())
        return coverage(whole, is_new, self.editing.cameras)[:, None]

    def _carved(self, covered, images, shares, is_fine) -> Gaussians:
        """What views agree on."""
        cfg, editing = self.cfg.carve, self.editing
        spacing = (cfg.fine if is_fine else cfg.spacing) * editing.region.size
        agreement = cfg.fine_agreement if is_fine else cfg.agreement
        points, normals = carved(editing.region, editing.cameras, covered, spacing, agreement)
        new = surface_gaussians(points, normals, spacing, cfg.fine_opacity if is_fine else cfg.opacity, cfg.flatness)
        new = new.with_sh_degree(self.editable.source.sh_degree)
        return colored(new, seen_colors(*self._whole(new), editing.cameras, images, shares))

    def _recolor(self, images, shares):
        current = self.editable.current().detach()
        rgbs = seen_colors(*self._whole(current), self.editing.cameras, images, shares)
        self.editable.selected["sh0"].copy_(sh0_from_rgbs(rgbs)[:, None])

    def _light_maps(self, rows) -> Float[Tensor, "b 1 h w"]:
        """What to multiply views of the evenly lit object with."""
        editing, cfg = self.editing, self.cfg.carve
        spacing = cfg.fine * editing.region.size
        is_old = self.editable.is_selected
        source = coverage(self.editable.source, is_old, editing.cameras)[:, None]
        old, normals = carved(editing.region, editing.cameras, source, spacing, cfg.fine_agreement)
        surface = surface_gaussians(old, normals, spacing, 0.95, 0.5).with_sh_degree(self.editable.source.sh_degree)
        rgbs = seen_colors(*self._whole(surface), editing.cameras, editing.sources, (source > 0.9).float())
        light = light_on(normals, rgbs)
        new, facing = carved(editing.region, editing.cameras, self._coverage(), spacing, cfg.fine_agreement)
        disc = surface_gaussians(new, facing, spacing, 0.95, 0.5).with_sh_degree(self.editable.source.sh_degree)
        colors = seen_colors(*self._whole(disc), editing.cameras, editing.renders(self.editable.scene()), self._coverage())
        factors = light.factors(facing, colors)
        whole, is_new = self._whole(disc)
        values = torch.zeros(len(whole), 2)
        values[is_new, 0] = factors
        values[is_new, 1] = 1
        maps = [render(whole, editing.cameras[r], torch.zeros(2), values)[0][0] for r in rows.tolist()]
        maps = torch.stack(maps).permute(0, 3, 1, 2)
        blurred = gaussian_blur(maps, 1.0)
        return torch.where(maps[:, 1:] > 0.5, maps[:, :1] / maps[:, 1:].clamp_min(1e-3), blurred[:, :1] / blurred[:, 1:].clamp_min(1e-3)).where(blurred[:, 1:] > 0.02, torch.ones(()))

    def _replace(self, new: Gaussians, optimizer: Optimizer) -> None:
        """Put new Gaussians in the place of the selection."""
        parents = torch.zeros(len(new), dtype=torch.int64, device=new.device)
        is_new = torch.ones_like(parents, dtype=torch.bool)
        self.editable.rearrange(Offspring(new, parents, is_new), optimizer)
        self.editable.rows.fill_(-1)
        self.editable.begin_generation(is_new, 0)

    def loss(self, step: int) -> tuple[Tensor, Facts]:
        """That of the views, and what keeps opacities low, or at 0 or 1."""
        loss, facts = super().loss(step)
        opacities = self.editable.current().opacities
        one = self.schedule.rounds[self.schedule.index(step)]
        loss = loss + one.lambda_opacity * opacities.mean()
        return loss + one.lambda_opaque * (4 * opacities * (1 - opacities)).mean(), facts

    def set_rates(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """See ``GaussianEdit``; within a round, rates fall to a share of themselves."""
        super().set_rates(optimizers, step)
        one = self.schedule.rounds[self.schedule.index(step)]
        factor = one.rates * self.cfg.learning_rate_end ** self.schedule.share(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= factor

    @torch.no_grad()
    def _keep_in_region(self, editable: EditableGaussians) -> None:
        """Centres stay in the region, sizes within their limits."""
        low, high = (math.log(limit * self.editing.region.size) for limit in self.cfg.scale_limits)
        editable.selected["log_scales"].clamp_(low, high)
        means = editable.selected["means"]
        means.copy_(self.editing.region.clamped(means))
