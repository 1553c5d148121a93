"""The few-step sibling: paths whose ends are known, the boundary, the loss, steps that make a file to load."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import LCMScheduler
from safetensors.torch import save_file

from tests.edit_world import REPOSITORY
from threestudio_ssd.diffusion import Backbone, ModelKeys, PromptEmbeds, backbone_of, load_backbone
from threestudio_ssd.diffusion.lora import merge_loras
from threestudio_ssd.diffusion.noise import NoiseLevels
from threestudio_ssd.diffusion.random import random_backbone, random_components
from threestudio_ssd.training import consistency, few_steps
from threestudio_ssd.training.consistency import (
    GUIDANCE_SCALE,
    STRIDE,
    TARGETS,
    TIMESTEPS,
    clean_latents,
    consistency_loss,
    solved_paths,
    with_lora,
)  # fmt: skip
from threestudio_ssd.training.few_steps import consistent_samples
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.unet import make_scheduler

ALPHAS = make_scheduler().alphas_cumprod
SHIPPED = REPOSITORY / "data" / "tiny-lcm" / "lora.safetensors"


class Known(Backbone):
    """A teacher that knows its data: one picture for each prompt, or latents of unit variance around zero."""

    def __init__(self, *, is_gaussian=False):
        self.noise_levels, self.device, self.is_gaussian = NoiseLevels(ALPHAS), torch.device("cpu"), is_gaussian

    def predict_noise(self, noisy, timestep, prompts, *_):
        signal, noise_level = ALPHAS[timestep].sqrt(), (1 - ALPHAS[timestep]).sqrt()
        if self.is_gaussian:
            return noise_level * noisy
        return (noisy - signal * prompts.hidden[:, :1, :1, None]) / noise_level


def latents_of(count, seed=0):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def prompts_of(*values):
    return PromptEmbeds(torch.tensor(values, dtype=torch.float32).view(-1, 1, 1).expand(-1, 3, 5))


def test_paths_end_where_the_guidance_of_the_teacher_leads():
    """The data are one picture, v; those of the empty prompt are 0.1: with guidance s, ends are 0.1 + s (v - 0.1)."""
    pairs = solved_paths(Known(), latents_of(2), latents_of(2, 1), 999, prompts_of(0.3, -0.2), prompts_of(0.1))
    assert pairs["timesteps"].tolist() == [249, 249, 499, 499, 749, 749, 999, 999]
    ends = [0.1 + GUIDANCE_SCALE * (value - 0.1) for value in (0.3, -0.2)]
    expected = torch.tensor(ends * 4).view(-1, 1, 1, 1).expand(-1, 4, 8, 8)
    torch.testing.assert_close(pairs["clean"], expected, rtol=1e-3, atol=1e-3)
    abar = ALPHAS[999]
    expected = abar.sqrt() * latents_of(2) + (1 - abar).sqrt() * latents_of(2, 1)
    torch.testing.assert_close(pairs["noisy"][6:], expected)


def test_paths_are_those_of_ddim():
    """Of data of unit variance, a step turns (z_0, eps) by the angle between two timesteps: z shrinks by its cosine."""
    first = 499
    pairs = solved_paths(
        Known(is_gaussian=True), latents_of(3), latents_of(3, 1), first, prompts_of(0, 0, 0), prompts_of(0)
    )
    angles = [math.acos(math.sqrt(ALPHAS[t])) for t in range(first, 0, -STRIDE)] + [0.0]
    shrink = [math.cos(now - then) for now, then in zip(angles[:-1], angles[1:], strict=True)]
    torch.testing.assert_close(pairs["clean"][3:], pairs["noisy"][3:] * math.prod(shrink), rtol=1e-4, atol=1e-5)
    assert TIMESTEPS[:2] == tuple(sorted(set(pairs["timesteps"].tolist())))
    torch.testing.assert_close(pairs["noisy"][:3], pairs["noisy"][3:] * math.prod(shrink[:5]), rtol=1e-4, atol=1e-5)


def test_without_noise_the_student_is_the_identity():
    latents, velocity = latents_of(2), latents_of(2, 1)
    assert torch.equal(clean_latents(latents, velocity, torch.tensor([0, 0]), ALPHAS), latents)


def test_the_boundary_is_that_of_diffusers():
    scheduler = LCMScheduler.from_config(make_scheduler().config, original_inference_steps=50)
    scheduler.set_timesteps(50)
    for timestep in scheduler.timesteps[[0, 25, 49]]:
        latents, velocity = latents_of(1), latents_of(1, 1)
        theirs = scheduler.step(velocity, timestep, latents, torch.Generator(), return_dict=False)[1]
        torch.testing.assert_close(clean_latents(latents, velocity, timestep[None], ALPHAS), theirs)


class Student(torch.nn.Module):
    """Predicts the velocity towards the same clean latents from anywhere."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, latents, timesteps, texts):
        abar = ALPHAS[timesteps].view(-1, 1, 1, 1)
        return type("Output", (), {"sample": (abar.sqrt() * latents - self.clean) / (1 - abar).sqrt()})


def test_the_loss_is_the_distance_of_the_velocities():
    pairs = solved_paths(Known(), latents_of(1), latents_of(1, 1), 749, prompts_of(0.3), prompts_of(0.3))
    texts = torch.zeros(3, 3, 5)
    assert consistency_loss(Student(0.3), ALPHAS, pairs, texts) < 1e-3
    expected = (0.5 / (1 - ALPHAS[pairs["timesteps"]]).sqrt()).mean()
    assert float(consistency_loss(Student(0.8), ALPHAS, pairs, texts)) == pytest.approx(float(expected), abs=0.03)


def test_the_lora_changes_nothing_until_it_learns():
    unet = random_components(image_size=64).network
    latents, hidden, t = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 32), torch.tensor([19, 999])
    with torch.no_grad():
        before = unet(latents, t, hidden).sample
        torch.testing.assert_close(with_lora(unet, 0)(latents, t, hidden).sample, before, rtol=1e-4, atol=1e-5)
    trained = [name for name, weight in unet.named_parameters() if weight.requires_grad]
    assert {name.split(".")[-3] for name in trained} == {"lora_A", "lora_B"}


def test_a_few_steps_make_a_lora_that_any_config_can_name(toy_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(consistency, "ROUND_BATCH", 2)
    monkeypatch.setattr(consistency, "STRIDE", 250)
    base, work = REPOSITORY / "data" / "tiny-ldm", tmp_path / "work"
    recipe = replace(consistency.RECIPE, steps=2, batch_size=2)
    consistency.write_solutions(Worker(), toy_shards, base, work, 2)
    consistency.train(Worker(), base, work, recipe)
    consistency.train(Worker(), base, work, recipe.with_steps(3))
    consistency.save(base, work, tmp_path / "out")
    assert "3 steps" in (tmp_path / "out" / "README.md").read_text()
    assert "step 3/3" in (work / "lcm.log").read_text()
    trained = torch.load(work / "lcm.ckpt", weights_only=True)["average"]["unet"]
    layer = "down_blocks.0.resnets.0.conv1"
    down, up = (trained[f"{layer}.lora_{letter}.lcm.weight"].flatten(1) for letter in "AB")
    plain, changed = (load_backbone(base, lora=lora) for lora in ((), str(tmp_path / "out" / "lora.safetensors")))
    weights = [dict(each.network.named_parameters())[f"{layer}.weight"] for each in (plain, changed)]
    expected = (up @ down).reshape(weights[0].shape)
    assert expected.abs().max() > 0
    torch.testing.assert_close(weights[1] - weights[0], expected, rtol=0.02, atol=1e-5)


def test_the_shipped_lora_is_small_and_draws_in_two_evaluations_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(few_steps, "SIBLING_STEPS", (2, 4))
    monkeypatch.setattr(few_steps, "TEACHER_STEPS", (1, 2))
    assert SHIPPED.stat().st_size < 3e6
    rows = few_steps.measure(
        str(REPOSITORY / "data" / "tiny-ldm"), str(SHIPPED), tmp_path, num_prompts=16, guidance_scale=5.0
    )
    right = {(row["model"], row["evaluations"]): row["all"] for row in rows}
    assert right["sibling", 4] >= 0.75
    assert right["sibling", 2] > right["teacher", 2]
    assert right["sibling", 2] > right["teacher", 4]


def test_the_shipped_lora_is_loaded_by_its_config():
    keys = ModelKeys(model=str(REPOSITORY / "data" / "tiny-ldm"), lora=[str(SHIPPED)])
    plain, sibling = (backbone_of(each, torch.device("cpu")) for each in (ModelKeys(model=keys.model), keys))
    assert sibling.provenance["lora"] == [f"{SHIPPED}:1"]
    latents = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    one, other = (each.predict_noise(latents, 499, each.encode_prompts(["a red ball"])) for each in (plain, sibling))
    assert (one - other).abs().mean() > 0.01


def test_sampling_asks_at_its_own_timesteps_alone():
    backbone, seen = random_backbone(), []
    backbone.network.register_forward_pre_hook(lambda module, args: seen.append(int(args[1][0])))
    images = consistent_samples(backbone, ["a", "b"], 4)
    assert seen == list(TIMESTEPS[::-1])
    assert torch.equal(images, consistent_samples(backbone, ["a", "b"], 4))
    seen.clear()
    consistent_samples(backbone, ["a", "b"], 2)
    assert seen == [999, 499]


def test_a_lora_with_the_names_of_the_lcm_lora_fits_stable_diffusion(tmp_path: Path):
    """The released one has kohya's names and changes these layers; configs/ssd-gs-lcm.yaml names it."""
    before, after = random_components(), random_components()
    tensors = {}
    for name, layer in before.network.named_modules():
        if name.endswith(TARGETS) and hasattr(layer, "weight"):
            flat, weight = f"lora_unet_{name.replace('.', '_')}", layer.weight
            tensors[f"{flat}.lora_down.weight"] = torch.randn(2, *weight.shape[1:])
            tensors[f"{flat}.lora_up.weight"] = torch.randn(len(weight), 2, *[1] * (weight.dim() - 2))
            tensors[f"{flat}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "lora.safetensors")
    merge_loras(after, [tmp_path / "lora.safetensors"])
    changed = {
        name for (name, one), other in zip(before.network.named_parameters(), after.network.parameters(), strict=True)
        if not torch.equal(one, other)
    }  # fmt: skip
    assert len(changed) == len(tensors) / 3 > 20
