"""Fixtures of the diffusion tests: random models, in memory and as folders."""

import pytest
import torch

from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_backbone, random_components


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def backbone():
    """A shared eps backbone; tests that read its counters use their own."""
    return random_backbone()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A small v-prediction model on disk; tests that damage one copy it first."""
    folder = tmp_path_factory.mktemp("models") / "tiny-v"
    save_components(random_components("v"), folder)
    return folder


@pytest.fixture
def warnings_seen(monkeypatch):
    """The texts passed to threestudio.warn."""
    import threestudio

    seen = []
    monkeypatch.setattr(threestudio, "warn", seen.append)
    return seen
