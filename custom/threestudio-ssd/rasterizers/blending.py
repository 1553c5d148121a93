"""Blending: each tile's Gaussians over its pixels, front to back, and the gradients of that.

For every pixel, with Gaussians i in order of depth (Kerbl et al. 2023, Eq. 3):

    alpha_i = min(opacity_i * 2**(-u_i**2 - w_i**2), 0.999), skipped below 1/255
    T_i     = prod_{j<i} (1 - alpha_j);   the pixel stops before the T that would fall to 1e-4
    color   = sum_i T_i alpha_i c_i  +  T_end * background

Gaussians are the outer loop and *blocks* of pixels the inner one: four pixels wide, and as high as a vector has lanes
for them. So each vector instruction serves a block and nothing branches on a pixel. A tile's pixels live in one small
scratch array, planes of T and of each channel, block after block. Which blocks a Gaussian reaches is found for as many
blocks at once as there are lanes, as bits of an integer, and for a batch of Gaussians before any of them is drawn. A
second integer has the blocks with a live pixel; the bits of both are the blocks that are drawn. A stopped pixel keeps
its T with the sign turned: no later Gaussian passes it, and |T| remains for the background. What is computed for a
pixel does not depend on the block it is in, so an image has the same bits for any number of lanes.

The backward pass goes back to front over the Gaussians before each pixel's stop, dividing T by (1 - alpha) on the way
and adding up what lies behind (Kerbl et al. 2023, appendix C), which loses no digits however many layers there are.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from .compiling import inline, kernel
from .projection import LN2, LOG2_MIN_ALPHA
from .simd import (
    LANES,
    any_lane,
    both,
    exp2,
    fma,
    fnma,
    lane_sum,
    larger,
    lesser,
    load,
    lowest_bit,
    magnitude,
    mask_bits,
    prefetch,
    reciprocal,
    select,
    splat,
    spread,
    store,
    store_sums,
)

MAX_ALPHA = 0.999
LOG2_MAX_ALPHA = np.float32(math.log2(MAX_ALPHA))
MIN_TRANSMITTANCE = np.float32(1e-4)
NUM_MOMENTS = 6
"""Per pair: sums over pixels of g, g u, g w, g u u, g u w, g w w with g = dL/d(log alpha); then colours, then |.|."""
MIN_ROW = 8
"""Numbers of a pair that are written at once."""
NEVER = np.float32(1e30)
"""Where a pixel that no Gaussian stops would be stopped, counted in its tile's list."""
FAR = np.float32(1e30)
"""Column of a block that is not there."""
BLOCK_WIDTH = 4
BLOCK_HEIGHT = LANES // BLOCK_WIDTH
BATCH = 32
"""Gaussians of a tile whose blocks are found before the first of them is drawn; the next batch's are asked for."""
WORD = 64
"""Blocks whose bits one integer holds."""
CACHE_LINE = 16
"""float32 numbers that share one."""
NUM_SHAPE = 8
"""Columns before the colours of a record, what blending reads of a Gaussian: alpha beta gamma log2_opacity | u v | how
much the ellipse's leftmost point is below the centre, and the rightmost one above, pixels | unused."""
NUM_FORM = 8
"""Columns of a Gaussian seen from a tile: alpha beta gamma log2_opacity | u w at the centre of the tile's first pixel |
the rows of its rightmost and its leftmost point, counted from there."""
_LOG2_MIN_ALPHA = np.float32(LOG2_MIN_ALPHA)
_REACH = np.float32(LOG2_MIN_ALPHA - 1e-4)
"""The ellipse of visibility, a little larger against rounding; what is drawn is decided for each pixel."""
_ONE, _NONE = np.uint64(1), np.uint64(0)


class TileLayout(NamedTuple):
    """Where a tile's pixels stand in memory: block after block, blocks row by row; the last ones may hang over."""

    tile_size: int
    blocks_across: int
    num_blocks: int
    num_corners: int
    """Blocks, and those that are not there but fill the last vector of blocks."""
    num_words: int
    """Integers that hold a bit for each block."""
    plane: int
    """Pixels, those that hang over too."""


def tile_layout(tile_size: int) -> TileLayout:
    """The layout of tiles of an edge length in pixels."""
    across, down = -(-tile_size // BLOCK_WIDTH), -(-tile_size // BLOCK_HEIGHT)
    num_blocks = across * down
    num_corners, num_words = -(-num_blocks // LANES) * LANES, -(-num_blocks // WORD)
    return TileLayout(tile_size, across, num_blocks, num_corners, num_words, num_blocks * LANES)


def new_vectors(*shape: int) -> np.ndarray:
    """Memory for float32 numbers that begins where a cache line does: a row that lies in two costs twice."""
    size = math.prod(shape)
    numbers = np.empty(size + CACHE_LINE, np.float32)
    first = -(numbers.ctypes.data // 4) % CACHE_LINE
    return numbers[first : first + size].reshape(shape)


def record_width(num_channels: int) -> int:
    """Columns of a record: whole cache lines."""
    return -(-(NUM_SHAPE + num_channels) // CACHE_LINE) * CACHE_LINE


@kernel
def write_records(first, last, slots, geometry, means2d, colors, records):
    """What blending reads of each visible Gaussian side by side, so that one look-up brings all of it."""
    for at in range(first, last):
        slot = slots[at]
        beta, gamma = np.float64(geometry[slot, 1]), np.float64(geometry[slot, 2])
        reach = math.sqrt(max(np.float64(geometry[slot, 3]) - LOG2_MIN_ALPHA, 0.0)) / gamma
        for k in range(4):
            records[slot, k] = geometry[slot, k]
        records[slot, 4], records[slot, 5] = means2d[slot, 0], means2d[slot, 1]
        records[slot, 6] = reach * beta / math.sqrt(beta * beta + gamma * gamma)
        for k in range(colors.shape[1]):
            records[slot, NUM_SHAPE + k] = colors[slot, k]


@inline
def _vectors(length):
    """``new_vectors`` within a kernel."""
    numbers = np.empty(length + CACHE_LINE, np.float32)
    first = -(numbers.ctypes.data // 4) % CACHE_LINE
    return numbers[first : first + length]


@inline
def _lay_out(layout, places, corners):
    """Column and row of each pixel within the tile, and of each block's first pixel; columns first, then rows."""
    for block in range(layout.num_corners):
        x = np.float32(block % layout.blocks_across * BLOCK_WIDTH)
        y = np.float32(block // layout.blocks_across * BLOCK_HEIGHT)
        corners[block] = x if block < layout.num_blocks else FAR
        corners[layout.num_corners + block] = y
        if block < layout.num_blocks:
            for lane in range(LANES):
                places[block * LANES + lane] = x + np.float32(lane % BLOCK_WIDTH)
                places[layout.plane + block * LANES + lane] = y + np.float32(lane // BLOCK_WIDTH)


@inline
def _see_from(left, top, records, pairs, first, last, forms):
    """What evaluates each of a few Gaussians at a pixel of the tile, into ``forms`` (NUM_FORM a Gaussian).

    Args:
        left, top: The tile's first pixel.
        first, last: Range in ``pairs``.
    """
    for at in range(first, last):
        slot, q = pairs[at], at - first
        dx, dy = left + 0.5 - np.float64(records[slot, 4]), top + 0.5 - np.float64(records[slot, 5])
        for k in range(4):
            forms[q, k] = records[slot, k]
        forms[q, 4] = np.float64(records[slot, 0]) * dx + np.float64(records[slot, 1]) * dy
        forms[q, 5] = np.float64(records[slot, 2]) * dy
        peak = np.float64(records[slot, 6])
        forms[q, 6], forms[q, 7] = -peak - dy, peak - dy


@inline
def _find_blocks(layout, forms, num_forms, corners, reach):
    """Find the blocks of a tile that each of a few Gaussians reaches.

    With ``u = alpha dx + beta dy`` and ``w = gamma dy`` the ellipse of visibility is ``u**2 + w**2 <= budget``. Its
    rightmost point within a block's rows is its rightmost point of all, or as near to that as these rows come; it meets
    the block if that point is not left of the block and the leftmost one, found alike, is not right of it.

    Args:
        forms: See ``_see_from``.
        reach: Out (num_words a Gaussian): bits of the blocks.
    """
    wide, high = splat(np.float32(BLOCK_WIDTH - 1)), splat(np.float32(BLOCK_HEIGHT - 1))
    zero = splat(np.float32(0.0))
    for q in range(num_forms):
        along, slope, growth = spread(forms, q * 8), spread(forms, q * 8 + 1), spread(forms, q * 8 + 2)
        budget, corner, rise = splat(forms[q, 3] - _REACH), spread(forms, q * 8 + 4), spread(forms, q * 8 + 5)
        rightmost, leftmost, width = spread(forms, q * 8 + 6), spread(forms, q * 8 + 7), wide * along
        for word in range(layout.num_words):
            bits = _NONE
            for block in range(word * WORD, min(word * WORD + WORD, layout.num_corners), LANES):
                y = load(corners, layout.num_corners + block)
                start = fma(along, load(corners, block), corner)
                row, other_row = lesser(larger(rightmost, y), y + high), lesser(larger(leftmost, y), y + high)
                w, other_w = fma(growth, row, rise), fma(growth, other_row, rise)
                # u at the block's first column, or 0 if the ellipse's axis is right of it; and at its last one
                u, other_u = larger(fma(slope, row, start), zero), lesser(fma(slope, other_row, start) + width, zero)
                is_reached = both(fma(u, u, w * w) <= budget, fma(other_u, other_u, other_w * other_w) <= budget)
                bits |= mask_bits(is_reached) << np.uint64(block % WORD)
            reach[q, word] = bits


@functools.cache
def blending_kernels(num_channels: int, tile_size: int):
    """The forward and backward kernels for a number of channels and a tile size, constants to the compiler."""
    layout = tile_layout(tile_size)
    num_blocks, num_corners, num_words, plane = layout.num_blocks, layout.num_corners, layout.num_words, layout.plane
    blocks_across = layout.blocks_across
    row_width, width_of_record = pair_row_width(num_channels, has_absgrad=False), record_width(num_channels)

    @kernel
    def blend_forward(
        first, last, tiles_wide, tiles_high, offsets, pairs, records, backgrounds,
        images, alphas, transmittances, stops, ends, drawn,
    ):  # fmt: skip
        """Blend tiles ``first`` to ``last``.

        Args:
            transmittances: Out (tiles, plane): T behind the last Gaussian, in the order of ``TileLayout``.
            stops: Out (tiles, plane): the Gaussian that stopped each pixel, from 1 in its tile's list, or NEVER.
            ends: Out (tiles): where each tile's list was left.
            drawn: Out (pairs, num_words): bits of the blocks that each pair was drawn in.
        """
        places, corners = _vectors(2 * plane), _vectors(2 * num_corners)
        _lay_out(layout, places, corners)
        scratch = _vectors((2 + num_channels) * plane)  # T, stop, channels
        forms, reach = np.empty((BATCH, NUM_FORM), np.float32), np.empty((BATCH, num_words), np.uint64)
        live = np.empty(num_words, np.uint64)
        height, width = images.shape[1], images.shape[2]
        zero, one = splat(np.float32(0.0)), splat(np.float32(1.0))
        threshold, ceiling = splat(_LOG2_MIN_ALPHA), splat(LOG2_MAX_ALPHA)
        least = splat(MIN_TRANSMITTANCE)
        for tile in range(first, last):
            image, place = tile // (tiles_wide * tiles_high), tile % (tiles_wide * tiles_high)
            top, left = place // tiles_wide * tile_size, place % tiles_wide * tile_size
            rows_inside, columns_inside = min(tile_size, height - top), min(tile_size, width - left)
            limit_x, limit_y = splat(np.float32(columns_inside)), splat(np.float32(rows_inside))
            scratch[2 * plane :] = np.float32(0.0)
            live[:] = _NONE
            num_live = 0
            for block in range(num_blocks):
                i = block * LANES
                is_inside = both(load(places, i) < limit_x, load(places, plane + i) < limit_y)
                store(scratch, i, select(is_inside, one, zero - one))
                store(scratch, plane + i, select(is_inside, splat(NEVER), zero))
                if any_lane(is_inside):
                    live[block // WORD] |= _ONE << np.uint64(block % WORD)
                    num_live += 1
            begin, limit = offsets[tile], offsets[tile + 1]
            end = begin
            while end < limit and num_live > 0:
                batch, end = end, min(end + BATCH, limit)
                _see_from(left, top, records, pairs, batch, end, forms)
                _find_blocks(layout, forms, end - batch, corners, reach)
                for at in range(batch, end):
                    ahead = pairs[min(at + BATCH, limit - 1)]
                    prefetch(records, ahead * width_of_record)
                    q, color = at - batch, pairs[at] * width_of_record + NUM_SHAPE
                    number = splat(np.float32(at + 1 - begin))
                    along, slope, growth = spread(forms, q * 8), spread(forms, q * 8 + 1), spread(forms, q * 8 + 2)
                    log2_opacity, corner, rise = (
                        spread(forms, q * 8 + 3),
                        spread(forms, q * 8 + 4),
                        spread(forms, q * 8 + 5),
                    )
                    for word in range(num_words):
                        blocks = reach[q, word] & live[word]
                        drawn[at, word] = blocks
                        while blocks != _NONE:
                            block = word * WORD + lowest_bit(blocks)
                            blocks &= blocks - _ONE
                            i = block * LANES
                            x, y, t = load(places, i), load(places, i + plane), load(scratch, i)
                            u, w = fma(along, x, fma(slope, y, corner)), fma(growth, y, rise)
                            exponent = fnma(u, u, fnma(w, w, log2_opacity))
                            is_seen = both(threshold <= exponent, zero < t)
                            a = select(is_seen, exp2(lesser(exponent, ceiling)), zero)
                            t_next = fnma(t, a, t)
                            weight = t * a
                            is_stopped = both(is_seen, t_next <= least)
                            if any_lane(is_stopped):
                                weight = select(is_stopped, zero, weight)
                                t_next = select(is_stopped, zero - t, t_next)
                                store(scratch, i + plane, select(is_stopped, number, load(scratch, i + plane)))
                                if not any_lane(zero < t_next):
                                    live[word] &= ~(_ONE << np.uint64(block % WORD))
                                    num_live -= 1
                            store(scratch, i, t_next)
                            for k in range(num_channels):
                                j = i + (2 + k) * plane
                                store(scratch, j, fma(weight, spread(records, color + k), load(scratch, j)))
            ends[tile] = end
            for block in range(num_blocks):
                i = block * LANES
                store(transmittances, tile * plane + i, magnitude(load(scratch, i)))
                store(stops, tile * plane + i, load(scratch, plane + i))
            for y in range(rows_inside):
                for x in range(columns_inside):
                    block = y // BLOCK_HEIGHT * blocks_across + x // BLOCK_WIDTH
                    i = block * LANES + y % BLOCK_HEIGHT * BLOCK_WIDTH + x % BLOCK_WIDTH
                    t = abs(scratch[i])
                    alphas[image, top + y, left + x, 0] = np.float32(1.0) - t
                    for k in range(num_channels):
                        value = scratch[(2 + k) * plane + i]
                        if backgrounds.shape[0] > 0:
                            value += t * backgrounds[image, k]
                        images[image, top + y, left + x, k] = value

    @kernel
    def blend_backward(
        first, last, tiles_wide, tiles_high, offsets, pairs, sources, records, backgrounds,
        transmittances, stops, ends, drawn, v_images, v_alphas, has_absgrad, pair_gradients, v_backgrounds,
    ):  # fmt: skip
        """Gradients of each (tile, Gaussian) pair, summed over the tile's pixels, into ``pair_gradients[source]``.

        Args:
            v_alphas: Empty where no gradient arrived.
            v_backgrounds: Out (tiles, channels): each tile's part; empty if it is not wanted.
        """
        places, corners = _vectors(2 * plane), _vectors(2 * num_corners)
        _lay_out(layout, places, corners)
        scratch = _vectors((2 + num_channels) * plane)  # T, behind, gradient of each channel
        forms = np.empty((BATCH, NUM_FORM), np.float32)
        color_sums = _vectors(max(num_channels, 1) * LANES)
        height, width = v_images.shape[1], v_images.shape[2]
        zero, one = splat(np.float32(0.0)), splat(np.float32(1.0))
        threshold, ceiling = splat(_LOG2_MIN_ALPHA), splat(LOG2_MAX_ALPHA)
        for tile in range(first, last):
            image, place = tile // (tiles_wide * tiles_high), tile % (tiles_wide * tiles_high)
            top, left = place // tiles_wide * tile_size, place % tiles_wide * tile_size
            rows_inside, columns_inside = min(tile_size, height - top), min(tile_size, width - left)
            if rows_inside < tile_size or columns_inside < tile_size or tile_size % max(BLOCK_WIDTH, BLOCK_HEIGHT):
                scratch[plane:] = np.float32(0.0)
            for y in range(rows_inside):
                for x in range(columns_inside):
                    block = y // BLOCK_HEIGHT * blocks_across + x // BLOCK_WIDTH
                    i = block * LANES + y % BLOCK_HEIGHT * BLOCK_WIDTH + x % BLOCK_WIDTH
                    scratch[plane + i] = np.float32(0.0)
                    if v_alphas.shape[0] > 0:
                        scratch[plane + i] = -v_alphas[image, top + y, left + x, 0]
                    for k in range(num_channels):
                        scratch[(2 + k) * plane + i] = v_images[image, top + y, left + x, k]
            for k in range(num_channels if v_backgrounds.shape[0] > 0 else 0):
                total = zero
                for i in range(0, plane, LANES):
                    total = fma(load(scratch, (2 + k) * plane + i), load(transmittances, tile * plane + i), total)
                v_backgrounds[tile, k] = lane_sum(total)
            for block in range(num_blocks):
                i = block * LANES
                behind, t = load(scratch, plane + i), load(transmittances, tile * plane + i)
                for k in range(num_channels if backgrounds.shape[0] > 0 else 0):
                    behind = fma(splat(backgrounds[image, k]), load(scratch, (2 + k) * plane + i), behind)
                store(scratch, i, t)
                store(scratch, plane + i, t * behind)
            begin, end = offsets[tile], ends[tile]
            for at in range(end, offsets[tile + 1]):
                pair_gradients[sources[at]] = np.float32(0.0)
            while end > begin:
                last_of_batch, end = end, max(end - BATCH, begin)
                _see_from(left, top, records, pairs, end, last_of_batch, forms)
                for at in range(last_of_batch - 1, end - 1, -1):
                    following = max(at - BATCH, begin)
                    prefetch(pair_gradients, sources[following] * pair_gradients.shape[1])
                    prefetch(records, pairs[following] * width_of_record)
                    q, color, source = at - end, pairs[at] * width_of_record + NUM_SHAPE, sources[at]
                    number = splat(np.float32(at + 1 - begin))
                    along, slope, growth = spread(forms, q * 8), spread(forms, q * 8 + 1), spread(forms, q * 8 + 2)
                    log2_opacity, corner, rise = (
                        spread(forms, q * 8 + 3),
                        spread(forms, q * 8 + 4),
                        spread(forms, q * 8 + 5),
                    )
                    sum_g, sum_u, sum_w, sum_uu, sum_uw, sum_ww = zero, zero, zero, zero, zero, zero
                    sum_0, sum_1, sum_2, sum_x, sum_y = zero, zero, zero, zero, zero
                    for k in range(3, num_channels):
                        store(color_sums, k * LANES, zero)
                    for word in range(num_words):
                        blocks = np.uint64(drawn[at, word])
                        while blocks != _NONE:
                            i = (word * WORD + lowest_bit(blocks)) * LANES
                            blocks &= blocks - _ONE
                            x, y = load(places, i), load(places, i + plane)
                            u, w = fma(along, x, fma(slope, y, corner)), fma(growth, y, rise)
                            exponent = fnma(u, u, fnma(w, w, log2_opacity))
                            is_seen = both(threshold <= exponent, number < load(stops, tile * plane + i))
                            a = select(is_seen, exp2(lesser(exponent, ceiling)), zero)
                            odds = a * reciprocal(one - a)
                            t = load(scratch, i)  # T behind this Gaussian
                            weight = odds * t
                            store(scratch, i, t + weight)  # T in front of it
                            shade = zero
                            if num_channels > 0:
                                v_color = load(scratch, i + 2 * plane)
                                shade = spread(records, color) * v_color
                                sum_0 = fma(weight, v_color, sum_0)
                            if num_channels > 1:
                                v_color = load(scratch, i + 3 * plane)
                                shade = fma(spread(records, color + 1), v_color, shade)
                                sum_1 = fma(weight, v_color, sum_1)
                            if num_channels > 2:
                                v_color = load(scratch, i + 4 * plane)
                                shade = fma(spread(records, color + 2), v_color, shade)
                                sum_2 = fma(weight, v_color, sum_2)
                            for k in range(3, num_channels):
                                v_color = load(scratch, i + (2 + k) * plane)
                                shade = fma(spread(records, color + k), v_color, shade)
                                store(color_sums, k * LANES, fma(weight, v_color, load(color_sums, k * LANES)))
                            behind = load(scratch, i + plane)
                            store(scratch, i + plane, fma(weight, shade, behind))
                            # dL/dalpha = T c.v - behind / (1 - alpha), and d alpha = alpha d(log alpha)
                            g = select(ceiling < exponent, zero, weight * shade - odds * behind)
                            g_u, g_w = g * u, g * w
                            sum_g, sum_u, sum_w = sum_g + g, sum_u + g_u, sum_w + g_w
                            sum_uu, sum_uw, sum_ww = fma(g_u, u, sum_uu), fma(g_u, w, sum_uw), fma(g_w, w, sum_ww)
                            if has_absgrad:
                                steep = fma(slope, u, growth * w)
                                sum_x, sum_y = sum_x + magnitude(g_u), sum_y + magnitude(g * steep)
                    store_sums(
                        pair_gradients, source * pair_gradients.shape[1],
                        sum_g, sum_u, sum_w, sum_uu, sum_uw, sum_ww, sum_0, sum_1,
                    )  # fmt: skip
                    if num_channels > 2:
                        pair_gradients[source, NUM_MOMENTS + 2] = lane_sum(sum_2)
                    for k in range(3, num_channels):
                        pair_gradients[source, NUM_MOMENTS + k] = lane_sum(load(color_sums, k * LANES))
                    if has_absgrad:
                        pair_gradients[source, row_width] = lane_sum(sum_x) * forms[q, 0]
                        pair_gradients[source, row_width + 1] = lane_sum(sum_y)

    return blend_forward, blend_backward


def pair_row_width(num_channels: int, has_absgrad: bool) -> int:
    """Numbers that the backward pass keeps for a pair; the first eight are written at once."""
    return max(NUM_MOMENTS + num_channels, MIN_ROW) + (2 if has_absgrad else 0)


def drawn_blocks(num_pairs: int, tile_size: int) -> np.ndarray:
    """Memory for a bit a block for each pair: (pairs, num_words) unsigned integers, no wider than need be."""
    layout = tile_layout(tile_size)
    dtypes = (np.uint16, np.uint32, np.uint64)
    dtype = next(dtype for dtype in dtypes if layout.num_blocks <= 8 * dtype().itemsize or dtype is np.uint64)
    return np.empty((num_pairs, layout.num_words), dtype)


@kernel
def sum_pairs(
    first, last, slots, starts, pair_gradients, geometry, opacities,
    v_means2d, v_geometry, v_opacities, v_colors, v_abs,
):  # fmt: skip
    """Sum each visible Gaussian's pairs, in a fixed order, and turn moments into gradients of its 2D parameters."""
    num_channels = v_colors.shape[1]
    width = pair_gradients.shape[1]
    total = np.empty(width, np.float64)
    for at in range(first, last):
        slot = slots[at]
        total[:] = 0.0
        for pair in range(starts[at], starts[at + 1]):
            for k in range(width):
                total[k] += pair_gradients[pair, k]
        alpha, beta, gamma = np.float64(geometry[slot, 0]), np.float64(geometry[slot, 1]), np.float64(geometry[slot, 2])
        v_opacities[slot] = total[0] / opacities[slot]
        v_means2d[slot, 0] = 2.0 * LN2 * alpha * total[1]
        v_means2d[slot, 1] = 2.0 * LN2 * (beta * total[1] + gamma * total[2])
        v_geometry[slot, 0], v_geometry[slot, 1], v_geometry[slot, 2] = total[3], total[4], total[5]
        v_geometry[slot, 3] = 0.0
        for k in range(num_channels):
            v_colors[slot, k] = total[NUM_MOMENTS + k]
        if v_abs.shape[0] > 0:
            v_abs[slot, 0] = 2.0 * LN2 * total[width - 2]
            v_abs[slot, 1] = 2.0 * LN2 * total[width - 1]
