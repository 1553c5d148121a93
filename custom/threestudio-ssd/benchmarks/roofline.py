"""What each stage of the CPU rasteriser computes and moves, beside what this machine can do of either.

Work is counted from the source and from the sizes of a pass: numbers of Gaussians, pairs, and blocks that were drawn.
A multiply-add is two operations; comparisons, shuffles and integers are none. Bytes are those that a stage has to read
and write once, whatever cache they come from.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..rasterizers.blending import drawn_blocks, record_width, tile_layout
from ..rasterizers.compiling import even_bounds, kernel, run
from ..rasterizers.simd import DOUBLES, LANES, double_numbers, fma, lane_numbers, load, splat, store, store_doubles

_ROUNDS = 20_000
_CHAINS = 10
"""Sums that are worked on in turn: enough to hide how long one operation takes."""
_STREAM = 1 << 23
"""Numbers in each of the three arrays that measure bandwidth: 32 MB, more than a core's share of the caches."""


class Machine(NamedTuple):
    """What the machine reaches with the threads of the run."""

    single: float
    """float32 multiply-adds, operations a second."""
    double: float
    """float64 products and sums, as projection has them, operations a second."""
    bandwidth: float
    """Reading two arrays and writing a third, bytes a second."""


class Work(NamedTuple):
    """What one pass of a stage does."""

    single: float
    """float32 operations."""
    double: float
    """float64 operations."""
    moved: float
    """Bytes."""


@kernel
def _single_chains(first, last, sums):
    scale, shift = splat(np.float32(0.5)), splat(np.float32(1.0))
    for unit in range(first, last):
        a = b = c = d = e = f = g = h = i = j = lane_numbers()
        for _ in range(_ROUNDS):
            a, b, c, d, e = (
                fma(a, scale, shift), fma(b, scale, shift), fma(c, scale, shift), fma(d, scale, shift),
                fma(e, scale, shift),
            )  # fmt: skip
            f, g, h, i, j = (
                fma(f, scale, shift), fma(g, scale, shift), fma(h, scale, shift), fma(i, scale, shift),
                fma(j, scale, shift),
            )  # fmt: skip
        store(sums, unit * LANES, a + b + c + d + e + f + g + h + i + j)


@kernel
def _double_chains(first, last, sums):
    for unit in range(first, last):
        a = b = c = d = e = f = g = h = i = j = double_numbers()
        for _ in range(_ROUNDS):
            a, b, c, d, e = a * 0.5 + 1.0, b * 0.5 + 1.0, c * 0.5 + 1.0, d * 0.5 + 1.0, e * 0.5 + 1.0
            f, g, h, i, j = f * 0.5 + 1.0, g * 0.5 + 1.0, h * 0.5 + 1.0, i * 0.5 + 1.0, j * 0.5 + 1.0
        store_doubles(sums, unit * DOUBLES, a + b + c + d + e + f + g + h + i + j)


@kernel
def _stream(first, last, one, other, out):
    scale = splat(np.float32(0.5))
    for i in range(first * LANES, last * LANES, LANES):
        store(out, i, fma(load(one, i), scale, load(other, i)))


def measure_machine(repeats: int) -> Machine:
    """The fastest of a few micro-benchmarks, on as many threads as torch uses.

    Args:
        repeats: Runs of each; the fastest counts.
    """
    units = 64
    bounds = even_bounds(units, units)
    singles, doubles = np.empty(units * LANES, np.float32), np.empty(units * DOUBLES)
    one, other, out = (np.ones(_STREAM, np.float32) for _ in range(3))
    operations = 2 * units * _ROUNDS * _CHAINS
    stream_bounds = even_bounds(_STREAM // LANES, units)
    return Machine(
        operations * LANES / _fastest(lambda: run(_single_chains, bounds, singles), repeats),
        operations * DOUBLES / _fastest(lambda: run(_double_chains, bounds, doubles), repeats),
        3 * out.nbytes / _fastest(lambda: run(_stream, stream_bounds, one, other, out), repeats),
    )


def _fastest(work: Callable[[], None], repeats: int) -> float:
    work()  # compiles
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def count_work(images: Tensor, num_gaussians: int, tile_size: int = 16) -> dict[str, Work]:
    """The work of each stage of one pass, without spherical harmonics, all Gaussians in one image.

    Args:
        images: What ``rasterization`` returned; its graph has the lists.
        num_gaussians: Gaussians given.
        tile_size: Edge of a tile, pixels.
    """
    node = _blend_node(images.grad_fn)
    lists, (_, _, _, ends, drawn) = node.lists, node.rest
    layout = tile_layout(tile_size)
    blended = np.concatenate([np.arange(a, b) for a, b in zip(lists.offsets[:-1], ends, strict=True)])
    num_drawn = int(np.bitwise_count(drawn[blended]).sum()) * LANES
    n, v, p, q = num_gaussians, lists.slots.size, lists.pairs.size, blended.size
    d = images.shape[-1]
    pixels = images.numel() // d
    row, record = 4 * (6 + d), 4 * record_width(d)
    geometry, out_2d = 4 * (4 + 2), 4 * (2 + 1 + 3 + 4 + 1 + d)  # whitener and mean; everything that is 2D
    inputs = 4 * (3 + 4 + 3 + 1 + d)
    drawn_bytes = drawn_blocks(1, tile_size).nbytes
    return {
        "project_forward": Work(0, 265 * n, n * inputs + v * (4 * (11 + d) + 12)),
        "gather_visible": Work(0, 0, v * (4 * (11 + d) + 12 + out_2d + 24)),
        "sort_by_depth": Work(0, 0, v * (16 + 3 * 24)),
        "count_tiles": Work(0, v * (30 + 8 * 24), v * (geometry + 12 + 4 + 16)),
        "sort_by_tile": Work(0, 0, v * (12 + 16 + 8) + p * 16),
        "write_records": Work(0, 9 * v, v * (geometry + 4 * d + record)),
        "blend_forward": Work(
            (24 + 2 * d) * num_drawn + 19 * layout.num_corners * q, 10 * q,
            q * (4 + record + drawn_bytes) + pixels * 4 * (d + 3),
        ),
        "blend_backward": Work(
            (41 + 5 * d) * num_drawn + (6 + d) * LANES * q, 10 * q,
            q * (8 + record + drawn_bytes + row) + pixels * 4 * (d + 2),
        ),
        "sum_pairs": Work(0, p * (6 + d) + 8 * v, p * row + v * (out_2d + geometry)),
        "project_backward": Work(0, 620 * v, v * (2 * inputs + inputs - 4 * d + 4 * (2 + 4 + 1 + d))),
    }  # fmt: skip


def _blend_node(node: Any) -> Any:
    """The blending of a graph of images, which holds the lists of tiles and what was drawn of them."""
    while not hasattr(node, "lists"):
        node = node.next_functions[0][0]
    return node


def roofline(work: dict[str, Work], stages_ms: dict[str, float], machine: Machine) -> list[dict[str, Any]]:
    """Each stage: its work, the least time this machine needs for it, and the share of that in what it took.

    Args:
        work: See ``count_work``.
        stages_ms: What each stage took, milliseconds.
        machine: See ``measure_machine``.
    """
    rows = []
    for stage, each in work.items():
        computing = each.single / machine.single + each.double / machine.double
        moving = each.moved / machine.bandwidth
        least = 1e3 * max(computing, moving)
        rows.append({
            "stage": stage, "operations": each.single + each.double, "bytes": each.moved,
            "bound": "computing" if computing > moving else "moving",
            "least_ms": least, "ms": stages_ms[stage], "share": least / stages_ms[stage],
        })  # fmt: skip
    return rows
