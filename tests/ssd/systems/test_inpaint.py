"""Inpainters change nothing outside the hole and something inside it; names that lead nowhere are said."""

import pytest
import torch

from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.systems.inpaint import blended, load_inpainter, telea

KEYS = {
    "model": "",
    "prompt": "a ball",
    "num_steps": 2,
    "guidance_scale": 2.0,
    "seed": 0,
    "device": torch.device("cpu"),
}


@pytest.fixture
def holes(generator):
    images = torch.rand(2, 3, 32, 32, generator=generator)
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 8:20, 10:24] = True
    masks[1, 16:, :9] = True
    return images, masks


def check(filled, holes):
    images, masks = holes
    outside = ~masks[:, None].expand_as(images)
    assert torch.equal(filled[outside], images[outside])
    assert not torch.equal(filled[~outside], images[~outside])
    assert filled.min() >= 0
    assert filled.max() <= 1


def test_telea_continues_the_surroundings(holes):
    check(telea(*holes), holes)
    flat = torch.full((1, 3, 32, 32), 0.4)
    flat[:, :, 10:20, 10:20] = 1.0
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 8:22, 8:22] = True
    torch.testing.assert_close(telea(flat, mask), torch.full_like(flat, 0.4), atol=2 / 255, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_diffusion_model_fills_and_repeats_itself(holes, prediction_type):
    backbone = random_backbone(prediction_type)
    prompts = backbone.encode_prompts(["a ball", ""])
    filled = blended(backbone, *holes, prompts, 3, 2.0, 0)
    check(filled, holes)
    assert backbone.counters.network_calls == 3
    assert torch.equal(filled, blended(backbone, *holes, prompts, 3, 2.0, 0))
    assert not torch.equal(filled, blended(backbone, *holes, prompts, 3, 2.0, 1))


def test_a_perfect_network_gives_the_picture_back(holes):
    """With the true noise as its prediction, denoising returns the latents it started from, hole or not."""
    backbone = random_backbone()
    images, masks = holes
    known = backbone.encode(images)
    noise = torch.randn(known.shape[1:], generator=torch.Generator().manual_seed(0)).expand_as(known)
    backbone.predict_noise = lambda latents, *rest: noise.repeat(2, 1, 1, 1)
    prompts = backbone.encode_prompts(["a ball", ""])
    filled = blended(backbone, images, masks, prompts, 4, 7.5, 0)
    decoded = backbone.decode(known)
    inside = masks[:, None].expand_as(images)
    torch.testing.assert_close(filled[inside], decoded[inside], atol=1e-3, rtol=0)


def test_a_model_by_folder(holes, tmp_path):
    save_components(random_components(image_size=32), tmp_path / "model")
    check(load_inpainter("model", **{**KEYS, "model": str(tmp_path / "model")})(*holes), holes)


def test_a_pipeline_of_diffusers_by_folder(holes, tmp_path):
    """A random one with the nine channels of an inpainting network."""
    from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel

    parts = random_components(image_size=32)
    unet = UNet2DConditionModel.from_config({**parts.network.config, "in_channels": 9})
    save_components(parts, tmp_path / "model")
    from diffusers import DDIMScheduler

    StableDiffusionInpaintPipeline(
        vae=parts.vae, text_encoder=parts.text_networks[0], tokenizer=parts.tokenizers[0], unet=unet,
        scheduler=DDIMScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(tmp_path / "inpaint")  # fmt: skip
    check(load_inpainter(str(tmp_path / "inpaint"), **KEYS)(*holes), holes)


def test_a_name_that_leads_nowhere(tmp_path):
    with pytest.raises(ConfigError, match="system.inpainter .* cannot be loaded"):
        load_inpainter(str(tmp_path / "nothing"), **KEYS)
