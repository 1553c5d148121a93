"""Which tiles each Gaussian touches, and each tile's Gaussians from front to back.

The tile test is exact: a Gaussian is listed in a tile only if its ellipse of visibility (alpha >= 1/255) meets the
rectangle of the tile's pixel centres (compare "AccuTile" in Hanson et al. 2024, "Speedy-Splat"). Sorting is linear:
one radix sort of all visible Gaussians by depth, then a stable counting sort of (tile, Gaussian) pairs by tile. The
tiles of a Gaussian are found once and kept as the bits of one integer, unless there are more than eight in a row.
"""

import math
from typing import NamedTuple

import numpy as np

from .compiling import inline, kernel
from .projection import LOG2_MIN_ALPHA
from .simd import (
    DOUBLES,
    count_bits,
    double_numbers,
    interval_bits,
    larger,
    lesser,
    lowest_bit,
    prefetch,
    round_down,
    round_up,
    splat_double,
    square_root,
)

RADIX_BITS = 11
RADIX = 1 << RADIX_BITS
SIDE = 8
"""Tiles, across and down, whose bits a footprint holds: a byte a row."""
AHEAD = 8
"""Gaussians between asking for one's numbers and reading them."""
_NONE, _ONE = np.uint64(0), np.uint64(1)
_MARGIN = 1e-3
"""Pixels added around the ellipse, so that rounding cannot drop a pixel the blending would have drawn."""


class Ellipse(NamedTuple):
    """Where a Gaussian is visible: ``(alpha x + beta y)**2 + (gamma y)**2 <= budget`` around its centre."""

    u: float
    v: float
    beta: float
    gamma: float
    budget: float
    """log2(opacity / MIN_ALPHA)."""
    per_alpha: float
    reach: float
    """Half the height, pixels."""
    peak: float
    """The leftmost point is this much below the centre, the rightmost one as much above, pixels."""
    half_width: float


class TileGrid(NamedTuple):
    """Tiles of an image."""

    size: int
    """Edge of a tile, pixels."""
    wide: int
    high: int


@inline
def _ellipse(geometry, means2d, slot):
    alpha, beta, gamma = np.float64(geometry[slot, 0]), np.float64(geometry[slot, 1]), np.float64(geometry[slot, 2])
    budget = max(np.float64(geometry[slot, 3]) - LOG2_MIN_ALPHA, 0.0)
    per_alpha, steepness = 1.0 / max(alpha, 1e-30), math.sqrt(beta * beta + gamma * gamma)
    root = math.sqrt(budget)
    reach = root / gamma
    return Ellipse(
        np.float64(means2d[slot, 0]), np.float64(means2d[slot, 1]), beta, gamma, budget, per_alpha, reach,
        reach * beta / steepness, reach * steepness * per_alpha,
    )  # fmt: skip


@inline
def _tiles_between(low, high, size, num_tiles):
    """Range of tiles that have a pixel centre between two coordinates; they are at +0.5."""
    first = math.ceil((low - _MARGIN + 0.5) / size) - 1.0
    last = math.floor((high + _MARGIN - 0.5) / size) + 1.0
    return int(min(max(first, 0.0), np.float64(num_tiles))), int(max(min(last, np.float64(num_tiles)), 0.0))


@inline
def _sides(ellipse, grid):
    """Range of tile columns that the ellipse reaches in all."""
    return _tiles_between(ellipse.u - ellipse.half_width, ellipse.u + ellipse.half_width, grid.size, grid.wide)


@inline
def _columns(ellipse, row, grid, sides):
    """Range of tile columns that the ellipse reaches within one tile row; not beyond ``sides``."""
    top = row * grid.size + 0.5 - ellipse.v
    bottom = top + (grid.size - 1.0)
    reach, peak, beta = ellipse.reach, ellipse.peak, ellipse.beta
    top, bottom = max(top, -reach), min(bottom, reach)
    if top > bottom:
        top = bottom = min(max(top, -reach), reach)
    # along y the edge is x = (-beta y +- sqrt(budget - gamma^2 y^2)) / alpha; its extreme is where the slope is 0
    y = min(max(-peak, top), bottom)
    right = (-beta * y + math.sqrt(max(ellipse.budget - (ellipse.gamma * y) ** 2, 0.0))) * ellipse.per_alpha
    y = min(max(peak, top), bottom)
    left = (-beta * y - math.sqrt(max(ellipse.budget - (ellipse.gamma * y) ** 2, 0.0))) * ellipse.per_alpha
    low, high = _tiles_between(ellipse.u + left, ellipse.u + right, grid.size, grid.wide)
    return max(low, sides[0]), min(high, sides[1])


@inline
def _rows(ellipse, grid):
    """Range of tile rows that the ellipse reaches."""
    if ellipse.budget <= 0.0:
        return 0, 0
    return _tiles_between(ellipse.v - ellipse.reach, ellipse.v + ellipse.reach, grid.size, grid.high)


@inline
def _tile(base, bit, grid):
    """The tile of a footprint's bit, given that of its first one."""
    return base + (bit >> 3) * grid.wide + (bit & (SIDE - 1))


@inline
def _footprint(ellipse, row_first, row_last, sides, grid):
    """Bits of the tiles that the ellipse reaches, of at most ``SIDE`` rows and columns; each row has a byte.

    What ``_columns`` does, for as many rows at once as a vector has lanes.
    """
    reach, beta, gamma = splat_double(ellipse.reach), ellipse.beta, ellipse.gamma
    zero, budget, size = splat_double(0.0), splat_double(ellipse.budget), splat_double(grid.size)
    most, width = splat_double(np.float64(grid.wide)), splat_double(np.float64(sides[1] - sides[0]))
    bits = _NONE
    for row in range(0, row_last - row_first, DOUBLES):
        start = (double_numbers() + np.float64(row_first + row)) * size + (0.5 - ellipse.v)
        top = lesser(larger(start, -reach), reach)
        bottom = larger(lesser(start + (grid.size - 1.0), reach), top)
        y = lesser(larger(splat_double(-ellipse.peak), top), bottom)
        height = gamma * y
        right = (square_root(larger(budget - height * height, zero)) - beta * y) * ellipse.per_alpha
        y = lesser(larger(splat_double(ellipse.peak), top), bottom)
        height = gamma * y
        left = (-square_root(larger(budget - height * height, zero)) - beta * y) * ellipse.per_alpha
        low = round_up((left + (ellipse.u - _MARGIN + 0.5)) / size) - 1.0
        high = round_down((right + (ellipse.u + _MARGIN - 0.5)) / size) + 1.0
        low, high = lesser(larger(low, zero), most) - np.float64(sides[0]), lesser(high, most) - np.float64(sides[0])
        low = lesser(larger(low, zero), width)
        bits |= interval_bits(low, larger(lesser(high, width), low)) << np.uint64(row * SIDE)
    if row_last - row_first < SIDE:
        bits &= (_ONE << np.uint64(SIDE * (row_last - row_first))) - _ONE
    return bits


@kernel
def count_tiles(
    first, last, bounds, order, slots, images, first_image, geometry, means2d, grid,
    num_tiles, footprints, first_tiles, heads,
):  # fmt: skip
    """Find the tiles that each visible Gaussian touches, and count them by Gaussian and by tile.

    Args:
        first, last: Range of parts of the order.
        bounds: Limits of the parts of ``order``.
        order: Positions of visible Gaussians by depth.
        num_tiles: Out, by slot.
        footprints: Out, by place in the order: bits of ``SIDE`` x ``SIDE`` tiles, row by row; 0 if that is too few.
        first_tiles: Out, by place in the order: tile of the footprint's first bit, numbered from ``first_image`` on.
        heads: Out (parts, tiles): pairs of each tile in each part.
    """
    for part in range(first, last):
        heads[part, :] = 0
        for i in range(bounds[part], bounds[part + 1]):
            at = order[i]
            slot = slots[at]
            ahead = slots[order[min(i + AHEAD, bounds[part + 1] - 1)]]
            prefetch(geometry, ahead * 4)
            prefetch(means2d, ahead * 2)
            ellipse = _ellipse(geometry, means2d, slot)
            row_first, row_last = _rows(ellipse, grid)
            sides = _sides(ellipse, grid)
            base = (np.int64(images[at] - first_image) * grid.high + row_first) * grid.wide + sides[0]
            footprint, count = _NONE, 0
            if row_last - row_first <= SIDE and sides[1] - sides[0] <= SIDE:
                footprint = _footprint(ellipse, row_first, row_last, sides, grid)
                count = count_bits(footprint)
            else:
                for row in range(row_first, row_last):
                    low, high = _columns(ellipse, row, grid, sides)
                    start = base + (row - row_first) * grid.wide - sides[0]
                    for tile in range(start + low, start + high):
                        heads[part, tile] += 1
                    count += max(high - low, 0)
            num_tiles[slot], footprints[i], first_tiles[i] = count, footprint, base
        for i in range(bounds[part], bounds[part + 1]):  # apart, for how long the loop will be is known early here
            bits = footprints[i]
            while bits != _NONE:
                heads[part, _tile(first_tiles[i], lowest_bit(bits), grid)] += 1
                bits &= bits - _ONE


@kernel
def sort_by_depth(slots, depths, order):
    """Stable radix sort: ``order`` lists positions in ``slots`` by increasing depth, ties by position."""
    num = slots.shape[0]
    bits = depths.view(np.uint32)
    keys, spare_keys, spare = np.empty(num, np.uint32), np.empty(num, np.uint32), np.empty(num, np.int32)
    histogram = np.zeros((3, RADIX), np.int64)
    for i in range(num):
        key = bits[slots[i]]
        # the bit pattern of a float grows with its value once negative ones are flipped
        key = ~key if key >> np.uint32(31) else key | np.uint32(0x80000000)
        keys[i], order[i] = key, i
        histogram[0, key & np.uint32(RADIX - 1)] += 1
        histogram[1, (key >> np.uint32(RADIX_BITS)) & np.uint32(RADIX - 1)] += 1
        histogram[2, key >> np.uint32(2 * RADIX_BITS)] += 1
    for digit in range(3):
        total, largest = 0, 0
        for bucket in range(RADIX):
            count = histogram[digit, bucket]
            largest = max(largest, count)
            histogram[digit, bucket] = total
            total += count
        if largest == num:  # all keys agree on this digit
            continue
        shift = np.uint32(digit * RADIX_BITS)
        for i in range(num):
            bucket = (keys[i] >> shift) & np.uint32(RADIX - 1)
            to = histogram[digit, bucket]
            histogram[digit, bucket] = to + 1
            spare_keys[to], spare[to] = keys[i], order[i]
        keys, spare_keys = spare_keys, keys
        for i in range(num):
            order[i] = spare[i]


@kernel
def offset_tiles(heads, offsets, total):
    """Turn counts into places, from ``total`` on: where each tile's list begins, and each part's share of it."""
    for tile in range(heads.shape[1]):
        offsets[tile] = total
        for part in range(heads.shape[0]):
            count = heads[part, tile]
            heads[part, tile] = total
            total += count
    offsets[heads.shape[1]] = total


@inline
def _put(tile, slot, source, key, heads, part, pairs, sources, pair_keys):
    to = heads[part, tile]
    heads[part, tile] = to + 1
    pairs[to], sources[to], pair_keys[to] = slot, source, key


@kernel
def sort_by_tile(
    first, last, bounds, order, slots, images, first_image, starts, geometry, means2d, depths, grid,
    footprints, first_tiles, heads, pairs, sources, pair_keys,
):  # fmt: skip
    """Stable counting sort of (tile, Gaussian) pairs, visited front to back; parts of the order are independent.

    Args:
        bounds, order, footprints, first_tiles: See ``count_tiles``.
        starts: Each visible Gaussian's pairs, counted in order of position, begin here.
        heads: Where each part's next pair of each tile goes; used up.
        pairs: Out: slot of each pair's Gaussian.
        sources: Out: place of the pair's gradient; a Gaussian's are side by side.
        pair_keys: Out: image, tile and depth bits in one integer, as gsplat's ``isect_ids``.
    """
    depth_bits = depths.view(np.uint32)
    tiles_per_image = grid.wide * grid.high
    num_bits = 0
    while tiles_per_image >> num_bits:
        num_bits += 1
    for part in range(first, last):
        for i in range(bounds[part], bounds[part + 1]):
            at = order[i]
            slot, source, image = slots[at], starts[at], np.int64(images[at])
            # a tile's number over several images, less that of its image's first, beside the image's own
            first_tile = (image - first_image) * tiles_per_image
            image_key = ((image << num_bits) - first_tile) << 32 | np.int64(depth_bits[slot])
            footprint, base = footprints[i], np.int64(first_tiles[i])
            if footprint != _NONE:
                while footprint != _NONE:
                    tile = _tile(base, lowest_bit(footprint), grid)
                    footprint &= footprint - _ONE
                    _put(tile, slot, source, image_key + (tile << 32), heads, part, pairs, sources, pair_keys)
                    source += 1
            elif starts[at] < starts[at + 1]:
                ellipse = _ellipse(geometry, means2d, slot)
                row_first, row_last = _rows(ellipse, grid)
                sides = _sides(ellipse, grid)
                for row in range(row_first, row_last):
                    low, high = _columns(ellipse, row, grid, sides)
                    start = first_tile + row * grid.wide
                    for tile in range(start + low, start + high):
                        _put(tile, slot, source, image_key + (tile << 32), heads, part, pairs, sources, pair_keys)
                        source += 1
