"""Vectors of eight and of sixteen lanes: which is chosen, and that both draw the same."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.rasterizers import rasterization
from threestudio_ssd.rasterizers.compiling import kernel
from threestudio_ssd.rasterizers.simd import (
    DOUBLES,
    LANES,
    LANES_VARIABLE,
    choose_lanes,
    exp2,
    load,
    load_doubles,
    log2,
    store,
    store_doubles,
)

from .scenes import random_scene

AVX512 = dict.fromkeys(("avx512f", "avx512vl", "avx512dq", "avx512bw"), True)
NAMES = ("means", "quats", "scales", "opacities", "colors")

SAVE = """
import sys
import torch
import threestudio
threestudio.load_plugins()
from tests.ssd.rasterizers.test_simd import drawn
from threestudio_ssd.rasterizers.simd import LANES
torch.save((LANES, drawn()), sys.argv[1])
"""


def drawn() -> list[torch.Tensor]:
    """Image and alpha of a scene, and the gradients of a random projection of them."""
    scene = random_scene(num_gaussians=400, width=53, height=37)
    given = {name: getattr(scene, name).clone().requires_grad_() for name in NAMES}
    image, alpha, _ = rasterization(**given, viewmats=scene.viewmats, Ks=scene.Ks, width=53, height=37)
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(3))
    ((image * weights).sum() + alpha.sum()).backward()
    return [image.detach(), alpha.detach(), *(tensor.grad for tensor in given.values())]


@pytest.mark.parametrize(
    ("wanted", "features", "lanes"),
    [
        (None, AVX512, 16), ("", AVX512, 16), (None, {"avx2": True}, 8), (None, {**AVX512, "avx512vl": False}, 8),
        ("8", AVX512, 8), ("16", {}, 16),
    ],
)  # fmt: skip
def test_lanes_follow_the_cpu_unless_the_environment_says(wanted, features, lanes):
    assert choose_lanes(wanted, features) == lanes


def test_other_numbers_of_lanes_are_refused():
    with pytest.raises(ConfigError, match=f"{LANES_VARIABLE} is '12'"):
        choose_lanes("12", AVX512)


def test_both_numbers_of_lanes_draw_the_same_bits(tmp_path):
    other = {8: 16, 16: 8}[LANES]
    root = Path(__file__).parents[3]
    environment = {**os.environ, LANES_VARIABLE: str(other), "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SAVE, str(tmp_path / "drawn.pt")]
    subprocess.run(command, env=environment, cwd=root, check=True)
    lanes, theirs = torch.load(tmp_path / "drawn.pt")
    ours = drawn()
    assert lanes == other
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    for mine, gradient in zip(ours[2:], theirs[2:], strict=True):
        assert (mine - gradient).norm() <= 1e-6 * gradient.norm()


@kernel
def _powers_and_logarithms(numbers, powers, doubles, logarithms):
    for i in range(0, numbers.shape[0], LANES):
        store(powers, i, exp2(load(numbers, i)))
    for i in range(0, doubles.shape[0], DOUBLES):
        store_doubles(logarithms, i, log2(load_doubles(doubles, i)))


def test_powers_and_logarithms_are_as_exact_as_they_say():
    numbers = np.linspace(-126, 127, 4096, dtype=np.float32)
    doubles = np.exp(np.linspace(-80, 80, 4096))
    powers, logarithms = np.empty_like(numbers), np.empty_like(doubles)
    _powers_and_logarithms(numbers, powers, doubles, logarithms)
    np.testing.assert_allclose(powers, np.exp2(numbers.astype(np.float64)), rtol=2.5e-7)
    np.testing.assert_allclose(logarithms, np.log2(doubles), rtol=0, atol=1e-13)
