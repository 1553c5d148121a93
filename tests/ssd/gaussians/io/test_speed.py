"""A capture of usual size opens and is written while one waits."""

from time import perf_counter

import pytest
import torch

from threestudio_ssd.gaussians import Gaussians
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians

pytestmark = pytest.mark.slow

LOAD_SECONDS, SAVE_SECONDS = 1.5, 2.0


def random_gaussians(count: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(count, *shape, generator=generator)

    return Gaussians(
        means=draw(3), log_scales=draw(3) - 4, raw_quats=draw(4), logit_opacities=draw(), sh0=draw(1, 3),
        shN=0.1 * draw(15, 3),
    )  # fmt: skip


def seconds(work) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def test_a_million_gaussians_of_sh_degree_3_load_and_save_in_seconds(tmp_path):
    """Best of five: what the code takes, not what else the machine does."""
    file, again = tmp_path / "million.ply", tmp_path / "again.ply"
    save_gaussians(random_gaussians(1_000_000), file)
    loading = [seconds(lambda: load_gaussians(file)) for _ in range(5)]
    loaded = load_gaussians(file)
    saving = [seconds(lambda: save_gaussians(loaded, again)) for _ in range(5)]
    assert again.read_bytes() == file.read_bytes()
    assert min(loading) <= LOAD_SECONDS, loading
    assert min(saving) <= SAVE_SECONDS, saving
