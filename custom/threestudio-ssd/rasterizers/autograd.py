"""The two differentiable stages, as torch functions over the kernels: project, then blend.

They are two so that ``meta["means2d"]`` is a tensor in between, whose gradient densification reads.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import tiles
from .blending import (
    blending_kernels,
    drawn_blocks,
    new_vectors,
    pair_row_width,
    record_width,
    sum_pairs,
    tile_layout,
    write_records,
)
from .compiling import call, even_bounds, run
from .projection import CHUNK, NUM_GEOMETRY, Options, gather_visible, project_forward
from .projection_backward import project_backward

_RANGES_PER_CALL = 16
_SORTED_TOGETHER = 1 << 15
"""Visible Gaussians of several images that are sorted in one go, lest the calls cost more than the sorting."""


def _array(tensor: Tensor | None, *shape: int) -> np.ndarray:
    """The tensor's memory as a C-contiguous float32 array; an empty one where there is none."""
    if tensor is None:
        return np.empty(shape, np.float32)
    return tensor.detach().contiguous().numpy()


def _rows(gradient: Tensor, ids: np.ndarray) -> Tensor:
    """The rows of visible Gaussians as a sparse tensor."""
    rows = torch.from_numpy(np.unique(ids))
    return torch.sparse_coo_tensor(rows[None], gradient[rows], gradient.shape, is_coalesced=True)


class Project(torch.autograd.Function):
    """3D Gaussians to 2D: means2d, depths, conics, geometry, opacities, colors; then the integer results."""

    @staticmethod
    def forward(
        ctx, means, quats, scales, covars, opacities, colors, viewmats, Ks, centers, options, is_packed, has_sparse_grad
    ):  # fmt: skip
        """See ``project_forward`` for the arguments, all flattened over batch dimensions."""
        ctx.set_materialize_grads(False)
        num_images, num_gaussians = viewmats.shape[0], means.shape[0] * options.num_cameras // viewmats.shape[0]
        num_batches = num_images // options.num_cameras
        num_chunks = max(1, -(-num_gaussians // CHUNK))
        num_channels = colors.shape[1] if options.sh_degree < 0 else 3
        arrays = (
            _array(means), _array(quats, 0, 4), _array(scales, 0, 3), _array(covars, 0, 3, 3), _array(opacities),
            _array(colors), _array(viewmats), _array(Ks), _array(centers),
        )  # fmt: skip
        capacity = num_images * num_gaussians
        rows = np.empty((capacity, NUM_GEOMETRY + num_channels), np.float32)
        ids, radii = np.empty(capacity, np.int32), np.empty((capacity, 2), np.int32)
        counts = np.empty((num_images, num_chunks), np.int64)
        num_skipped = np.empty(num_batches * num_chunks, np.int64)
        bounds = even_bounds(num_batches * num_chunks, _RANGES_PER_CALL)
        run(project_forward, bounds, options, *arrays, rows, ids, radii, counts, num_skipped)

        starts = np.zeros(counts.size + 1, np.int64)
        np.cumsum(counts.reshape(-1), out=starts[1:])
        num_visible = int(starts[-1])
        num_slots, new = (num_visible, np.empty) if is_packed else (capacity, np.zeros)
        slots, images = np.empty(num_visible, np.int32), np.empty(num_visible, np.int32)
        visible_ids, out_radii = np.empty(num_visible, np.int64), new((num_slots, 2), np.int32)
        results = [new((num_slots, *shape), np.float32) for shape in ((2,), (), (3,), (4,), (), (num_channels,))]
        run(
            gather_visible, even_bounds(counts.size, _RANGES_PER_CALL), num_gaussians, is_packed, starts, counts, rows,
            ids, radii, slots, images, visible_ids, out_radii, *results,
        )  # fmt: skip
        results = [torch.from_numpy(array) for array in results]
        integers = [torch.from_numpy(array) for array in (out_radii, slots, images, visible_ids)]
        ctx.mark_non_differentiable(*integers)
        ctx.save_for_backward(means, quats, scales, covars, opacities, colors, viewmats, Ks, centers)
        ctx.options, ctx.segments, ctx.num_chunks = options, starts, num_chunks
        ctx.visible, ctx.has_sparse_grad = (slots, visible_ids), has_sparse_grad
        return *results, *integers, int(num_skipped.sum())

    @staticmethod
    def backward(ctx, v_means2d, v_depths, v_conics, v_geometry, v_opacities, v_colors, *_):
        """Gradients of the tensors of ``forward``, in its order."""
        means, quats, scales, covars, opacities, colors, viewmats, Ks, centers = ctx.saved_tensors
        options, (slots, visible_ids) = ctx.options, ctx.visible
        num_images, num_chunks = viewmats.shape[0], ctx.num_chunks
        inputs = (
            _array(means), _array(quats, 0, 4), _array(scales, 0, 3), _array(covars, 0, 3, 3), _array(opacities),
            _array(colors), _array(viewmats), _array(Ks), _array(centers),
        )  # fmt: skip
        v_inputs = [np.zeros_like(array) for array in inputs[:6]]
        v_views, v_centers = np.zeros((num_images, num_chunks, 12)), np.zeros((num_images, num_chunks, 3))
        num_slots = max((int(slots.max()) + 1) if slots.size else 0, 0)
        num_channels = colors.shape[1] if options.sh_degree < 0 else 3
        zeros = [
            np.zeros((num_slots, *shape), np.float32) if v is None else _array(v)
            for v, shape in ((v_means2d, (2,)), (v_geometry, (4,)), (v_opacities, ()), (v_colors, (num_channels,)))
        ]
        run(
            project_backward, even_bounds(num_images // options.num_cameras * num_chunks, _RANGES_PER_CALL), options,
            *inputs, ctx.segments, slots, visible_ids,
            zeros[0], _array(v_depths, 0), _array(v_conics, 0, 3), *zeros[1:], *v_inputs, v_views, v_centers,
            ctx.needs_input_grad[6],
        )  # fmt: skip
        gradients = [
            torch.from_numpy(v) if needed else None
            for v, needed in zip(v_inputs, ctx.needs_input_grad[:6], strict=True)
        ]
        if ctx.has_sparse_grad:
            gradients[:3] = [None if v is None else _rows(v, visible_ids) for v in gradients[:3]]
        v_viewmats = None
        if ctx.needs_input_grad[6]:
            v_viewmats = torch.zeros_like(viewmats)
            v_viewmats[:, :3] = torch.from_numpy(v_views.sum(axis=1).reshape(num_images, 3, 4))
        v_camera = torch.from_numpy(v_centers.sum(axis=1)).to(centers) if ctx.needs_input_grad[8] else None
        return *gradients, v_viewmats, None, v_camera, None, None, None


class TileGroup(NamedTuple):
    """Consecutive images whose Gaussians are sorted together."""

    first_image: int
    visible: slice
    """Of all visible Gaussians, its own."""
    tiles: slice
    pairs: slice
    starts: np.ndarray
    """(its visible + 1) each Gaussian's range among the group's unsorted pairs."""


class TileLists:
    """Each tile's Gaussians from front to back, over all images of a call.

    Images are sorted one by one, small ones together: what several need does not fit into a cache.

    Attributes:
        num_tiles: (slots) tiles each Gaussian touches.
        groups: What was sorted together.
        offsets: (i * tiles + 1) each tile's range among the sorted pairs.
        pairs: Slots, sorted by tile and depth; sources: their index among the group's unsorted pairs.
        keys: (pairs) gsplat's ``isect_ids``.
    """

    def __init__(self, slots, images, geometry, means2d, depths, num_images, tile_size, tiles_wide, tiles_high) -> None:
        self.grid, self.slots = tiles.TileGrid(tile_size, tiles_wide, tiles_high), slots
        self.num_tiles, self.groups, counted = np.zeros(means2d.shape[0], np.int32), [], []
        limits = np.searchsorted(images, np.arange(num_images + 1))
        num_pairs, per_image = 0, tiles_wide * tiles_high
        for first, last in _image_groups(limits):
            visible = slice(limits[first], limits[last])
            bounds, *parts = self._count(slots[visible], images[visible], first, last, geometry, means2d, depths)
            starts = np.zeros(visible.stop - visible.start + 1, np.int64)
            np.cumsum(self.num_tiles[slots[visible]], out=starts[1:])
            pairs = slice(num_pairs, num_pairs + int(starts[-1]))
            num_pairs = pairs.stop
            group_tiles = slice(first * per_image, last * per_image)
            self.groups.append(TileGroup(first, visible, group_tiles, pairs, starts))
            counted.append((bounds, parts))
        self.offsets = np.zeros(num_images * per_image + 1, np.int64)
        self.pairs, self.sources = np.empty(num_pairs, np.int32), np.empty(num_pairs, np.int32)
        self.keys = np.empty(num_pairs, np.int64)
        for group, (bounds, (order, footprints, first_tiles, heads)) in zip(self.groups, counted, strict=True):
            call(tiles.offset_tiles, heads, self.offsets[group.tiles.start : group.tiles.stop + 1], group.pairs.start)
            run(
                tiles.sort_by_tile, list(range(len(bounds))), bounds, order, slots[group.visible],
                images[group.visible], group.first_image, group.starts, geometry, means2d, depths, self.grid,
                footprints, first_tiles, heads, self.pairs, self.sources, self.keys,
            )  # fmt: skip

    def _count(self, slots, images, first, last, geometry, means2d, depths) -> tuple[np.ndarray, ...]:
        """Limits of the parts of a group's depth order, the order, and what ``count_tiles`` finds."""
        order = np.empty(slots.size, np.int32)
        call(tiles.sort_by_depth, slots, depths, order)
        bounds = np.array(even_bounds(slots.size, 2 * torch.get_num_threads()))
        footprints, first_tiles = np.empty(slots.size, np.uint64), np.empty(slots.size, np.int64)
        heads = np.empty((len(bounds) - 1, (last - first) * self.grid.wide * self.grid.high), np.int64)
        run(
            tiles.count_tiles, list(range(len(bounds))), bounds, order, slots, images, first, geometry, means2d,
            self.grid, self.num_tiles, footprints, first_tiles, heads,
        )  # fmt: skip
        return bounds, order, footprints, first_tiles, heads

    def bounds(self, first: int, last: int) -> list[int]:
        """Ranges of tiles from ``first`` to ``last`` that hold about as many pairs each."""
        if torch.get_num_threads() == 1:
            return [first, last]
        num_ranges = min(_RANGES_PER_CALL, last - first)
        weights = self.offsets[first : last + 1] + np.arange(last - first + 1)
        inner = np.searchsorted(weights, np.linspace(weights[0], weights[-1], num_ranges + 1)[1:-1])
        return [first, *(first + inner).tolist(), last]


def _image_groups(limits: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of images with about ``_SORTED_TOGETHER`` visible Gaussians each, at least one image."""
    groups, first = [], 0
    for image in range(1, len(limits)):
        if image == len(limits) - 1 or limits[image + 1] - limits[first] > _SORTED_TOGETHER:
            groups.append((first, image))
            first = image
    return groups


class Blend(torch.autograd.Function):
    """2D Gaussians to images (i h w d) and alphas (i h w 1)."""

    @staticmethod
    def forward(ctx, means2d, geometry, opacities, colors, backgrounds, lists, num_images, width, height, absgrad_of):
        """``absgrad_of``: the tensor that gets an attribute ``absgrad`` in the backward pass, or None."""
        ctx.set_materialize_grads(False)
        num_channels = colors.shape[1]
        images, alphas = torch.empty(num_images, height, width, num_channels), torch.empty(num_images, height, width, 1)
        num_tiles, grid = lists.offsets.size - 1, lists.grid
        records = new_vectors(means2d.shape[0], record_width(num_channels))
        run(
            write_records, even_bounds(lists.slots.size, _RANGES_PER_CALL), lists.slots, _array(geometry),
            _array(means2d), _array(colors), records,
        )  # fmt: skip
        transmittances, stops = new_vectors(2, num_tiles, tile_layout(grid.size).plane)
        ends, drawn = np.empty(num_tiles, np.int64), drawn_blocks(lists.pairs.size, grid.size)
        forward, _ = blending_kernels(num_channels, grid.size)
        run(
            forward, lists.bounds(0, num_tiles), grid.wide, grid.high, lists.offsets, lists.pairs, records,
            _array(backgrounds, 0, num_channels), images.numpy(), alphas.numpy(),
            transmittances, stops, ends, drawn,
        )  # fmt: skip
        ctx.save_for_backward(means2d, geometry, opacities, colors, backgrounds)
        ctx.lists, ctx.rest, ctx.absgrad_of = lists, (records, transmittances, stops, ends, drawn), absgrad_of
        ctx.image_shape = tuple(images.shape)
        return images, alphas

    @staticmethod
    def backward(ctx, v_images, v_alphas):
        """Gradients of means2d, of the geometry as whitened moments, of opacities, colors and backgrounds."""
        means2d, geometry, opacities, colors, backgrounds = ctx.saved_tensors
        lists, (records, *seen), has_absgrad = ctx.lists, ctx.rest, ctx.absgrad_of is not None
        num_channels, num_tiles, grid = colors.shape[1], lists.offsets.size - 1, lists.grid
        v_images = np.zeros(ctx.image_shape, np.float32) if v_images is None else _array(v_images)
        v_backgrounds = np.empty((num_tiles if ctx.needs_input_grad[4] else 0, num_channels))
        new = np.empty if lists.slots.size == means2d.shape[0] else np.zeros
        results = [new(tuple(t.shape), np.float32) for t in (means2d, geometry, opacities, colors)]
        v_abs = new(tuple(means2d.shape) if has_absgrad else (0, 2), np.float32)
        _, backward = blending_kernels(num_channels, grid.size)
        most = max((group.pairs.stop - group.pairs.start for group in lists.groups), default=0)
        pair_gradients = np.empty((most, pair_row_width(num_channels, has_absgrad)), np.float32)
        for group in lists.groups:
            run(
                backward, lists.bounds(group.tiles.start, group.tiles.stop), grid.wide, grid.high, lists.offsets,
                lists.pairs, lists.sources, records, _array(backgrounds, 0, num_channels), *seen, v_images,
                _array(v_alphas, 0, 0, 0, 0), has_absgrad, pair_gradients, v_backgrounds,
            )  # fmt: skip
            slots = lists.slots[group.visible]
            bounds = even_bounds(slots.size, min(_RANGES_PER_CALL, 1 + slots.size // CHUNK))
            run(
                sum_pairs, bounds, slots, group.starts, pair_gradients, _array(geometry), _array(opacities),
                *results, v_abs,
            )  # fmt: skip
        if has_absgrad:
            ctx.absgrad_of.absgrad = torch.from_numpy(v_abs).view(ctx.absgrad_of.shape)
        if not ctx.needs_input_grad[4]:
            return *map(torch.from_numpy, results), *[None] * 6
        sums = v_backgrounds.reshape(ctx.image_shape[0], -1, num_channels).sum(axis=1)
        return *map(torch.from_numpy, (*results, sums.astype(np.float32))), *[None] * 5


def tile_grid(width: int, height: int, tile_size: int) -> tuple[int, int]:
    """Tiles across and down."""
    return math.ceil(width / tile_size), math.ceil(height / tile_size)


__all__ = ["Blend", "Options", "Project", "TileLists", "tile_grid"]
