"""A dataset update: the views are edited, the Gaussians fitted to them, and round again (Haque et al. 2023)."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.optim import Optimizer

import threestudio

from ..data import view_order
from ..edits.edit import Facts
from ..edits.editable import EditableScene
from ..edits.gaussian_edit import COLORS, GaussianEdit, Movement, SceneUnderEdit
from ..edits.objectives import Photometric
from ..gaussians import Gaussians, Offspring
from ..metrics import Lpips
from ..rendering import coverage
from ..seeds import Stream, generator
from .carver import SOLID, Carver
from .color_transform import color_transform, with_colors_transformed
from .placement import drawn_size, resize_factor, resized, seen_size, way_back
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
        self.targets: list[Float[Tensor, "h w 3"]] = [torch.empty(0, 0, 3)] * count
        super().__init__(self.targets, lambda_ssim)
        self.lambda_lpips, self.network = lambda_lpips, network
        self.pixels: UInt8[Tensor, "v h w 3"] | None = None
        self.is_edited: Bool[Tensor, "v"] = torch.zeros(count, dtype=torch.bool)
        """Which views have been edited so far."""

    def update(self, rows: Int[Tensor, "b"], images: Float[Tensor, "b 3 h w"]) -> None:
        """Put edited views in place of the old ones; the first time it takes all of them."""
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        if self.pixels is None:
            self.pixels = pixels
        else:
            self.pixels = self.pixels.index_copy(0, rows.to(pixels.device), pixels)
        self._unpack(rows.tolist())

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
        return {} if self.pixels is None else {"pixels": self.pixels, "is_edited": self.is_edited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.pixels, self.is_edited = state.get("pixels"), state.get("is_edited", self.is_edited)
        if self.pixels is not None:
            self._unpack(range(len(self.pixels)))

    def _unpack(self, rows: Iterable[int]) -> None:
        """What the loss reads of these views."""
        assert self.pixels is not None
        for row in rows:
            self.targets[row] = self.pixels[row].float() / 255


class ViewsEdit(GaussianEdit):
    """A scene whose views are edited again and again, and whose Gaussians follow them.

    Args:
        scene: What moves.
        carver: Edits the views, and turns them into Gaussians.
        objective: Holds the edited views.
        movement: Rates; they fall within each round.
        schedule: When views are edited, and how strongly.
        cfg: Of the keys of ``SceneRefitConfig``: edit_rate, edit_count, learning_rate_end,
            scale_limits.
        background: Colour behind the scene, RGB in [0, 1].
        views_per_step: Views a step shows.
    """

    def __init__(
        self,
        scene: SceneUnderEdit,
        carver: Carver,
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
        self.carver, self.editing = carver, carver.editing
        self.views, self.schedule, self.cfg = objective, schedule, cfg
        self.sizes: list[float] = []
        """Where this round resized the object: its ``seen_size`` then, and after the edit; else empty."""
        self.on_views: OnViews | None = None
        """What to do with edited views."""

    @property
    def editable(self) -> Any:
        """What moves, an ``EditableScene``."""
        return self.scenes[0].editable

    def due_views(self, step: int) -> list[tuple[int, Int[Tensor, "b"]]]:
        """Which views are edited before a step, with the number of that edit of them, from 0; none as a rule."""
        count, rate = len(self.editing.cameras), self.cfg.edit_rate
        if rate == 0:
            return [(self.schedule.index(step), torch.arange(count))] if self.schedule.begins(step) else []
        if self.cfg.edit_order == "shown":
            rows = view_order(count, step, self.views_per_step, self.scenes[0].seed).unique()
            rows = rows if step % rate == 0 else rows[~self.views.is_edited[rows]]
            return [(step // rate, rows)] if len(rows) else []
        if step % rate:
            return []
        places = step // rate * self.cfg.edit_count + torch.arange(min(self.cfg.edit_count, count))
        turns = places // count
        return [(turn, places[turns == turn] % count) for turn in turns.unique().tolist()]

    def prepare(self) -> None:
        """See ``Edit.prepare``; until they are edited, views are as before the edit."""
        super().prepare()
        if self.views.pixels is None:
            self.views.update(torch.arange(len(self.editing.cameras)), self.editing.sources)

    def before_step(self, step: int, optimizers: Sequence[Optimizer]) -> None:
        """Edit views where it is time; then growth."""
        for number, rows in self.due_views(step):
            self._edit_views(step, number, rows, optimizers[0])
        super().before_step(step, optimizers)

    @torch.no_grad()
    def _edit_views(self, step: int, number: int, rows: Int[Tensor, "b"], optimizer: Optimizer) -> None:
        editing, carver, one = self.editing, self.carver, self.schedule.rounds[self.schedule.index(step)]
        strength = one.strength
        if one.max_strength:
            draws = generator(self.scenes[0].seed, step, Stream.EDITOR)
            strength += (one.max_strength - strength) * float(torch.rand((), generator=draws))
        if one.resize:
            self._resize(optimizer)
        if one.recenter:
            self._recenter(optimizer)
        self.sizes = [self._size()] if one.resize else []
        images, shares = editing.edit(None if step == 0 else self.editable.scene(), rows, strength, number)
        names = [editing.cameras.names[row] for row in rows.tolist()]
        self._show(number, names, images)  # also where nothing can be carved from them
        new = self.editable.current().detach()
        if one.carve == "views":
            new = carver.from_views(images, shares)
        elif one.carve == "renders":
            new = carver.from_renders(new, images, shares)
        if one.relight:
            lit = (images * carver.light_maps(new)[rows]).clamp(0, 1)
            images = images.lerp(lit, shares)
            new = carver.recolored(new, images, shares) if one.carve != "none" else new
            self._show(number, names, images)
        if one.carve != "none":
            self._replace(new, optimizer)
        if one.resize:
            self.sizes.append(self._size())
        if one.tint:
            self._tint(images, rows)
        self.views.update(rows, images)
        self.views.is_edited[rows] = True

    def _show(self, number: int, names: Sequence[str], images: Float[Tensor, "b 3 h w"]) -> None:
        if self.on_views is not None:
            self.on_views(number, names, images)

    def _tint(self, images: Float[Tensor, "b 3 h w"], rows: Int[Tensor, "b"]) -> None:
        """Carry the colours of the selection along with those of edited views, as far as all of them change alike."""
        editing, scene, current = self.editing, self.editable.scene(), self.editable.current()
        is_inside = coverage(scene, self.editable.are_moving(), editing.cameras[rows]) > SOLID
        if not is_inside.any():
            return
        before, after = (each.permute(0, 2, 3, 1)[is_inside] for each in (editing.renders(scene, rows), images))
        tinted = with_colors_transformed(current, *color_transform(before, after))
        for name in ("sh0", "shN"):
            self.editable.selected[name].copy_(getattr(tinted, name))

    def _resize(self, optimizer: Optimizer) -> None:
        """Make the object as large as the scene's things are, as far as the old one tells."""
        size = drawn_size(self.carver, self.schedule.rounds[0].strength)
        factor = resize_factor(size)
        told = f"The editor draws the old object {size:.2f} times as large as it is"
        threestudio.info(f"{told}, so the new one is scaled by {factor:.2f}.")
        self._replace(resized(self.editable.current().detach(), self.carver.region, factor), optimizer)

    def _size(self) -> float:
        return seen_size(self.carver, self.editable.current().detach())

    @torch.no_grad()
    def _keep_size(self) -> None:
        """Give the object the size again that it was resized to: the edit after that had its own idea of it.

        What the fit changes of the size counts half, because a fitted edge is softer and shows larger than a carved
        one.
        """
        wanted, carved, fitted = *self.sizes, self._size()
        if not (wanted and carved and fitted):
            return
        current = self.editable.current().detach()
        kept = resized(current, self.carver.region, wanted / math.sqrt(carved * fitted))
        for name in ("means", "log_scales"):
            self.editable.selected[name].copy_(getattr(kept, name))

    def _recenter(self, optimizer: Optimizer) -> None:
        """Move the object back to where the old one stood."""
        current = self.editable.current().detach()
        self._replace(current.replace(means=current.means + way_back(self.carver, current)), optimizer)

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
        one = self.schedule.rounds[self.schedule.index(step)]
        if one.lambda_opacity or one.lambda_opaque:
            opacities = self.editable.current().opacities
            loss = loss + one.lambda_opacity * opacities.mean()
            loss = loss + one.lambda_opaque * (4 * opacities * (1 - opacities)).mean()
        return loss, facts

    def set_rates(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """See ``GaussianEdit``; within a round, rates fall to a share of themselves."""
        super().set_rates(optimizers, step)
        one = self.schedule.rounds[self.schedule.index(step)]
        factor = one.rates * self.cfg.learning_rate_end ** self.schedule.share(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= factor * (1 if group["name"] in COLORS else one.shape_rates)

    def after_step(self, step: int) -> None:
        """See ``GaussianEdit``; at the end of a round that resized the object, it gets that size again."""
        if self.sizes and step + 1 in self.schedule.ends:
            self._keep_size()
        super().after_step(step)

    def get_extra_state(self) -> dict[str, Any]:
        """See ``GaussianEdit``."""
        return {**super().get_extra_state(), "sizes": self.sizes}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See ``GaussianEdit``."""
        super().set_extra_state(state)
        self.sizes = state.get("sizes", [])

    @torch.no_grad()
    def _keep_in_region(self, editable: EditableScene) -> None:
        """Centres stay in the region, sizes within their limits; where there is none, as they are."""
        if self.editing.region is None:
            return
        low, high = (math.log(limit * self.editing.region.size) for limit in self.cfg.scale_limits)
        editable.selected["log_scales"].clamp_(low, high)
        means = editable.selected["means"]
        means.copy_(self.editing.region.clamped(means))
