"""Devices: what a command line may ask for, on machines with and without GPUs."""

import pytest
import torch

from threestudio.errors import ConfigError
from threestudio.run import main
from threestudio.utils import misc


@pytest.mark.parametrize("asked", [None, "cpu"])
def test_the_cpu_is_everywhere(asked):
    misc.check_device(asked, has_cuda=False, has_mps=False)


@pytest.mark.parametrize(
    ("asked", "has_cuda", "has_mps", "message"),
    [
        ("cuda", False, True, r"a GPU was asked for \(cuda\), and torch finds none; .*\(here: mps or cpu\); leave"),
        ("mps", True, False, r"a GPU was asked for \(mps\), .*\(here: cuda or cpu\)"),
        ("tpu", True, False, "the device is tpu; expected cuda, mps or cpu; write --device cuda"),
    ],
)
def test_a_device_that_is_not_here(asked, has_cuda, has_mps, message):
    with pytest.raises(ConfigError, match=message):
        misc.check_device(asked, has_cuda, has_mps)


def test_the_command_line_s_device_is_the_usual_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    misc.use_device("mps", is_usual=True)
    assert misc.get_device().type == "mps"
    misc.use_device("cpu")
    assert misc.get_device().type == "cpu"
    misc.use_device(None)
    assert misc.get_device().type == "mps"


def test_cuda_is_taken_by_itself_and_mps_is_not(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert misc.get_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert misc.get_device() == torch.device("cuda:1")


def test_gpu_and_another_device_contradict(capsys):
    assert main(["--config", "smoke/edit", "--gpu", "0", "--device", "mps"]) == 2
    assert capsys.readouterr().err == (
        "error: --gpu with --device mps; expected --gpu with --device cuda; leave one of them out\n"
    )


def test_a_device_that_is_not_here_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--config", "smoke/edit", "--device", "mps"]) == 2
    assert capsys.readouterr().err.startswith("error: a GPU was asked for (mps), and torch finds none; expected ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("device", "half", "expected"),
    [
        ("cpu", torch.float16, torch.float32), ("mps", torch.float16, torch.float16),
        ("mps", torch.bfloat16, torch.bfloat16),
    ],
)  # fmt: skip
def test_precisions_of_a_device(device, half, expected):
    from threestudio_ssd.diffusion.precision import choose_dtype, choose_vae_dtype

    assert choose_dtype(None, torch.device(device), half) == expected
    assert choose_vae_dtype(None, torch.device(device)) == torch.float32
