"""The decoder's own training: the encoder keeps every bit, and the error goes down."""

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from threestudio_ssd.apps import make_tiny_decoder
from threestudio_ssd.apps.make_tiny_vae import VAE_CONFIG, held_out_images, reconstruct
from threestudio_ssd.apps.training import Worker
from threestudio_ssd.metrics import psnr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two shards of plain-coloured pictures, quickly learned."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for shard in range(2):
        colors = rng.integers(0, 256, (12, 1, 1, 3))
        np.savez(folder / f"shard_{shard:03d}.npz", images=np.broadcast_to(colors, (12, 64, 64, 3)).astype(np.uint8))
    return folder


def test_only_the_decoder_learns(data, tmp_path):
    torch.manual_seed(0)
    vae = AutoencoderKL(**VAE_CONFIG)
    before = copy.deepcopy(vae)
    make_tiny_decoder.train(Worker(0, 1), data, vae, tmp_path, 12)
    for name, value in before.state_dict().items():
        is_trained = name.startswith(make_tiny_decoder.PARTS)
        if not is_trained:
            assert torch.equal(vae.state_dict()[name], value), name
    clean, _ = held_out_images(data, 4)
    assert psnr(reconstruct(vae, clean), clean).mean() > psnr(reconstruct(before, clean), clean).mean() + 1
    state = torch.load(tmp_path / "decoder.ckpt", weights_only=True)
    assert state["step"] == 12
    assert set(state["ema"]) == set(make_tiny_decoder.PARTS)


def test_a_copy_gets_the_parts_and_the_original_stays():
    torch.manual_seed(0)
    vae, other = AutoencoderKL(**VAE_CONFIG), AutoencoderKL(**VAE_CONFIG)
    whole = make_tiny_decoder.with_decoder(vae, {"decoder": other.decoder.state_dict()})
    assert torch.equal(whole.decoder.conv_in.weight, other.decoder.conv_in.weight)
    assert torch.equal(whole.encoder.conv_in.weight, vae.encoder.conv_in.weight)
    assert not torch.equal(vae.decoder.conv_in.weight, other.decoder.conv_in.weight)


def test_the_error_is_psnr_up_to_a_factor():
    images = torch.rand(3, 3, 8, 8) * 0.7
    decoded = images + torch.tensor([0.1, 0.2, 0.05]).view(3, 1, 1, 1)
    in_db = -10 / np.log(10) * make_tiny_decoder.log_error(decoded, images)
    assert in_db.item() == pytest.approx(psnr(decoded, images).mean().item(), abs=0.02)
