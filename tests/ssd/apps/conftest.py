"""Training steps run in the tests' own process: what they set for a process of theirs does not outlive a test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def denormals_count_again():
    yield
    torch.set_flush_denormal(False)
