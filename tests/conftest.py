"""Shared by all tests: shapes and types are checked while they run, the plugins are loaded, and common fixtures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

from jaxtyping import install_import_hook

install_import_hook(["threestudio", "threestudio_ssd", "toy_fit"], "beartype.beartype")

import pytest
import threestudio

threestudio.load_plugins()


@pytest.fixture(autouse=True)
def _deterministic():
    """Every test starts from the same random numbers and leaves no forced device behind."""
    import torch
    from threestudio.utils.misc import force_device

    torch.manual_seed(0)
    yield
    force_device(None)


@pytest.fixture
def device():
    """The device tests run on."""
    import torch

    return torch.device("cpu")


@pytest.fixture
def generator():
    """A seeded torch generator on the CPU."""
    import torch

    return torch.Generator().manual_seed(0)
