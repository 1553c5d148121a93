"""The few-step sibling: its loss, a LoRA that changes nothing at first, and a few steps that make a file to load."""

import pytest
import torch

from threestudio_ssd.diffusion import ModelKeys, backbone_of
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.training import consistency
from threestudio_ssd.training.consistency import consistency_loss, grid, with_lora
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.unet import Sample, make_scheduler

ALPHAS = make_scheduler().alphas_cumprod


class Exact(torch.nn.Module):
    """Predicts the velocity towards the same clean latents from anywhere."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, latents, timesteps, texts):
        abar = ALPHAS[timesteps].view(-1, 1, 1, 1)
        clean = self.clean.expand(len(latents), -1, -1, -1)
        velocity = (abar.sqrt() * latents - clean) / (1 - abar).sqrt()
        return type("Output", (), {"sample": velocity})


def loss_of(student, teacher, places):
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(len(places), 4, 8, 8, generator=generator) for _ in range(2))
    texts = torch.zeros(len(places), 3, 5)
    sample = Sample(latents, torch.zeros(len(places), 3))
    return consistency_loss(student, teacher, ALPHAS, sample, texts, texts, torch.tensor(places), noise)


def test_the_timesteps_end_with_the_last_one():
    assert grid(1000).tolist()[:2] == [19, 39]
    assert int(grid(1000)[-1]) == 999
    assert len(grid(1000)) == consistency.NUM_TIMESTEPS


def test_a_model_that_is_consistent_already_has_nothing_to_learn():
    """One clean image wherever it starts: the same a step further down, and at the end that image itself."""
    exact = Exact(torch.full((1, 4, 8, 8), 0.3))
    assert loss_of(exact, exact, [0, 1, 20, 49]) < 1e-3


def test_at_the_first_timestep_the_target_is_the_teacher_s_and_farther_up_the_student_s_own():
    teacher, student = Exact(torch.full((1, 4, 8, 8), 0.3)), Exact(torch.full((1, 4, 8, 8), 0.8))
    assert float(loss_of(student, teacher, [0])) == pytest.approx(0.5, abs=0.01)
    assert loss_of(student, teacher, [10]) < 1e-3


def test_the_lora_changes_nothing_until_it_learns():
    unet = random_components(image_size=64).network
    latents, hidden, t = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 32), torch.tensor([19, 999])
    with torch.no_grad():
        before = unet(latents, t, hidden).sample
        torch.testing.assert_close(with_lora(unet, 0)(latents, t, hidden).sample, before, rtol=1e-4, atol=1e-5)
    assert {name.split(".")[-3] for name, weight in unet.named_parameters() if weight.requires_grad} == {
        "lora_A", "lora_B"
    }  # fmt: skip


def test_a_few_steps_make_a_lora_that_any_config_can_name(toy_shards, tmp_path, monkeypatch):
    base = tmp_path / "base"
    save_components(random_components("v_prediction", image_size=64), base)
    recipe = consistency.RECIPE.with_steps(2)
    consistency.train(Worker(), toy_shards, base, tmp_path, recipe)
    consistency.train(Worker(), toy_shards, base, tmp_path, recipe.with_steps(3))
    consistency.save(base, tmp_path, tmp_path / "out")
    assert "3 steps" in (tmp_path / "out" / "README.md").read_text()
    file = str(tmp_path / "out" / "lora.safetensors")
    plain, distilled = (
        backbone_of(ModelKeys(model=str(base), lora=lora), torch.device("cpu")) for lora in ([], [file])
    )
    latents = torch.randn(1, 4, 16, 16)
    one, other = (each.predict_noise(latents, 499, each.encode_prompts(["a"])) for each in (plain, distilled))
    assert not torch.equal(one, other)
    torch.testing.assert_close(one, other, rtol=0.5, atol=0.5)
    trained = torch.load(tmp_path / "lcm.ckpt", weights_only=True)["average"]["unet"]
    key = next(name for name in trained if name.endswith("conv1.lora_A.lcm.weight"))
    other_key = key.replace("lora_A", "lora_B")
    down, up = (trained[each].flatten(1) if each == key else trained[each].flatten(1) for each in (key, other_key))
    layer = key.removesuffix(".lora_A.lcm.weight")
    weights = [dict(each.network.named_parameters())[f"{layer}.weight"] for each in (plain, distilled)]
    expected = (up @ down).reshape(weights[0].shape)
    torch.testing.assert_close(weights[1] - weights[0], expected, rtol=0.02, atol=1e-4)
