"""The training loop of the embedded models: resumed runs, shared latents, colours."""

import numpy as np
import pytest
import torch
from torch import nn

from threestudio_ssd.apps.color_jitter import jitter_colors
from threestudio_ssd.apps.make_tiny_unet import (
    DETAIL_RANGE,
    DETAIL_SHARE,
    Sample,
    center_weights,
    held_out_loss,
    make_scheduler,
    training_timesteps,
)
from threestudio_ssd.apps.training import Trainer, Worker, batch_rng, cosine_rate, load_shards
from threestudio_ssd.diffusion.random import random_components


def train(checkpoint, num_steps, stop_after=None):
    torch.manual_seed(3)
    trainer = Trainer(
        {"net": nn.Linear(4, 2)}, Worker(0, 1), learning_rate=0.1, num_steps=num_steps, ema_decay=0.9,
        checkpoint=checkpoint, warm_up=2,
    )  # fmt: skip
    for step in trainer.steps():
        x = torch.from_numpy(batch_rng(1, step, 0).normal(size=(8, 4))).float()
        trainer.update((trainer.modules["net"](x) - x[:, :2]).pow(2).mean())
        if stop_after is not None and step + 1 == stop_after:
            trainer.step += 1
            trainer.save()
            break
    return trainer


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = train(tmp_path / "a.ckpt", 12)
    train(tmp_path / "b.ckpt", 12, stop_after=5)
    resumed = train(tmp_path / "b.ckpt", 12)
    for name in ("modules", "ema"):
        for a, b in zip(
            getattr(whole, name)["net"].parameters(), getattr(resumed, name)["net"].parameters(), strict=True
        ):
            assert torch.equal(a, b)


def test_training_lowers_the_loss_and_the_average_follows(tmp_path):
    trainer = train(tmp_path / "c.ckpt", 200)
    target = torch.eye(4)[:2]
    assert (trainer.modules["net"].weight - target).abs().max() < 0.1
    assert (trainer.ema["net"].weight - target).abs().max() < 0.1


def test_cosine_rate_warms_up_and_ends_at_zero():
    rates = [cosine_rate(step, 100, 10) for step in range(101)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))


def test_shards_hold_one_out(tmp_path):
    for index in range(3):
        np.savez(tmp_path / f"shard_{index:03d}.npz", images=np.full((2, 1), index))
    (seen,) = load_shards(tmp_path, ("images",), held_out=False)
    (held,) = load_shards(tmp_path, ("images",), held_out=True)
    assert sorted(set(seen.ravel())) == [0, 1]
    assert set(held.ravel()) == {2}
    with pytest.raises(FileNotFoundError, match="holds 0 shards"):
        load_shards(tmp_path / "nowhere", ("images",), held_out=True)


def test_jittered_colours_leave_the_toy_worlds_own():
    images = torch.full((4, 3, 16, 16), 0.5)
    altered = jitter_colors(images, np.random.default_rng(0))
    assert altered.shape == images.shape
    assert 0 <= altered.min() < 0.4
    assert 0.6 < altered.max() <= 1
    assert torch.equal(altered, jitter_colors(images, np.random.default_rng(0)))


def test_timesteps_of_training_cover_the_range_and_are_denser_where_patterns_are_decided():
    drawn = torch.cat([training_timesteps(np.random.default_rng(seed), 16, 1000) for seed in range(200)])
    assert drawn.min() >= 0
    assert drawn.max() < 1000
    assert (drawn < 50).any()
    assert (drawn >= 950).any()
    low, high = (1000 * share for share in DETAIL_RANGE)
    share = ((drawn >= low) & (drawn < high)).float().mean().item()
    expected = DETAIL_SHARE + (1 - DETAIL_SHARE) * (DETAIL_RANGE[1] - DETAIL_RANGE[0])
    assert abs(share - expected) < 0.02


def test_the_middle_counts_more_and_the_mean_weight_is_one():
    weights = center_weights(16)
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-6)
    assert weights[8, 8] > 2 * weights[0, 0]
    torch.testing.assert_close(weights, weights.flip(0).T)


def test_the_held_out_loss_is_the_same_for_the_same_seed(tmp_path):
    parts = random_components("v_prediction", image_size=16)
    trainer = Trainer(
        {"unet": parts.network, "text_encoder": parts.text_networks[0]}, Worker(0, 1), learning_rate=0.1, num_steps=1,
        ema_decay=0.9, checkpoint=tmp_path / "d.ckpt",
    )  # fmt: skip

    def draw(rng, generator, size):
        latents = torch.randn(size, parts.network.config.in_channels, 4, 4, generator=generator)
        return Sample(latents, torch.from_numpy(rng.integers(9, size=(size, 5))))

    first, again, other = (held_out_loss(trainer, make_scheduler().alphas_cumprod, draw, 2, seed) for seed in (1, 1, 2))
    assert first == again
    assert first > 0
    assert first != other
