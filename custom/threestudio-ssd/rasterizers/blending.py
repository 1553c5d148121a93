"""Blending: each tile's Gaussians over its pixels, front to back, and the gradients of that.

For every pixel, with Gaussians i in order of depth (Kerbl et al. 2023, Eq. 3):

    alpha_i = min(opacity_i * 2**(-u_i**2 - w_i**2), 0.999), skipped below 1/255
    T_i     = prod_{j<i} (1 - alpha_j);   the pixel stops before the T that would fall to 1e-4
    color   = sum_i T_i alpha_i c_i  +  T_end * background

Gaussians are the outer loop and *strips* of eight pixels in a row the inner one, so each vector instruction serves
eight pixels and nothing branches on a pixel. A tile's pixels live in one small scratch array, planes of T and of each
channel, strip after strip. Which strips a Gaussian reaches is found eight rows at a time, as bits of an integer; a
second integer has the strips with a live pixel; the bits of both are the strips that are drawn. A stopped pixel keeps
its T with the sign turned: no later Gaussian passes it, and |T| remains for the background.

The backward pass goes back to front over the Gaussians before each pixel's stop, dividing T by (1 - alpha) on the way
and adding up what lies behind (Kerbl et al. 2023, appendix C), which loses no digits however many layers there are.
"""

import functools
import math

import numpy as np

from .compiling import inline, kernel
from .projection import LN2
from .simd import (
    LANES,
    any_lane,
    both,
    exp2,
    fma,
    fnma,
    lane_numbers,
    lane_sum,
    lane_sums,
    lesser,
    load,
    lowest_bit,
    magnitude,
    mask_bits,
    prefetch,
    select,
    splat,
    square_root,
    store,
)
from .tiles import LOG2_MIN_ALPHA

MAX_ALPHA = 0.999
LOG2_MAX_ALPHA = np.float32(math.log2(MAX_ALPHA))
MIN_TRANSMITTANCE = np.float32(1e-4)
NUM_MOMENTS = 6
"""Per pair: sums over pixels of g, g u, g w, g u u, g u w, g w w with g = dL/d(log alpha); then colours, then |.|."""
NEVER = np.float32(1e30)
"""Where a pixel that no Gaussian stops would be stopped, counted in its tile's list."""
AHEAD = 8
"""Gaussians between asking for one's numbers and reading them."""
WORD = 64
"""Strips whose bits one integer holds."""
_LOG2_MIN_ALPHA = np.float32(LOG2_MIN_ALPHA)
_REACH = np.float32(LOG2_MIN_ALPHA - 1e-4)
"""The ellipse of visibility, a little larger against rounding; what is drawn is decided for each pixel."""
_ONE, _NONE = np.uint64(1), np.uint64(0)


@inline
def _strips_in_reach(geometry, slot, dx, dy, word, rows, num_strips, starts, levels, heights):
    """Bits of 64 of a tile's strips: those that the ellipse of visibility reaches.

    Strips are numbered down the tile's first eight columns, then down the next. With ``u = alpha dx + beta dy`` and
    ``w = gamma dy`` the ellipse is ``u**2 <= level - log2(1/255)`` where ``level = log2(opacity) - w**2``.

    Args:
        dx, dy: Offset of the centre of the tile's first pixel from the Gaussian's, float64: they may cancel.
        word: Which 64 strips.
        rows: The tile's rows, a multiple of eight.
        starts: Out: u at each strip's first pixel.
        levels: Out: the level of each strip; heights: its w.
    """
    alpha, beta, gamma = geometry[slot, 0], geometry[slot, 1], geometry[slot, 2]
    corner = np.float64(alpha) * dx + np.float64(beta) * dy
    top = splat(np.float32(np.float64(gamma) * dy))
    slope, growth, log2_opacity = splat(beta), splat(gamma), splat(geometry[slot, 3])
    length = splat(np.float32(LANES - 1) * alpha)
    zero, least = splat(np.float32(0.0)), splat(_REACH)
    bits = _NONE
    for at in range(word * WORD, min(word * WORD + WORD, num_strips), LANES):
        column, row = at // rows * LANES, at % rows
        row_numbers = lane_numbers() + splat(np.float32(row))
        w = fma(growth, row_numbers, top)
        level = fnma(w, w, log2_opacity)
        start = fma(slope, row_numbers, splat(np.float32(corner + np.float64(alpha) * column)))
        half = square_root(level - least)
        is_reached = both(start <= half, zero - half <= start + length)
        store(starts, at, start)
        store(levels, at, level)
        store(heights, at, w)
        bits |= mask_bits(is_reached) << np.uint64(at % WORD)
    return bits


@inline
def _strips_above(values, threshold, word, num_strips):
    """Bits of 64 strips: those whose value is larger than a number."""
    bits = _NONE
    for at in range(word * WORD, min(word * WORD + WORD, num_strips), LANES):
        bits |= mask_bits(splat(threshold) < load(values, at)) << np.uint64(at % WORD)
    return bits


@functools.cache
def blending_kernels(num_channels: int, tile_size: int):
    """The forward and backward kernels for a number of channels and a tile size, constants to the compiler."""
    rows = columns = (tile_size + LANES - 1) // LANES * LANES
    num_strips = rows * columns // LANES
    num_words = (num_strips + WORD - 1) // WORD
    plane = rows * columns
    row_width = pair_row_width(num_channels, has_absgrad=False)

    @kernel
    def blend_forward(
        first, last, tiles_wide, tiles_high, offsets, pairs, geometry, means2d, colors, backgrounds,
        images, alphas, transmittances, stops, ends,
    ):  # fmt: skip
        """Blend tiles ``first`` to ``last``.

        Args:
            stops: Out (i, h, w): the Gaussian that stopped each pixel, counted from 1 in its tile's list, or NEVER.
            ends: Out (tiles): where each tile's list was left.
        """
        scratch = np.empty((2 + num_channels) * plane, np.float32)  # T, stop, channels
        starts, levels = np.empty(num_strips, np.float32), np.empty(num_strips, np.float32)
        heights = np.empty(num_strips, np.float32)
        live = np.empty(num_words, np.uint64)
        height, width = images.shape[1], images.shape[2]
        lanes, zero, one = lane_numbers(), splat(np.float32(0.0)), splat(np.float32(1.0))
        threshold, ceiling = splat(_LOG2_MIN_ALPHA), splat(LOG2_MAX_ALPHA)
        least = splat(MIN_TRANSMITTANCE)
        for tile in range(first, last):
            image, place = tile // (tiles_wide * tiles_high), tile % (tiles_wide * tiles_high)
            top, left = place // tiles_wide * tile_size, place % tiles_wide * tile_size
            rows_inside, columns_inside = min(tile_size, height - top), min(tile_size, width - left)
            scratch[plane:] = np.float32(0.0)
            live[:] = _NONE
            num_live = 0
            for strip in range(num_strips):
                y, num_inside = strip % rows, columns_inside - strip // rows * LANES
                inside = np.float32(num_inside if y < rows_inside else 0)
                store(scratch, strip * LANES, select(lanes < splat(inside), one, zero - one))
                store(scratch, plane + strip * LANES, select(lanes < splat(inside), splat(NEVER), zero))
                if y < rows_inside and num_inside > 0:
                    live[strip // WORD] |= _ONE << np.uint64(strip % WORD)
                    num_live += 1
            end = offsets[tile]
            while end < offsets[tile + 1] and num_live > 0:
                slot = pairs[end]
                ahead = pairs[min(end + AHEAD, offsets[tile + 1] - 1)]
                prefetch(geometry, ahead * 4)
                prefetch(means2d, ahead * 2)
                prefetch(colors, ahead * num_channels)
                end += 1
                number = splat(np.float32(end - offsets[tile]))
                dx = left + 0.5 - np.float64(means2d[slot, 0])
                dy = top + 0.5 - np.float64(means2d[slot, 1])
                ramp = splat(geometry[slot, 0]) * lanes
                for word in range(num_words):
                    reach = _strips_in_reach(geometry, slot, dx, dy, word, rows, num_strips, starts, levels, heights)
                    strips = reach & live[word]
                    while strips != _NONE:
                        strip = word * WORD + lowest_bit(strips)
                        strips &= strips - _ONE
                        u = splat(starts[strip]) + ramp
                        exponent = fnma(u, u, splat(levels[strip]))
                        i = strip * LANES
                        t = load(scratch, i)
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
                                live[word] &= ~(_ONE << np.uint64(strip % WORD))
                                num_live -= 1
                        store(scratch, i, t_next)
                        for k in range(num_channels):
                            j = i + (2 + k) * plane
                            store(scratch, j, fma(weight, splat(colors[slot, k]), load(scratch, j)))
            ends[tile] = end
            for y in range(rows_inside):
                for x in range(columns_inside):
                    i = (x // LANES * rows + y) * LANES + x % LANES
                    t = abs(scratch[i])
                    transmittances[image, top + y, left + x] = t
                    alphas[image, top + y, left + x, 0] = np.float32(1.0) - t
                    stops[image, top + y, left + x] = scratch[plane + i]
                    for k in range(num_channels):
                        value = scratch[(2 + k) * plane + i]
                        if backgrounds.shape[0] > 0:
                            value += t * backgrounds[image, k]
                        images[image, top + y, left + x, k] = value

    @kernel
    def blend_backward(
        first, last, tiles_wide, tiles_high, offsets, pairs, sources, geometry, means2d, colors, backgrounds,
        transmittances, stops, ends, v_images, v_alphas, has_absgrad, pair_gradients,
    ):  # fmt: skip
        """Gradients of each (tile, Gaussian) pair, summed over the tile's pixels, into ``pair_gradients[source]``."""
        scratch = np.empty((3 + num_channels) * plane, np.float32)  # T, stop, behind, gradient of each channel
        starts, levels = np.empty(num_strips, np.float32), np.empty(num_strips, np.float32)
        heights = np.empty(num_strips, np.float32)
        strip_stops = np.empty(num_strips, np.float32)
        color_sums = np.empty(max(num_channels, 1) * LANES, np.float32)
        height, width = v_images.shape[1], v_images.shape[2]
        lanes, zero, one = lane_numbers(), splat(np.float32(0.0)), splat(np.float32(1.0))
        threshold, ceiling = splat(_LOG2_MIN_ALPHA), splat(LOG2_MAX_ALPHA)
        for tile in range(first, last):
            image, place = tile // (tiles_wide * tiles_high), tile % (tiles_wide * tiles_high)
            top, left = place // tiles_wide * tile_size, place % tiles_wide * tile_size
            scratch[:] = np.float32(0.0)  # outside the image: stopped from the start, so none contributes
            strip_stops[:] = np.float32(0.0)
            for y in range(min(tile_size, height - top)):
                for x in range(min(tile_size, width - left)):
                    strip = x // LANES * rows + y
                    i = strip * LANES + x % LANES
                    t = transmittances[image, top + y, left + x]
                    scratch[i] = t
                    scratch[plane + i] = stops[image, top + y, left + x]
                    strip_stops[strip] = max(strip_stops[strip], scratch[plane + i])
                    behind = -v_alphas[image, top + y, left + x, 0]
                    for k in range(num_channels):
                        v_image = v_images[image, top + y, left + x, k]
                        scratch[(3 + k) * plane + i] = v_image
                        if backgrounds.shape[0] > 0:
                            behind += v_image * backgrounds[image, k]
                    scratch[2 * plane + i] = t * behind
            for at in range(ends[tile], offsets[tile + 1]):
                pair_gradients[sources[at]] = np.float32(0.0)
            for at in range(ends[tile] - 1, offsets[tile] - 1, -1):
                slot = pairs[at]
                following = max(at - AHEAD, offsets[tile])
                ahead = pairs[following]
                prefetch(pair_gradients, sources[following] * pair_gradients.shape[1])
                prefetch(geometry, ahead * 4)
                prefetch(means2d, ahead * 2)
                prefetch(colors, ahead * num_channels)
                number = np.float32(at + 1 - offsets[tile])
                dx = left + 0.5 - np.float64(means2d[slot, 0])
                dy = top + 0.5 - np.float64(means2d[slot, 1])
                ramp = splat(geometry[slot, 0]) * lanes
                sum_g, sum_u, sum_w, sum_uu, sum_uw, sum_ww = zero, zero, zero, zero, zero, zero
                sum_0, sum_1, sum_2, sum_x, sum_y = zero, zero, zero, zero, zero
                for k in range(3, num_channels):
                    store(color_sums, k * LANES, zero)
                for word in range(num_words):
                    reach = _strips_in_reach(geometry, slot, dx, dy, word, rows, num_strips, starts, levels, heights)
                    strips = reach & _strips_above(strip_stops, number, word, num_strips)
                    while strips != _NONE:
                        strip = word * WORD + lowest_bit(strips)
                        strips &= strips - _ONE
                        u, w = splat(starts[strip]) + ramp, splat(heights[strip])
                        exponent = fnma(u, u, splat(levels[strip]))
                        i = strip * LANES
                        is_seen = both(threshold <= exponent, splat(number) < load(scratch, i + plane))
                        a = select(is_seen, exp2(lesser(exponent, ceiling)), zero)
                        passed = one / (one - a)
                        t = load(scratch, i) * passed  # T in front of this Gaussian
                        store(scratch, i, t)
                        weight = a * t
                        shade = zero
                        if num_channels > 0:
                            v_color = load(scratch, i + 3 * plane)
                            shade = splat(colors[slot, 0]) * v_color
                            sum_0 = fma(weight, v_color, sum_0)
                        if num_channels > 1:
                            v_color = load(scratch, i + 4 * plane)
                            shade = fma(splat(colors[slot, 1]), v_color, shade)
                            sum_1 = fma(weight, v_color, sum_1)
                        if num_channels > 2:
                            v_color = load(scratch, i + 5 * plane)
                            shade = fma(splat(colors[slot, 2]), v_color, shade)
                            sum_2 = fma(weight, v_color, sum_2)
                        for k in range(3, num_channels):
                            v_color = load(scratch, i + (3 + k) * plane)
                            shade = fma(splat(colors[slot, k]), v_color, shade)
                            store(color_sums, k * LANES, fma(weight, v_color, load(color_sums, k * LANES)))
                        behind = load(scratch, i + 2 * plane)
                        store(scratch, i + 2 * plane, fma(weight, shade, behind))
                        # dL/dalpha = T c.v - behind / (1 - alpha), and d alpha = alpha d(log alpha)
                        g = select(ceiling < exponent, zero, fnma(a * passed, behind, weight * shade))
                        g_u, g_w = g * u, g * w
                        sum_g, sum_u, sum_w = sum_g + g, sum_u + g_u, sum_w + g_w
                        sum_uu, sum_uw, sum_ww = fma(g_u, u, sum_uu), fma(g_u, w, sum_uw), fma(g_w, w, sum_ww)
                        if has_absgrad:
                            along = fma(splat(geometry[slot, 1]), u, splat(geometry[slot, 2]) * w)
                            sum_x, sum_y = sum_x + magnitude(g_u), sum_y + magnitude(g * along)
                source = sources[at]
                sums = lane_sums(sum_g, sum_u, sum_w, sum_uu, sum_uw, sum_ww, sum_0, sum_1)
                store(pair_gradients, source * pair_gradients.shape[1], sums)
                if num_channels > 2:
                    pair_gradients[source, NUM_MOMENTS + 2] = lane_sum(sum_2)
                for k in range(3, num_channels):
                    pair_gradients[source, NUM_MOMENTS + k] = lane_sum(load(color_sums, k * LANES))
                if has_absgrad:
                    pair_gradients[source, row_width] = lane_sum(sum_x) * geometry[slot, 0]
                    pair_gradients[source, row_width + 1] = lane_sum(sum_y)

    return blend_forward, blend_backward


def pair_row_width(num_channels: int, has_absgrad: bool) -> int:
    """Numbers that the backward pass keeps for a pair; the first eight are written at once."""
    return max(NUM_MOMENTS + num_channels, LANES) + (2 if has_absgrad else 0)


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
