"""One small world and one inpainting pipeline for all tests of this folder."""

from pathlib import Path

import pytest

from tests.edit_world import SIZE, write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """Scene, cameras, masks, model and CLIP in one folder; tests that damage something copy it first."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def inpainting_pipeline(tmp_path_factory) -> Path:
    """A folder that diffusers reads as an inpainting pipeline, random, its network with nine channels."""
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel

    from threestudio_ssd.diffusion.models import save_components
    from threestudio_ssd.diffusion.random import random_components

    folder = tmp_path_factory.mktemp("inpainting")
    parts = random_components(image_size=SIZE)
    unet = UNet2DConditionModel.from_config({**parts.network.config, "in_channels": 9})
    save_components(parts, folder / "model")
    StableDiffusionInpaintPipeline(
        vae=parts.vae, text_encoder=parts.text_networks[0], tokenizer=parts.tokenizers[0], unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder / "model", subfolder="scheduler"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder / "inpaint")  # fmt: skip
    return folder / "inpaint"
