"""Operations counted without weights, against hand counts and the figures the project promises."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from threestudio_ssd.diffusion.costs.architectures import ARCHITECTURES
from threestudio_ssd.diffusion.costs.flops import encode_flops, frozen, predict_flops, run_encode, step_cost

NUM_WEIGHTS = {  # of the published checkpoints, in millions; only SDXL's second and SD 3's CLIPs have a projection
    "sd15": (859.5, 83.7, 123.1),
    "sd21-base": (865.9, 83.7, 340.4),
    "sdxl": (2567.5, 83.7, 123.1 + 694.7),
    "sd-turbo": (865.9, 83.7, 340.4),
    "lcm": (859.6, 83.7, 123.1),
    "sdxl-turbo": (2567.5, 83.7, 123.1 + 694.7),
    "sd3": (2028.3, 83.8, 123.7 + 694.7),
    "sd35-medium": (2243.2, 83.8, 123.7 + 694.7),
}


@pytest.mark.parametrize("name", ["sd15", "sd21-base", "sd-turbo", "lcm"])
def test_architectures_have_the_published_number_of_weights(name):
    check_number_of_weights(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sdxl", "sdxl-turbo", "sd3", "sd35-medium"])
def test_large_architectures_have_the_published_number_of_weights(name):
    check_number_of_weights(name)


def check_number_of_weights(name):
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        parts = [[architecture.make_network()], [architecture.make_vae()], architecture.make_texts()]
    found = [sum(weight.numel() for part in group for weight in part.parameters()) / 1e6 for group in parts]
    assert [round(number, 1) for number in found] == pytest.approx(NUM_WEIGHTS[name], abs=0.11)


def test_a_convolution_is_counted_as_on_paper():
    """Forward and the gradient of the input: two operations per multiply-add; none for the frozen weights."""

    class OneConvolution(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 8, 3, padding=1, device="meta")

        def encode(self, images):
            return type("Output", (), {"latents": self.convolution(images)})

    with FlopCounterMode(display=False) as counter:
        run_encode(frozen(OneConvolution()), 2, 16, torch.float32)
    assert counter.get_total_flops() == 2 * (2 * 2 * 16 * 16 * 3 * 8 * 9)


def test_a_step_of_stable_diffusion_keeps_its_promise():
    """At 512 px: one encode with gradient 2.27 and four predictions 3.21, at most 5.5 together; 3.5 with TAESD."""
    cost = step_cost("sd15", 512)
    assert cost.encode == pytest.approx(2.27, abs=0.01)
    assert cost.predict == pytest.approx(3.21, abs=0.01)
    assert cost.total <= 5.5
    tiny = step_cost("sd15", 512, vae="taesd")
    assert tiny.predict == cost.predict
    assert tiny.total == pytest.approx(3.5, abs=0.05)


def test_distilled_models_cost_what_their_teachers_cost():
    """An LCM adds one small layer."""
    assert predict_flops("sd-turbo", 512) == predict_flops("sd21-base", 512)
    assert predict_flops("lcm", 512) - predict_flops("sd15", 512) == 2 * 256 * 320


def test_costs_are_linear_in_views():
    one, three = (
        step_cost("sd15", 512, vae="taesd"),
        step_cost("sd15", 512, num_views=3, num_predictions=2, vae="taesd"),
    )
    assert three.encode == pytest.approx(3 * one.encode)
    assert three.predict == pytest.approx(1.5 * one.predict)
    assert encode_flops("sd15", 512, "taesd") == pytest.approx(one.encode * 1e12)
