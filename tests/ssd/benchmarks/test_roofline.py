"""The work that the roofline counts, against a count of the same scene pixel by pixel."""

import numpy as np
import pytest
import torch

from threestudio_ssd.benchmarks.raster import lift, random_scene2d
from threestudio_ssd.benchmarks.roofline import Machine, Work, count_work, measure_machine, roofline
from threestudio_ssd.rasterizers import rasterization
from threestudio_ssd.rasterizers.blending import BLOCK_HEIGHT, BLOCK_WIDTH, LANES

COUNT, SIDE = 60, 48


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blocks_reached(scene2d) -> int:
    """Blocks of pixels in which a Gaussian is visible, summed over Gaussians."""
    xy, conics, _, _, opacities, _ = (array.astype(np.float64) for array in scene2d)
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    total = 0
    for (u, v), (a, b, c), opacity in zip(xy, conics, opacities, strict=True):
        sigma = 0.5 * (a * (x - u) ** 2 + c * (y - v) ** 2) + b * (x - u) * (y - v)
        visible = opacity * np.exp(-sigma) >= 1 / 255
        blocks = visible.reshape(SIDE // BLOCK_HEIGHT, BLOCK_HEIGHT, SIDE // BLOCK_WIDTH, BLOCK_WIDTH)
        total += int(blocks.any(axis=(1, 3)).sum())
    return total


def test_what_is_drawn_is_counted_block_by_block():
    scene2d = random_scene2d(COUNT, SIDE, SIDE)
    images, _, meta = rasterization(**lift(scene2d, SIDE, SIDE), width=SIDE, height=SIDE)
    work = count_work(images, COUNT)
    num_pairs = meta["flatten_ids"].numel()
    tests = 19 * LANES * -(-16 * 16 // LANES // LANES) * num_pairs
    drawn = (work["blend_forward"].single - tests) / 30 / LANES
    reached = blocks_reached(scene2d)
    # an ellipse may pass between the pixels of a block that it meets
    assert reached <= drawn <= 1.25 * reached
    assert work["blend_backward"].moved > 36 * num_pairs


@pytest.mark.usefixtures("one_thread")
def test_the_machine_computes_and_moves():
    machine = measure_machine(repeats=1)
    assert 1e9 < machine.double < machine.single < 1e13
    assert 1e8 < machine.bandwidth < 1e13


def test_the_slower_of_computing_and_moving_bounds_a_stage():
    machine = Machine(single=1e9, double=1e8, bandwidth=1e10)
    work = {"a": Work(2e6, 0, 1e6), "b": Work(0, 1e5, 5e7)}
    first, second = roofline(work, {"a": 4.0, "b": 50.0}, machine)
    assert (first["bound"], first["least_ms"], first["share"]) == ("computing", pytest.approx(2.0), pytest.approx(0.5))
    assert (second["bound"], second["least_ms"], second["share"]) == ("moving", pytest.approx(5.0), pytest.approx(0.1))
