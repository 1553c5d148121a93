"""The decoder's own training: the encoder keeps every bit, and the error goes down."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from threestudio_ssd.metrics import psnr
from threestudio_ssd.training import decoder
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.scenes import load_toy_data
from threestudio_ssd.training.vae import VAE_CONFIG, reconstruct


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two shards of plain-coloured pictures, quickly learned."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for shard in range(2):
        np.savez(
            folder / f"shard_{shard:03d}.npz", seeds=np.arange(12) + 12 * shard,
            images=np.broadcast_to(rng.integers(0, 256, (12, 1, 1, 3)), (12, 64, 64, 3)).astype(np.uint8),
            object_masks=np.zeros((12, 64, 64), bool), attributes=np.zeros((12, 5), int),
            angles_deg=np.zeros((12, 2), np.float32), framings=np.zeros(12, int), has_object=np.ones(12, bool),
        )  # fmt: skip
    return folder


def test_only_the_decoder_learns(data, tmp_path):
    torch.manual_seed(0)
    before = AutoencoderKL(**VAE_CONFIG)
    before.save_pretrained(tmp_path / "vae")
    vae = decoder.train(Worker(), data, tmp_path, decoder.RECIPE.with_steps(12))
    for name, value in before.state_dict().items():
        is_trained = name.startswith(decoder.PARTS)
        if not is_trained:
            assert torch.equal(vae.state_dict()[name], value), name
    held_out = load_toy_data(data, is_held_out=True)
    clean = held_out.unit_images(torch.arange(len(held_out)))
    assert psnr(reconstruct(vae, clean), clean).mean() > psnr(reconstruct(before, clean), clean).mean() + 1
    state = torch.load(tmp_path / "decoder.ckpt", weights_only=True)
    assert state["step"] == 12
    assert set(state["average"]) == set(decoder.PARTS)
    averaged = decoder.load(tmp_path)
    assert torch.equal(averaged.decoder.conv_in.weight, state["average"]["decoder"]["conv_in.weight"])
    assert torch.equal(averaged.encoder.conv_in.weight, before.encoder.conv_in.weight)


def test_a_copy_gets_the_parts_and_the_original_stays():
    torch.manual_seed(0)
    vae, other = AutoencoderKL(**VAE_CONFIG), AutoencoderKL(**VAE_CONFIG)
    whole = decoder.with_decoder(vae, {"decoder": other.decoder})
    assert torch.equal(whole.decoder.conv_in.weight, other.decoder.conv_in.weight)
    assert torch.equal(whole.encoder.conv_in.weight, vae.encoder.conv_in.weight)
    assert not torch.equal(vae.decoder.conv_in.weight, other.decoder.conv_in.weight)


def test_the_error_is_psnr_up_to_a_factor():
    images = torch.rand(3, 3, 8, 8) * 0.7
    decoded = images + torch.tensor([0.1, 0.2, 0.05]).view(3, 1, 1, 1)
    in_db = -10 / np.log(10) * decoder.log_error(decoded, images)
    assert in_db.item() == pytest.approx(psnr(decoded, images).mean().item(), abs=0.02)
