"""Which precision is chosen for which device."""

import pytest
import torch

from threestudio_ssd.diffusion.families import FAMILIES
from threestudio_ssd.diffusion.precision import choose_dtype, choose_vae_dtype, cpu_autocast, place
from threestudio_ssd.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "kind", "has_bf16", "network", "vae"),
    [
        (CPU, "sd", True, torch.float32, torch.float32),
        (CPU, "sd3", True, torch.float32, torch.float32),
        (CUDA, "sd", True, torch.float16, torch.bfloat16),
        (CUDA, "sd3", True, torch.bfloat16, torch.bfloat16),
        (CUDA, "sdxl", False, torch.float16, torch.float32),
        (CUDA, "sd3", False, torch.float16, torch.float32),
    ],
)
def test_the_device_decides_unless_asked(monkeypatch, device, kind, has_bf16, network, vae):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    assert choose_dtype(None, device, FAMILIES[kind].half_dtype) == network
    assert choose_vae_dtype(None, device) == vae
    assert choose_dtype("bf16", device, FAMILIES[kind].half_dtype) == torch.bfloat16
    assert choose_vae_dtype(torch.float32, device) == torch.float32


def test_a_vae_in_float16_is_refused():
    with pytest.raises(ConfigError) as caught:
        choose_vae_dtype("fp16", CUDA)
    assert str(caught.value) == "vae_dtype is fp16; expected fp32 or bf16; set vae_dtype=fp32, or leave it out"
    with pytest.raises(ConfigError, match="vae_dtype is torch.float16"):
        choose_vae_dtype(torch.float16, CUDA)


def test_layers_that_were_loaded_in_float32_on_purpose_stay_so():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2).half(), torch.nn.Linear(2, 2))
    placed = place(network, CPU, torch.float16)
    assert (placed[0].weight.dtype, placed[1].weight.dtype) == (torch.float16, torch.float32)


def test_placing_freezes_and_lays_out():
    network = place(torch.nn.Conv2d(3, 4, 3), CPU, torch.bfloat16, is_channels_last=True)
    assert network.weight.dtype == torch.bfloat16
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert not network.training
    assert not network.weight.requires_grad


@pytest.mark.parametrize(
    ("capabilities", "least", "dtype", "device", "expected"),
    [
        ({"avx512_bf16": True}, 4, None, CPU, torch.bfloat16),
        ({"bf16": True}, 4, None, CPU, torch.bfloat16),  # Arm
        ({"avx512_bf16": False, "amx_bf16": False}, 4, None, CPU, None),
        ({"avx2": True}, 4, None, CPU, None),
        ({"avx512_bf16": True}, 7, None, CPU, None),  # small
        ({"avx512_bf16": True}, 4, "fp32", CPU, None),  # asked
        ({"avx512_bf16": True}, 4, None, CUDA, None),
    ],
)
def test_large_networks_on_a_cpu_with_the_instructions_multiply_in_bfloat16(
    monkeypatch, capabilities, least, dtype, device, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr("threestudio_ssd.diffusion.precision.LARGE", least)
    assert cpu_autocast(dtype, device, torch.nn.Linear(2, 2)) == expected
