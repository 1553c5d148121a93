"""Blending: each tile's Gaussians over its pixels, front to back, and the gradients of that.

For every pixel, with Gaussians i in order of depth (Kerbl et al. 2023, Eq. 3):

    alpha_i = min(opacity_i * 2**(-u_i**2 - w_i**2), 0.999), skipped below 1/255
    T_i     = prod_{j<i} (1 - alpha_j);   the pixel stops before the T that would fall to 1e-4
    color   = sum_i T_i alpha_i c_i  +  T_end * background

Gaussians are the outer loop and rows of eight pixels the inner one, so each vector instruction serves eight pixels
and nothing branches on a pixel. A tile's pixels live in one small scratch array (planes of T and of each channel).
A stopped pixel keeps its T with the sign turned: no later Gaussian passes it, and |T| remains for the background.

The backward pass goes back to front from each pixel's last Gaussian, dividing T by (1 - alpha) on the way and adding
up what lies behind (Kerbl et al. 2023, appendix C), which loses no digits however many layers there are.
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
    greater,
    lane_numbers,
    lane_sum,
    lesser,
    load,
    magnitude,
    select,
    splat,
    store,
)
from .tiles import LOG2_MIN_ALPHA

MAX_ALPHA = 0.999
LOG2_MAX_ALPHA = np.float32(math.log2(MAX_ALPHA))
MIN_TRANSMITTANCE = np.float32(1e-4)
CHECK_EVERY = 16
"""Gaussians between two looks at whether a tile still has a live pixel."""
NUM_MOMENTS = 6
"""Per pair: sums over pixels of g, g u, g w, g u u, g u w, g w w with g = dL/d(log alpha); then colours, then |.|."""
_LOG2_MIN_ALPHA = np.float32(LOG2_MIN_ALPHA)
_MARGIN = 1e-3
"""Pixels added around the ellipse against rounding; what is drawn is decided for each pixel."""


@inline
def _rows_of_block(alpha, beta, gamma, budget, x, v, top, num_rows):
    """Rows of a tile in which the ellipse of visibility reaches one of eight pixels.

    Args:
        budget: log2(opacity / MIN_ALPHA): the ellipse is ``(alpha x + beta y)**2 + (gamma y)**2 <= budget``.
        x: Horizontal offset of the first pixel's centre from the Gaussian's.
        v: The Gaussian's vertical position; top: the tile's.
    """
    spread = beta * beta + gamma * gamma
    reach = math.sqrt(budget * spread) / (alpha * gamma) + _MARGIN
    first, last = max(x, -reach), min(x + (LANES - 1.0), reach)
    if first > last:
        return 0, 0
    # along x the edge is y = (-alpha beta x +- sqrt(budget spread - (alpha gamma x)^2)) / spread
    tip = math.sqrt(budget) * beta / (gamma * alpha)
    at = min(max(-tip, first), last)
    high = (-alpha * beta * at + math.sqrt(max(budget * spread - (alpha * gamma * at) ** 2, 0.0))) / spread
    at = min(max(tip, first), last)
    low = (-alpha * beta * at - math.sqrt(max(budget * spread - (alpha * gamma * at) ** 2, 0.0))) / spread
    shift = v - 0.5 - top
    low, high = math.ceil(shift + low - _MARGIN), math.floor(shift + high + _MARGIN) + 1.0
    limit = np.float64(num_rows)
    return int(min(max(low, 0.0), limit)), int(max(min(high, limit), 0.0))


@inline
def _has_live_pixel(scratch, num_values):
    zero = splat(np.float32(0.0))
    for i in range(0, num_values, LANES):
        if any_lane(zero < load(scratch, i)):
            return True
    return False


@inline
def _reset_transmittance(scratch, num_rows, stride, rows_inside, columns_inside):
    """T = 1 inside the image, and stopped outside."""
    for y in range(num_rows):
        for x in range(stride):
            inside = y < rows_inside and x < columns_inside
            scratch[y * stride + x] = np.float32(1.0) if inside else np.float32(-1.0)


@functools.cache
def blending_kernels(num_channels: int):
    """The forward and backward kernels for a number of channels, which is a constant to the compiler."""

    @kernel
    def blend_forward(
        first, last, tile_size, tiles_wide, tiles_high, offsets, pairs, geometry, means2d, colors, backgrounds,
        images, alphas, transmittances, lasts, ends,
    ):  # fmt: skip
        """Blend tiles ``first`` to ``last``.

        Args:
            lasts: Out (i, h, w): each pixel's last contribution, counted from 1 in its tile's list.
            ends: Out (tiles): where each tile's list was left.
        """
        stride = (tile_size + LANES - 1) // LANES * LANES
        plane = tile_size * stride
        scratch = np.empty((2 + num_channels) * plane, np.float32)  # T, last, channels
        height, width = images.shape[1], images.shape[2]
        lanes, zero, one = lane_numbers(), splat(np.float32(0.0)), splat(np.float32(1.0))
        threshold, ceiling = splat(_LOG2_MIN_ALPHA), splat(LOG2_MAX_ALPHA)
        least = splat(MIN_TRANSMITTANCE)
        for tile in range(first, last):
            image, place = tile // (tiles_wide * tiles_high), tile % (tiles_wide * tiles_high)
            top, left = place // tiles_wide * tile_size, place % tiles_wide * tile_size
            rows, columns = min(tile_size, height - top), min(tile_size, width - left)
            _reset_transmittance(scratch, tile_size, stride, rows, columns)
            scratch[plane:] = np.float32(0.0)
            end = offsets[tile]
            for at in range(offsets[tile], offsets[tile + 1]):
                if (at - offsets[tile]) % CHECK_EVERY == CHECK_EVERY - 1 and not _has_live_pixel(scratch, plane):
                    break
                end = at + 1
                number = splat(np.float32(end - offsets[tile]))
                slot = pairs[at]
                u, v = np.float64(means2d[slot, 0]), np.float64(means2d[slot, 1])
                alpha, beta = np.float64(geometry[slot, 0]), np.float64(geometry[slot, 1])
                gamma, log2_opacity = np.float64(geometry[slot, 2]), np.float64(geometry[slot, 3])
                ramp = splat(geometry[slot, 0]) * lanes
                for block in range(stride // LANES):
                    x = left + block * LANES + 0.5 - u
                    low, high = _rows_of_block(alpha, beta, gamma, log2_opacity - LOG2_MIN_ALPHA, x, v, top, rows)
                    for y in range(low, high):
                        dy = top + y + 0.5 - v
                        w = gamma * dy
                        from_center = splat(np.float32(alpha * x + beta * dy)) + ramp
                        exponent = splat(np.float32(log2_opacity - w * w)) - from_center * from_center
                        i = y * stride + block * LANES
                        t = load(scratch, i)
                        is_seen = both(threshold <= exponent, zero < t)
                        if not any_lane(is_seen):
                            continue
                        a = select(is_seen, exp2(lesser(exponent, ceiling)), zero)
                        t_next = t * (one - a)
                        is_stopped = t_next <= least
                        weight = select(is_stopped, zero, t * a)
                        store(scratch, i, select(is_stopped, zero - magnitude(t), t_next))
                        i += plane
                        store(scratch, i, greater(select(zero < weight, number, zero), load(scratch, i)))
                        for k in range(num_channels):
                            i += plane
                            store(scratch, i, fma(weight, splat(colors[slot, k]), load(scratch, i)))
            ends[tile] = end
            for y in range(rows):
                for x in range(columns):
                    t = abs(scratch[y * stride + x])
                    transmittances[image, top + y, left + x] = t
                    alphas[image, top + y, left + x, 0] = np.float32(1.0) - t
                    lasts[image, top + y, left + x] = scratch[plane + y * stride + x]
                    for k in range(num_channels):
                        value = scratch[(2 + k) * plane + y * stride + x]
                        if backgrounds.shape[0] > 0:
                            value += t * backgrounds[image, k]
                        images[image, top + y, left + x, k] = value

    @kernel
    def blend_backward(
        first, last, tile_size, tiles_wide, tiles_high, offsets, pairs, sources, geometry, means2d, colors, backgrounds,
        transmittances, lasts, ends, v_images, v_alphas, has_absgrad, pair_gradients,
    ):  # fmt: skip
        """Gradients of each (tile, Gaussian) pair, summed over the tile's pixels, into ``pair_gradients[source]``."""
        stride = (tile_size + LANES - 1) // LANES * LANES
        plane = tile_size * stride
        scratch = np.empty((3 + num_channels) * plane, np.float32)  # T, last, behind, gradient of each channel
        color_sums = np.empty(num_channels * LANES, np.float32)
        height, width = v_images.shape[1], v_images.shape[2]
        lanes, zero, one = lane_numbers(), splat(np.float32(0.0)), splat(np.float32(1.0))
        threshold, ceiling = splat(_LOG2_MIN_ALPHA), splat(LOG2_MAX_ALPHA)
        for tile in range(first, last):
            image, place = tile // (tiles_wide * tiles_high), tile % (tiles_wide * tiles_high)
            top, left = place // tiles_wide * tile_size, place % tiles_wide * tile_size
            rows, columns = min(tile_size, height - top), min(tile_size, width - left)
            scratch[:] = np.float32(0.0)  # outside the image: no last Gaussian, so none contributes
            for y in range(rows):
                for x in range(columns):
                    i = y * stride + x
                    t = transmittances[image, top + y, left + x]
                    scratch[i] = t
                    scratch[plane + i] = lasts[image, top + y, left + x]
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
                number = splat(np.float32(at + 1 - offsets[tile]))
                u, v = np.float64(means2d[slot, 0]), np.float64(means2d[slot, 1])
                alpha, beta = np.float64(geometry[slot, 0]), np.float64(geometry[slot, 1])
                gamma, log2_opacity = np.float64(geometry[slot, 2]), np.float64(geometry[slot, 3])
                ramp = splat(geometry[slot, 0]) * lanes
                for k in range(num_channels):
                    store(color_sums, k * LANES, zero)
                sum_g, sum_u, sum_w, sum_uu, sum_uw, sum_ww = zero, zero, zero, zero, zero, zero
                sum_x, sum_y = zero, zero
                for block in range(stride // LANES):
                    x = left + block * LANES + 0.5 - u
                    low, high = _rows_of_block(alpha, beta, gamma, log2_opacity - LOG2_MIN_ALPHA, x, v, top, rows)
                    for y in range(low, high):
                        dy = top + y + 0.5 - v
                        w = gamma * dy
                        from_center = splat(np.float32(alpha * x + beta * dy)) + ramp
                        exponent = splat(np.float32(log2_opacity - w * w)) - from_center * from_center
                        i = y * stride + block * LANES
                        is_seen = both(threshold <= exponent, number <= load(scratch, i + plane))
                        if not any_lane(is_seen):
                            continue
                        a = select(is_seen, exp2(lesser(exponent, ceiling)), zero)
                        passed = one / (one - a)
                        t = load(scratch, i) * passed  # T in front of this Gaussian
                        store(scratch, i, t)
                        weight = a * t
                        shade = zero
                        for k in range(num_channels):
                            v_color = load(scratch, i + (3 + k) * plane)
                            shade = fma(splat(colors[slot, k]), v_color, shade)
                            store(color_sums, k * LANES, fma(weight, v_color, load(color_sums, k * LANES)))
                        behind = load(scratch, i + 2 * plane)
                        store(scratch, i + 2 * plane, fma(weight, shade, behind))
                        # dL/dalpha = T c.v - behind / (1 - alpha), and d alpha = alpha d(log alpha)
                        g = select(ceiling < exponent, zero, weight * shade - a * passed * behind)
                        g_u, height_w = g * from_center, splat(np.float32(w))
                        g_w = g * height_w
                        sum_g, sum_u, sum_w = sum_g + g, sum_u + g_u, sum_w + g_w
                        sum_uu, sum_ww = fma(g_u, from_center, sum_uu), fma(g_w, height_w, sum_ww)
                        sum_uw = fma(g_u, height_w, sum_uw)
                        if has_absgrad:
                            along = splat(np.float32(beta)) * from_center + splat(np.float32(gamma)) * height_w
                            sum_x, sum_y = sum_x + magnitude(g_u), sum_y + magnitude(g * along)
                out = pair_gradients[sources[at]]
                out[0], out[1], out[2] = lane_sum(sum_g), lane_sum(sum_u), lane_sum(sum_w)
                out[3], out[4], out[5] = lane_sum(sum_uu), lane_sum(sum_uw), lane_sum(sum_ww)
                for k in range(num_channels):
                    out[NUM_MOMENTS + k] = lane_sum(load(color_sums, k * LANES))
                if has_absgrad:
                    out[NUM_MOMENTS + num_channels] = lane_sum(sum_x) * geometry[slot, 0]
                    out[NUM_MOMENTS + num_channels + 1] = lane_sum(sum_y)

    return blend_forward, blend_backward


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
            v_abs[slot, 0] = 2.0 * LN2 * total[NUM_MOMENTS + num_channels]
            v_abs[slot, 1] = 2.0 * LN2 * total[NUM_MOMENTS + num_channels + 1]
