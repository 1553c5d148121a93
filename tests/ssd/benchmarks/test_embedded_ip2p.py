"""The shipped InstructPix2Pix by meaning: what comes of instructions, by sampling and by distillation."""

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.toy.trials import Trial, picture_batch, picture_view, run_batch
from threestudio_ssd.metrics import psnr
from threestudio_ssd.toyworld.classifier import load_classifier
from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.judge import judge_images
from threestudio_ssd.toyworld.truth import make_truth

MODEL = REPOSITORY / "data/tiny-ip2p"
SEED = 40
EDITS = ("blue-ball", "purple-mushroom", "green-cube", "sand", "sunset", "null-ball")


@pytest.fixture(scope="module")
def outcomes():
    """Six pictures side by side under SSD on InstructPix2Pix, 50 steps."""
    words = [f"model={MODEL}", "steps=50"]
    guidance = complete(load_config(REPOSITORY / "configs/ssd-gs-ip2p-tiny.yaml", cli_args=words)).system.guidance
    system = complete(load_config(REPOSITORY / "configs/ssd-image.yaml", cli_args=["steps=50"])).system
    system.guidance, system.latent_steps, system.learning_rate = guidance, "adam", [0, 0.1, 0.01, 50]
    trials = [Trial(toy_edit(name), 0, SEED) for name in EDITS]
    done = run_batch(picture_batch(trials, system), load_classifier(), 1)
    return {
        name: judge_images(each.images, each.truth, load_classifier()) for name, each in zip(EDITS, done, strict=True)
    }


def test_distillation_follows_the_instruction(outcomes):
    """Most of the edits read as asked, and a null edit leaves what is there."""
    followed = [outcomes[name]["shows_word"] for name in EDITS if name != "null-ball"]
    assert sum(followed) >= 4, outcomes
    assert outcomes["null-ball"]["shows_word"] == 1
    assert all(outcomes[name]["kept"] >= 0.75 for name in EDITS)


def test_sampling_edits_the_picture_it_is_given():
    """By diffusers' own pipeline: a blue ball where the red one was, nearer to the truth than the source is."""
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(MODEL, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    edit = toy_edit("blue-ball")
    trial = Trial(edit, 0, SEED)
    truth = make_truth(edit, SEED, picture_view(trial, 64))
    edited = pipeline(
        edit.instruction, truth.source, num_inference_steps=20, guidance_scale=5.0, image_guidance_scale=1.5,
        generator=torch.Generator().manual_seed(0), output_type="pt",
    ).images  # fmt: skip
    assert judge_images(edited.float(), truth, load_classifier())["shows_word"] == 1
    assert psnr(edited.float(), truth.target).mean() > psnr(truth.source, truth.target).mean() + 3
