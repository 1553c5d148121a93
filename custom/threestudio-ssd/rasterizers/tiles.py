"""Which tiles each Gaussian touches, and each tile's Gaussians from front to back.

The tile test is exact: a Gaussian is listed in a tile only if its ellipse of visibility (alpha >= 1/255) meets the
rectangle of the tile's pixel centres (compare "AccuTile" in Hanson et al. 2024, "Speedy-Splat"). Sorting is linear:
one radix sort of all visible Gaussians by depth, then a stable counting sort of (tile, Gaussian) pairs by tile.
"""

import math

import numpy as np

from .compiling import inline, kernel
from .projection import MIN_ALPHA

LOG2_MIN_ALPHA = math.log2(MIN_ALPHA)
RADIX_BITS = 11
RADIX = 1 << RADIX_BITS
_MARGIN = 1e-3
"""Pixels added around the ellipse, so that rounding cannot drop a pixel the blending would have drawn."""


@inline
def tile_rows(geometry, v, tile_size, tiles_high):
    """Range of tile rows that the ellipse reaches, and its budget: log2(opacity / MIN_ALPHA)."""
    budget = np.float64(geometry[3]) - LOG2_MIN_ALPHA
    if budget <= 0.0:
        return 0, 0, 0.0
    half = math.sqrt(budget) / geometry[2] + _MARGIN
    # pixel centres are at +0.5; a tile row holds centres [tile_size * r + 0.5, tile_size * (r + 1) - 0.5]
    low = math.ceil((v - half + 0.5) / tile_size) - 1.0
    high = math.floor((v + half - 0.5) / tile_size) + 1.0
    return int(max(low, 0.0)), int(min(high, np.float64(tiles_high))), budget


@inline
def tile_columns(geometry, u, v, budget, row, tile_size, tiles_wide):
    """Range of tile columns that the ellipse reaches within one tile row."""
    alpha, beta, gamma = np.float64(geometry[0]), np.float64(geometry[1]), np.float64(geometry[2])
    top = row * tile_size + 0.5 - v
    bottom = top + (tile_size - 1.0)
    reach = math.sqrt(budget) / gamma
    top, bottom = max(top, -reach), min(bottom, reach)
    if top > bottom:
        top = bottom = min(max(top, -reach), reach)
    # along y the edge is x = (-beta y +- sqrt(budget - gamma^2 y^2)) / alpha; its extreme is where the slope is 0
    peak = reach * beta / math.sqrt(beta * beta + gamma * gamma)
    scale = 1.0 / max(alpha, 1e-30)
    y = min(max(-peak, top), bottom)
    right = (-beta * y + math.sqrt(max(budget - (gamma * y) ** 2, 0.0))) * scale
    y = min(max(peak, top), bottom)
    left = (-beta * y - math.sqrt(max(budget - (gamma * y) ** 2, 0.0))) * scale
    low = math.ceil((u + left - _MARGIN + 0.5) / tile_size) - 1.0
    high = math.floor((u + right + _MARGIN - 0.5) / tile_size) + 1.0
    return int(max(low, 0.0)), int(min(high, np.float64(tiles_wide)))


@kernel
def count_tiles(first, last, slots, geometry, means2d, tile_size, tiles_wide, tiles_high, num_tiles):
    """Number of tiles each visible Gaussian touches, into ``num_tiles[slot]``."""
    for at in range(first, last):
        slot = slots[at]
        u, v = np.float64(means2d[slot, 0]), np.float64(means2d[slot, 1])
        count = 0
        row_first, row_last, budget = tile_rows(geometry[slot], v, tile_size, tiles_high)
        for row in range(row_first, row_last):
            low, high = tile_columns(geometry[slot], u, v, budget, row, tile_size, tiles_wide)
            count += max(high - low, 0)
        num_tiles[slot] = count


@kernel
def list_tiles(first, last, slots, images, geometry, means2d, tile_size, tiles_wide, tiles_high, starts, tiles):
    """Write each visible Gaussian's tiles, numbered over all images, from ``starts[at]`` on."""
    for at in range(first, last):
        slot, where = slots[at], starts[at]
        u, v = np.float64(means2d[slot, 0]), np.float64(means2d[slot, 1])
        row_first, row_last, budget = tile_rows(geometry[slot], v, tile_size, tiles_high)
        for row in range(row_first, row_last):
            low, high = tile_columns(geometry[slot], u, v, budget, row, tile_size, tiles_wide)
            base = (images[at] * tiles_high + row) * tiles_wide
            for column in range(low, high):
                tiles[where] = base + column
                where += 1


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
def count_by_tile(first, last, bounds, order, starts, tiles, heads):
    """Pairs of each tile in each part of the depth order, into ``heads[part, tile]``."""
    for part in range(first, last):
        heads[part, :] = 0
        for i in range(bounds[part], bounds[part + 1]):
            at = order[i]
            for source in range(starts[at], starts[at + 1]):
                heads[part, tiles[source]] += 1


@kernel
def offset_tiles(heads, offsets):
    """Turn counts into places: where each tile's list begins, and each part's share of it."""
    total = 0
    for tile in range(heads.shape[1]):
        offsets[tile] = total
        for part in range(heads.shape[0]):
            count = heads[part, tile]
            heads[part, tile] = total
            total += count
    offsets[heads.shape[1]] = total


@kernel
def sort_by_tile(
    first, last, bounds, order, slots, starts, tiles, depths, tiles_per_image, tile_bits, heads,
    pairs, sources, pair_keys,
):  # fmt: skip
    """Stable counting sort of (tile, Gaussian) pairs, visited front to back; parts of the order are independent.

    Args:
        bounds: Limits of the parts of ``order``.
        order: Positions of visible Gaussians by depth.
        starts, tiles: Each Gaussian's tiles: ``tiles[starts[at] : starts[at + 1]]``.
        heads: Where each part's next pair of each tile goes; used up.
        pairs: Out: slot of each pair's Gaussian.
        sources: Out: the pair's index in ``tiles``, where its gradient will be put.
        pair_keys: Out: image, tile and depth bits in one integer, as gsplat's ``isect_ids``.
    """
    bits = depths.view(np.uint32)
    for part in range(first, last):
        for i in range(bounds[part], bounds[part + 1]):
            at = order[i]
            slot = slots[at]
            for source in range(starts[at], starts[at + 1]):
                tile = tiles[source]
                to = heads[part, tile]
                heads[part, tile] = to + 1
                pairs[to], sources[to] = slot, source
                image = tile // tiles_per_image
                key = np.int64(image) << np.int64(tile_bits) | np.int64(tile - image * tiles_per_image)
                pair_keys[to] = key << np.int64(32) | np.int64(bits[slot])
