"""What a U-Net trains fastest in, by what the processor can do."""

import pytest
import torch

from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.training.precision import mixed_precision, quick_to_train


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch, has_bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16})
    layer = torch.nn.Linear(4, 4)
    with mixed_precision():
        assert layer(torch.zeros(1, 4)).dtype == (torch.bfloat16 if has_bf16 else torch.float32)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_channels_lie_last_where_it_computes_in_float32(monkeypatch, has_bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_bf16})
    weight = quick_to_train(random_components(image_size=64).network).conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) != has_bf16
