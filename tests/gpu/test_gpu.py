"""On a CUDA GPU: seconds a step, memory, parity with the CPU, into ``gpu-report.json``: ``pytest tests/gpu``.

Where there is none the same script runs on the CPU, for a few steps.
"""

import json

import pytest
import torch

from tests.gpu import measure

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def report():
    """The report of this machine's GPU, kept where the tests were started."""
    measure.main("cuda")
    with open("gpu-report.json", encoding="utf-8") as file:
        return json.load(file)


@CUDA
def test_renders_and_steps_are_those_of_the_cpu(report):
    assert report["parity"]["renders"] < 2e-3
    assert report["parity"][f"colours_after_{measure.PARITY_STEPS}_steps"] < 2e-2


@CUDA
def test_no_step_takes_more_memory_than_the_first_ones(report):
    for kind in report["costs"].values():
        assert kind["peak_bytes_late"] <= 1.02 * kind["peak_bytes_early"]


@CUDA
def test_a_step_takes_no_longer_than_on_a_cpu(report):
    assert report["costs"]["default"]["seconds_a_step"] < measure.cost("cpu", 20)["seconds_a_step"]


def test_the_script_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = measure.measured
    monkeypatch.setattr(measure, "measured", lambda device: measured(device, steps=2))
    measure.main("cpu")
    report = json.loads((tmp_path / "gpu-report.json").read_text())
    assert report["parity"] == {"renders": 0, f"colours_after_{measure.PARITY_STEPS}_steps": 0}
    assert set(report["costs"]) == {"default", "four views a step"}
    assert all(kind["seconds_a_step"] > 0 for kind in report["costs"].values())
