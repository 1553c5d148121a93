"""Sampling: the step is that of DDIM, there and back is the same place, and what is kept stays to the last bit."""

import pytest
import torch

from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.diffusion.sampling import blend, ddim_step, denoise, guided_by, invert, timesteps_down


@pytest.fixture
def latents(generator):
    return torch.randn(2, 4, 8, 8, generator=generator)


@pytest.fixture
def noise(generator, latents):
    return torch.randn(latents.shape, generator=generator)


def prediction(backbone, guidance_scale=1.0):
    return guided_by(backbone, backbone.encode_prompts(["a red ball"]), backbone.encode_prompts([""]), guidance_scale)


def test_paths_fall_to_zero_and_leave_pure_noise_out(backbone):
    assert timesteps_down(backbone, 3) == [999, 666, 333, 0]
    assert timesteps_down(backbone, 2, 0.5) == [500, 250, 0]
    flow = random_backbone(kind="sd3")
    assert flow.alphas_cumprod[-1] == 0
    assert timesteps_down(flow, 2)[0] == 998
    for num_steps, start_frac in ((0, 1.0), (5, 0.0), (5, 1.1)):
        with pytest.raises(ValueError, match="num_steps must be >= 1"):
            timesteps_down(backbone, num_steps, start_frac)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_sample_is_the_one_of_diffusers_scheduler(prediction_type, latents):
    """Twenty steps of the random network, the raw predictions handed to diffusers."""
    from diffusers import DDIMScheduler

    backbone = random_backbone(prediction_type)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        prediction_type=prediction_type,
    )  # fmt: skip
    scheduler.set_timesteps(20)
    prompts, expected = backbone.encode_prompts(["a red ball"]).expand(2), latents
    with torch.no_grad():
        for t in scheduler.timesteps:
            raw = backbone.network(expected, t, prompts.hidden).sample
            expected = scheduler.step(raw, t, expected).prev_sample
    path = [*scheduler.timesteps.tolist(), 0]
    torch.testing.assert_close(denoise(backbone, latents, path, prediction(backbone)), expected, rtol=1e-4, atol=2e-4)


def test_one_step_is_the_equation_in_double_precision(backbone, latents, noise):
    abar = backbone.alphas_cumprod.double()
    clean = (latents.double() - (1 - abar[700]).sqrt() * noise.double()) / abar[700].sqrt()
    expected = abar[300].sqrt() * clean + (1 - abar[300]).sqrt() * noise.double()
    torch.testing.assert_close(ddim_step(backbone, latents, noise, 700, 300).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ddim_step(backbone, latents, noise, 700, 0).double(), clean, rtol=1e-5, atol=1e-5)
    assert torch.equal(ddim_step(backbone, latents, noise, 0, 700), backbone.add_noise(latents, noise, 700))


def test_there_and_back_is_exact_where_the_prediction_does_not_change(backbone, latents, noise):
    path = timesteps_down(backbone, 10, 0.9)
    noisy = invert(backbone, latents, path, lambda *_: noise)
    torch.testing.assert_close(noisy, backbone.add_noise(latents, noise, path[0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(denoise(backbone, noisy, path, lambda *_: noise), latents, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "flow"])
def test_there_and_back_is_close_with_a_network_and_closer_with_more_steps(prediction_type, latents):
    backbone = random_backbone(prediction_type)
    predict, errors = prediction(backbone), []
    for num_steps in (10, 40):
        path = timesteps_down(backbone, num_steps, 0.6)
        back = denoise(backbone, invert(backbone, latents, path, predict), path, predict)
        errors.append(float((back - latents).norm() / latents.norm()))
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.05


def test_less_noise_keeps_more_of_an_image(latents, noise):
    """SDEdit: the result moves away from where it started as the start moves up."""
    backbone = random_backbone()
    distances = []
    for start_frac in (0.1, 0.4, 0.8):
        path = timesteps_down(backbone, 8, start_frac)
        edited = denoise(backbone, backbone.add_noise(latents, noise, path[0]), path, prediction(backbone, 5.0))
        distances.append(float((edited - latents).norm()))
    assert distances == sorted(distances)
    assert distances[0] < 0.5 * distances[2]


def test_guidance_is_one_call_and_none_skips_the_null_prompt(latents):
    backbone = random_backbone()
    cond, null = (backbone.encode_prompts([text]).expand(2) for text in ("a red ball", ""))
    eps_cond, eps_null = (backbone.predict_noise(latents, 500, each) for each in (cond, null))
    backbone.counters.reset()
    torch.testing.assert_close(prediction(backbone, 3.0)(latents, 500), eps_null + 3 * (eps_cond - eps_null))
    assert (backbone.counters.network_calls, backbone.counters.rows) == (1, 4)
    torch.testing.assert_close(prediction(backbone)(latents, 500), eps_cond)
    assert (backbone.counters.network_calls, backbone.counters.rows) == (2, 6)


def test_both_predictions_see_the_image_condition(latents, noise):
    backbone = random_backbone(in_channels=8)
    cond, null = (backbone.encode_prompts([text]) for text in ("make it red", ""))
    eps_cond, eps_null = (backbone.predict_noise(latents, 500, each.expand(2), noise) for each in (cond, null))
    guided = guided_by(backbone, cond, null, 2.0, noise)(latents, 500)
    torch.testing.assert_close(guided, eps_null + 2 * (eps_cond - eps_null))


def test_each_latent_may_have_its_own_prompt(backbone, latents):
    prompts, null = backbone.encode_prompts(["a red ball", "a blue cube"]), backbone.encode_prompts([""])
    together = guided_by(backbone, prompts, null, 2.0)(latents, 500)
    alone = [guided_by(backbone, prompts[i], null, 2.0)(latents[i : i + 1], 500) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("kind", ["sd", "sd3"])
def test_what_is_kept_comes_back_exactly_and_the_rest_changes(kind, latents, noise):
    backbone = random_backbone(kind=kind)
    is_free = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    is_free[:, :, 2:5, 3:7] = True
    blended = blend(backbone, latents, is_free, noise, timesteps_down(backbone, 5, 0.98), prediction(backbone, 2.0))
    outside = ~is_free.expand_as(latents)
    assert torch.equal(blended[outside], latents[outside])
    assert (blended[~outside] != latents[~outside]).all()


def test_the_free_part_sees_the_kept_one_at_its_noise_level(backbone, latents, noise):
    """Before every prediction after the first, the kept cells are the noised original."""
    is_free = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    is_free[..., :4] = True
    seen = []

    def predict(noisy, timestep):
        seen.append((noisy[..., 4:], timestep))
        return noise

    blend(backbone, latents, is_free, noise, [900, 600, 300, 0], predict)
    assert [timestep for _, timestep in seen] == [900, 600, 300]
    for kept, timestep in seen:
        assert torch.equal(kept, backbone.add_noise(latents, noise, timestep)[..., 4:])
