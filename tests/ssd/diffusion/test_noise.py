"""Noise levels against published values and independent float64 derivations."""

import numpy as np
import pytest
import torch

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.diffusion.noise import NoiseLevels, noise_levels

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
REFERENCE = {21: 0.980, 117: 0.873, 261: 0.656, 501: 0.275, 741: 0.060, 885: 0.0165, 981: 0.0058}


def as_latents(values):
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("timestep", REFERENCE)
def test_stable_diffusion_noise_levels_are_the_published_ones(timestep):
    abar = noise_levels(SD).alphas_cumprod[timestep].item()
    digits = {21: 3, 117: 3, 261: 3, 501: 3, 741: 3, 885: 4, 981: 4}[timestep]
    assert round(abar, digits) == REFERENCE[timestep]


@pytest.mark.parametrize(
    "config",
    [
        SD,
        SD | {"beta_schedule": "linear"},
        SD | {"beta_schedule": "squaredcos_cap_v2"},
        SD | {"trained_betas": [0.1, 0.2]},
    ],
)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_tables_equal_those_of_diffusers(config, zero_snr):
    from diffusers import DDPMScheduler

    config = config | {"rescale_betas_zero_snr": zero_snr}
    theirs = DDPMScheduler.from_config(config).alphas_cumprod
    assert torch.allclose(noise_levels(config).alphas_cumprod, theirs, atol=2e-6, rtol=1e-4)


def test_flow_table_is_the_shifted_sigmas_of_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}
    levels = noise_levels(config)
    theirs = FlowMatchEulerDiscreteScheduler.from_config(config).sigmas.flip(0)
    assert torch.allclose(levels.sigmas, theirs, atol=1e-6)
    s = theirs.double()
    assert torch.allclose(levels.alphas_cumprod.double(), (1 - s) ** 2 / ((1 - s) ** 2 + s**2), atol=1e-6)


def test_the_schedule_for_sd3_spans_the_noise_levels_of_the_paper_s():
    """Noise over signal at the ends of the run, in the config for SD 3 and in the paper's for Stable Diffusion."""
    flow = noise_levels({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    ratios = []
    for levels, name in ((noise_levels(SD), "ssd-gs-sd15.yaml"), (flow, "ssd-gs-sd3.yaml")):
        keys = complete(load_config(REPOSITORY / "configs" / name)).system.guidance
        ends = torch.tensor([keys.t_min_frac, keys.t_max_frac]) * len(levels)
        abar = levels.alphas_cumprod[ends.long()]
        ratios.append(((1 - abar) / abar).sqrt())
    torch.testing.assert_close(*ratios, rtol=0.05, atol=0)


def test_more_noise_with_every_timestep():
    for config in (SD, {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}):
        assert (noise_levels(config).alphas_cumprod.diff() < 0).all()


def test_every_prediction_becomes_the_noise_that_was_added():
    z, noise, timesteps = as_latents([0.3, -1.2]), as_latents([0.8, 0.5]), torch.tensor([100, 700])
    abar = noise_levels(SD).alphas_cumprod
    a, sigma = (
        (abar[timesteps] ** 0.5).reshape(-1, 1, 1, 1),
        ((1 - abar[timesteps]) ** 0.5).reshape(-1, 1, 1, 1),
    )
    flow = NoiseLevels.from_sigmas((1 - abar).sqrt() / (abar.sqrt() + (1 - abar).sqrt()))
    predictions = {"epsilon": noise, "v_prediction": a * noise - sigma * z, "sample": z}
    for kind, prediction in predictions.items():
        levels = NoiseLevels(abar, kind)
        noisy = levels.add_noise(z, noise, timesteps)
        assert torch.allclose(levels.to_epsilon(prediction, noisy, timesteps), noise, atol=1e-5), kind
    noisy = flow.add_noise(z, noise, timesteps)
    assert torch.allclose(flow.to_epsilon(noise - z, noisy, timesteps), noise, atol=1e-5)


def test_a_flow_network_sees_its_own_interpolation_and_time():
    levels = noise_levels({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    z, noise, timesteps = as_latents([0.3]), as_latents([0.8]), torch.tensor([399])
    s = 3 * 0.4 / (1 + 2 * 0.4)
    latents, time = levels.network_input(levels.add_noise(z, noise, timesteps), timesteps)
    np.testing.assert_allclose(latents.item(), (1 - s) * 0.3 + s * 0.8, rtol=1e-5)
    np.testing.assert_allclose(time.item(), 1000 * s, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"beta_schedule": "wavy"}, "unknown beta_schedule 'wavy'"),
        ({"prediction_type": "score"}, "unknown prediction_type 'score'"),
        ({"_class_name": "EDMEulerScheduler"}, "scheduler EDMEulerScheduler describes continuous EDM noise"),
    ],
)
def test_unknown_noise_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        noise_levels(config)


def test_sigmas_belong_to_flows_only():
    with pytest.raises(ValueError, match="sigmas belong"):
        NoiseLevels(torch.tensor([0.5]), "epsilon", torch.tensor([0.5]))
