"""The backbone's contract on random weights: shapes, ranges, one epsilon for every network, counts."""

import gc
import weakref

import pytest
import torch

from tests.edit_world import REPOSITORY
from threestudio_ssd.diffusion import Backbone, PromptEmbeds, load_backbone, random_backbone
from threestudio_ssd.diffusion.compiled import compiled
from threestudio_ssd.diffusion.noise import NoiseLevels
from threestudio_ssd.errors import ConfigError

TINY = REPOSITORY / "data" / "tiny-ldm"


def noisy_batch(backbone, rows, generator, height=32, width=32):
    cells = height // backbone.downscale, width // backbone.downscale
    latents = torch.randn(rows, backbone.latent_channels, *cells, generator=generator)
    return latents, torch.randint(0, backbone.num_timesteps, (rows,), generator=generator)


def test_it_says_what_it_is(backbone):
    assert (backbone.num_timesteps, backbone.downscale, backbone.latent_channels) == (1000, 4, 4)
    assert (backbone.image_size, backbone.size_multiple, backbone.has_image_condition) == (32, 4, False)
    assert backbone.alphas_cumprod.shape == (1000,)
    assert backbone.model_id == "random-sd-epsilon"
    assert backbone.revision is None


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (4, 64)])
def test_encode_and_decode_shapes_and_ranges(backbone, generator, height, width):
    images = torch.rand(2, 3, height, width, generator=generator)
    latents = backbone.encode(images)
    assert latents.shape == (2, 4, height // 4, width // 4)
    decoded = backbone.decode(latents * 20)
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_encode_is_the_scaled_posterior_mean(backbone, generator):
    images = torch.rand(1, 3, 32, 32, generator=generator)
    moments = backbone.vae.quant_conv(backbone.vae.encoder(images * 2 - 1))
    assert torch.allclose(backbone.encode(images), moments[:, :4] * 0.3, atol=1e-6)
    assert torch.allclose(backbone.encode_condition(images), moments[:, :4], atol=1e-6)


def test_gradients_flow_through_encode_and_stop_at_the_weights(backbone, generator):
    images = torch.rand(1, 3, 16, 16, generator=generator, requires_grad=True)
    backbone.encode(images).square().sum().backward()
    assert images.grad.abs().max() > 0
    networks = [backbone.network, backbone.vae, *backbone.text_encoders.networks]
    assert not any(weight.requires_grad for network in networks for weight in network.parameters())
    assert not any(network.training for network in networks)


def test_predictions_have_no_gradient_unless_asked(generator):
    backbone = random_backbone()
    latents, timesteps = noisy_batch(backbone, 1, generator)
    latents.requires_grad_(True)
    prompts = backbone.encode_prompts(["a"])
    assert not backbone.predict_noise(latents, timesteps, prompts).requires_grad
    backbone.predict_noise(latents, timesteps, prompts, with_grad=True).square().sum().backward()
    assert latents.grad.abs().max() > 0
    with torch.no_grad():
        assert not backbone.predict_noise(latents, timesteps, prompts, with_grad=True).requires_grad


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_batch_equals_its_rows_one_by_one(kind, generator):
    backbone = random_backbone("v", kind=kind, in_channels=8)
    latents, timesteps = noisy_batch(backbone, 3, generator)
    condition = torch.randn(latents.shape, generator=generator)
    prompts = backbone.encode_prompts(["", "a red ball", "a blue ball"])
    together = backbone.predict_noise(latents, timesteps, prompts, condition)
    for row in range(3):
        alone = backbone.predict_noise(
            latents[row : row + 1], int(timesteps[row]), prompts[row], condition[row : row + 1]
        )
        assert torch.allclose(alone, together[row : row + 1], atol=2e-5)


class WrappedDenoiser(torch.nn.Module):
    """One denoiser, giving its answer as epsilon, v or flow; the flow one reads flow latents and times."""

    def __init__(self, backbone: Backbone, levels: NoiseLevels) -> None:
        super().__init__()
        self.unet, self.levels, self.config = backbone.network, levels, backbone.network.config

    def forward(self, latents, times, hidden, return_dict=False):
        abar = self.levels.alphas_cumprod
        if self.levels.sigmas is None:
            timesteps, noisy = times, latents
        else:
            timesteps = (self.levels.sigmas[None] * 1000 - times[:, None]).abs().argmin(1)
            s = self.levels.sigmas[timesteps].reshape(-1, 1, 1, 1)
            noisy = latents / ((1 - s) ** 2 + s**2) ** 0.5
        eps = self.unet(noisy, timesteps, hidden).sample
        signal, sigma = (
            abar[timesteps].sqrt().reshape(-1, 1, 1, 1),
            (1 - abar[timesteps]).sqrt().reshape(-1, 1, 1, 1),
        )
        sample = (noisy - sigma * eps) / signal
        return (
            {"epsilon": eps, "v_prediction": signal * eps - sigma * sample, "flow": eps - sample}[
                self.levels.prediction_type
            ],
        )


def test_one_denoiser_gives_one_epsilon_whatever_it_predicts(generator):
    backbone = random_backbone("eps")
    abar = backbone.alphas_cumprod
    latents, timesteps = noisy_batch(backbone, 4, generator)
    prompts = backbone.encode_prompts(["", "a", "b", "c"])
    expected = backbone.predict_noise(latents, timesteps, prompts)
    flow = NoiseLevels.from_sigmas((1 - abar).sqrt() / (abar.sqrt() + (1 - abar).sqrt()))
    for levels in (NoiseLevels(abar, "epsilon"), NoiseLevels(abar, "v_prediction"), flow):
        other = random_backbone("eps")
        other.noise_levels, other._network_call = levels, WrappedDenoiser(backbone, levels)
        found = other.predict_noise(latents, timesteps, prompts)
        assert torch.allclose(found, expected, atol=1e-4), levels.prediction_type


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "flow"])
def test_add_noise_has_the_variance_the_table_says(prediction_type, generator):
    backbone = random_backbone(prediction_type)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    noisy = backbone.add_noise(torch.ones_like(noise), noise, 600)
    abar = backbone.alphas_cumprod[600]
    assert torch.allclose(noisy, abar**0.5 + (1 - abar) ** 0.5 * noise, atol=1e-6)


def test_no_image_means_zeros_and_an_image_matters(generator):
    backbone = random_backbone(in_channels=8)
    assert backbone.has_image_condition
    latents, timesteps = noisy_batch(backbone, 1, generator)
    prompts = backbone.encode_prompts(["make it red"])
    without = backbone.predict_noise(latents, timesteps, prompts)
    assert torch.equal(without, backbone.predict_noise(latents, timesteps, prompts, torch.zeros_like(latents)))
    assert not torch.allclose(without, backbone.predict_noise(latents, timesteps, prompts, torch.ones_like(latents)))


def test_misfitting_rows_are_refused(backbone, generator):
    latents, timesteps = noisy_batch(backbone, 2, generator)
    prompts = backbone.encode_prompts(["a"])
    with pytest.raises(ValueError, match="2 latents but 1 prompts"):
        backbone.predict_noise(latents, timesteps, prompts)
    with pytest.raises(ValueError, match="model 'random-sd-epsilon' reads no image condition"):
        backbone.predict_noise(latents, timesteps, prompts.expand(2), latents)


def test_sizes_that_do_not_fit_are_named(backbone):
    with pytest.raises(ConfigError) as caught:
        backbone.encode(torch.rand(1, 3, 30, 32))
    assert str(caught.value) == (
        "image size 32x30 does not fit model 'random-sd-epsilon'; "
        "expected width and height in multiples of 4; use 32x32"
    )
    backbone.check_image_size(4, 400)


def test_counters_count_every_pass(generator):
    backbone = random_backbone()
    latents, timesteps = noisy_batch(backbone, 3, generator)
    backbone.predict_noise(latents, timesteps, backbone.encode_prompts(["", "a", "b"]))
    backbone.encode(torch.rand(2, 3, 8, 8))
    backbone.encode_condition(torch.rand(1, 3, 8, 8))
    backbone.decode(latents)
    counters = backbone.counters
    assert (counters.network_calls, counters.rows, counters.prompts) == (1, 3, 3)
    assert (counters.encodes, counters.encoded_images, counters.decodes) == (2, 3, 1)
    counters.reset()
    assert (counters.network_calls, counters.rows, counters.encodes) == (0, 0, 0)


def test_freeing_the_text_encoder_frees_it():
    backbone = random_backbone(kind="sdxl")
    kept = backbone.encode_prompts(["a"])
    networks = [weakref.ref(network) for network in backbone.text_encoders.networks]
    weights = [weakref.ref(next(network().parameters())) for network in networks]
    backbone.free_text_encoder()
    gc.collect()
    assert [ref() for ref in networks + weights] == [None] * 4
    assert isinstance(kept, PromptEmbeds)
    with pytest.raises(RuntimeError, match="the text encoder was freed"):
        backbone.encode_prompts(["b"])


def test_options_leave_the_numbers_alone(generator):
    plain, options = (
        random_backbone(),
        random_backbone(channels_last=True, vae_checkpointing=True, vae_tiling=True),
    )
    images = torch.rand(1, 3, 32, 32, generator=generator)
    grads = []
    for backbone in (plain, options):
        leaf = images.clone().requires_grad_(True)
        backbone.encode(leaf).square().sum().backward()
        grads.append(leaf.grad)
    assert torch.allclose(grads[0], grads[1], atol=1e-5)
    assert options.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    latents, timesteps = noisy_batch(plain, 1, generator)
    found = [b.predict_noise(latents, timesteps, b.encode_prompts(["a"])) for b in (plain, options)]
    assert torch.allclose(*found, atol=1e-5)


def test_a_trainers_autocast_does_not_overrule_the_chosen_precision(generator):
    backbone = random_backbone()
    images = torch.rand(1, 3, 16, 16, generator=generator)
    latents, timesteps = noisy_batch(backbone, 1, generator)

    def results():
        prompts = backbone.encode_prompts(["a"])
        eps = backbone.predict_noise(latents, timesteps, prompts)
        return torch.cat([each.flatten() for each in (backbone.encode(images), backbone.decode(latents), eps)])

    expected = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(results(), expected)


def test_large_images_are_encoded_in_tiles_only_when_asked(generator):
    num_passes = []
    for is_tiled, side in [(False, 64), (True, 64), (True, 32)]:
        backbone, passes = random_backbone(vae_tiling=is_tiled), []
        backbone.vae.encoder.register_forward_hook(lambda *args, passes=passes: passes.append(1))
        assert backbone.encode(torch.rand(1, 3, side, side, generator=generator)).shape[-1] == side // 4
        num_passes.append(len(passes))
    assert num_passes[0] == num_passes[2] == 1
    assert num_passes[1] > 1


def test_compile_compiles_the_network_and_nothing_else(monkeypatch, generator):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    random_backbone()
    assert compiled == []
    backbone = random_backbone(compile=True)
    assert compiled == [backbone.network]


def test_what_cuda_graphs_give_outlives_the_next_replay(monkeypatch):
    page, told = torch.zeros(2), []

    def replayed(value, return_dict):
        return (page.fill_(value),)

    monkeypatch.setattr(torch, "compile", lambda network, mode: told.append(mode) or replayed)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: told.append("step"))
    call = compiled(torch.nn.Identity(), cuda_graphs=True)
    (first,), (second,) = call(1.0, return_dict=False), call(2.0, return_dict=False)
    assert (first.tolist(), second.tolist()) == ([1, 1], [2, 2])
    assert told == ["reduce-overhead", "step", "step"]


def test_cuda_graphs_want_a_cuda_gpu():
    with pytest.raises(ConfigError, match="cuda_graphs is true, and there is no CUDA GPU"):
        random_backbone(cuda_graphs=True)


@pytest.mark.slow
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_compiled_network_predicts_the_same(cuda_graphs, generator):
    plain, other = load_backbone(TINY), load_backbone(TINY)
    other._network_call = compiled(other.network, cuda_graphs)  # on a CPU both are compiled, and nothing is recorded
    latents = torch.randn(4, plain.latent_channels, 16, 16, generator=generator)
    prompts = plain.encode_prompts(["a photo of a red ball on grass"] * 2 + [""] * 2)
    for timestep in (100, 800):
        expected = plain.predict_noise(latents, timestep, prompts)
        torch.testing.assert_close(other.predict_noise(latents, timestep, prompts), expected, atol=1e-4, rtol=1e-4)


def test_half_precision_networks_speak_float32(generator):
    backbone = random_backbone(dtype="bf16", vae_dtype="bf16")
    latents, timesteps = noisy_batch(backbone, 1, generator)
    prompts = backbone.encode_prompts(["a"])
    found = backbone.predict_noise(latents, timesteps, prompts)
    reference = random_backbone()
    expected = reference.predict_noise(latents, timesteps, reference.encode_prompts(["a"]))
    assert (found.dtype, prompts.hidden.dtype) == (torch.float32, torch.float32)
    assert backbone.encode(torch.rand(1, 3, 8, 8)).dtype == torch.float32
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone():
    state = torch.random.get_rng_state()
    first, second, other = random_backbone(seed=1), random_backbone(seed=1), random_backbone(seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.network.conv_in.weight, second.network.conv_in.weight)
    assert not torch.equal(first.network.conv_in.weight, other.network.conv_in.weight)


def test_a_large_network_on_a_cpu_multiplies_in_bfloat16_and_speaks_float32(monkeypatch, generator):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    plain = random_backbone()
    monkeypatch.setattr("threestudio_ssd.diffusion.precision.LARGE", 1)
    mixed, asked = random_backbone(), random_backbone(dtype="fp32")
    assert (plain.provenance["autocast"], mixed.provenance["autocast"]) == (None, "bfloat16")
    images = torch.rand(2, 3, 32, 32, generator=generator).requires_grad_()
    results = []
    for each in (plain, mixed, asked):
        latents = each.encode(images)
        (gradient,) = torch.autograd.grad(latents.square().sum(), images)
        eps = each.predict_noise(latents.detach(), 500, each.encode_prompts(["a", "b"]))
        assert {part.dtype for part in (latents, gradient, eps)} == {torch.float32}
        results.append((latents.detach(), gradient, eps))
    for exact, rounded, same in zip(*results, strict=True):
        assert torch.equal(exact, same)
        assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()
