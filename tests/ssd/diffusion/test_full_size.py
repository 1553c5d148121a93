"""Published architectures at their full size, with random weights: one real step on a CPU at reduced resolution."""

import gc
import sys
import time

import pytest
import torch

from threestudio_ssd.diffusion import Backbone, load_backbone
from threestudio_ssd.diffusion.costs import ARCHITECTURES
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import assembled

RED = "a photo of a red ball on grass"


def full_size_components(name, dtype, seed=0):
    """A published architecture at its full size, with random weights: what a real model costs, without a download."""
    architecture = ARCHITECTURES[name]
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, vae, texts = architecture.make_network(), architecture.make_vae(), architecture.make_texts()
    finally:
        torch.set_default_dtype(default)
    return assembled(architecture.family, network, vae, texts, architecture.scheduler, f"random-{name}")


def one_step(backbone):
    """Encode with gradient, one batched prediction, one backward: what an optimisation step asks of the networks."""
    images = torch.rand(1, 3, 64, 96, requires_grad=True)
    latents = backbone.encode(images)
    prompts = backbone.encode_prompts(["", "a photo of a man", "a photo of a clown"])
    backbone.free_text_encoder()
    noisy = backbone.add_noise(latents.detach(), torch.randn_like(latents), 500).expand(3, -1, -1, -1)
    condition = torch.randn(noisy.shape) if backbone.has_image_condition else None
    eps = backbone.predict_noise(noisy, 500, prompts, condition)
    (latents * (eps[2] - eps[1])).sum().backward()
    assert latents.shape == (1, backbone.latent_channels, 8, 12)
    assert eps.shape == (3, backbone.latent_channels, 8, 12)
    assert torch.isfinite(eps).all()
    assert images.grad.abs().max() > 0
    assert (backbone.counters.network_calls, backbone.counters.rows, backbone.counters.encodes) == (1, 3, 1)


@pytest.mark.slow
def test_stable_diffusion_15_is_loaded_from_a_folder_and_does_a_step(tmp_path):
    save_components(full_size_components("sd15", dtype=torch.float16), tmp_path)
    gc.collect()
    backbone = load_backbone(tmp_path)
    assert (backbone.image_size, backbone.downscale, backbone.num_timesteps) == (512, 8, 1000)
    assert backbone.network.dtype == torch.float32
    one_step(backbone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("sd21-base", 512), ("sd21", 768), ("ip2p", 512), ("sd-turbo", 512), ("lcm", 512), ("sdxl-turbo", 512),
        ("sdxl", 1024), ("sd3", 1024), ("sd35-medium", 1024),
    ],
)  # fmt: skip
def test_the_other_architectures_do_a_step(name, image_size):
    components = full_size_components(name, dtype=torch.bfloat16)
    backbone = Backbone(components, dtype="bf16", vae_dtype="bf16")
    del components
    assert backbone.image_size == image_size
    one_step(backbone)
    del backbone
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-ldm", "sd15"])
def test_what_bfloat16_products_change_of_predictions_and_of_the_score(name, monkeypatch):
    """``-s`` prints the figures of docs/performance.md."""
    monkeypatch.setattr("threestudio_ssd.diffusion.precision.LARGE", 1)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True})
    size, components = (256, full_size_components("sd15", torch.float32)) if name == "sd15" else (64, None)
    found = {}
    for dtype in ("fp32", None):
        backbone = Backbone(components, dtype=dtype) if components else load_backbone("data/tiny-ldm", dtype=dtype)
        draws = torch.Generator().manual_seed(0)
        latents = backbone.encode(torch.rand(1, 3, size, size, generator=draws)).detach()
        noise, way = (torch.randn(latents.shape, generator=draws) for _ in range(2))
        prompts = backbone.encode_prompts([RED, RED.replace("red", "blue"), RED, ""])
        latents = torch.cat([latents, latents, latents + 0.3 * way, latents])
        noisy = [(backbone.add_noise(latents, noise.expand_as(latents), t), t) for t in (200, 500, 800)]
        start = time.perf_counter()
        eps = [backbone.predict_noise(latent, t, prompts) for latent, t in noisy]
        seconds = (time.perf_counter() - start) / len(noisy)
        found[dtype] = (latents, *eps, *((e[1] - e[2]) + 0.2 * (e[1] - e[3]) for e in eps), seconds)
    *exact, before = found["fp32"]
    *rounded, after = found[None]
    errors = [float((a - b).norm() / a.norm()) for a, b in zip(exact, rounded, strict=True)]
    figures = ", ".join(f"{each:.4f}" for each in errors)
    sys.stdout.write(f"{name}: {before:.2f} -> {after:.2f} s; latents, predictions, scores: {figures}\n")
    assert 0 < max(errors[:4]) < 0.03
    assert max(errors[4:]) < 0.25
