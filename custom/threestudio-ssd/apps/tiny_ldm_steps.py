"""The steps of training the embedded diffusion model, one function per step, each run by several processes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

from . import make_tiny_decoder, make_tiny_unet, make_tiny_vae
from .make_toy_data import write_scene_shards
from .training import Worker, load_shards, start_worker


def data_step(rank: int, count: int, meeting: Path, cfg: dict) -> None:
    """Render the shards that are missing."""
    torch.set_num_threads(1)
    write_scene_shards(Worker(rank, count), Path(cfg["work"]) / "data", cfg["num_shards"], cfg["scenes_a_shard"])


def vae_step(rank: int, count: int, meeting: Path, cfg: dict) -> None:
    """Train the autoencoder and finish it."""
    work = Path(cfg["work"])
    worker = start_worker(rank, count, meeting)
    make_tiny_vae.train(worker, work / "data", Path(cfg["photos"]), work, cfg["vae_steps"])
    if worker.is_first:
        finish_vae(work)


def unet_step(rank: int, count: int, meeting: Path, cfg: dict) -> None:
    """Train U-Net and text encoder on the finished autoencoder's latents."""
    work = Path(cfg["work"])
    worker = start_worker(rank, count, meeting)
    vae = AutoencoderKL.from_pretrained(work / "vae").requires_grad_(False).eval()
    make_tiny_unet.train(worker, work / "data", vae, work, cfg["unet_steps"])


def decoder_step(rank: int, count: int, meeting: Path, cfg: dict) -> None:
    """Sharpen the decoder; latents stay as they are."""
    work = Path(cfg["work"])
    worker = start_worker(rank, count, meeting)
    vae = AutoencoderKL.from_pretrained(work / "vae")
    make_tiny_decoder.train(worker, work / "data", vae, work, cfg["decoder_steps"])


def finish_vae(work: Path) -> AutoencoderKL:
    """The averaged autoencoder with the scaling factor that gives its latents unit variance, in ``work/vae``."""
    vae = AutoencoderKL(**make_tiny_vae.VAE_CONFIG)
    vae.load_state_dict(torch.load(work / "vae.ckpt", weights_only=True)["ema"]["vae"])
    (images,) = load_shards(work / "data", ("images",), held_out=False)
    pick = np.linspace(0, len(images) - 1, 1024).astype(int)
    means, _ = make_tiny_unet.encode_renders(Worker(0, 1), vae, images[pick])
    vae.register_to_config(scaling_factor=round(1 / float(means.float().std()), 4))
    vae.save_pretrained(work / "vae")
    return vae


def save_pipeline(work: Path, out: Path) -> None:
    """The whole model in diffusers layout, float16; ``StableDiffusionPipeline.from_pretrained`` reads it."""
    state = torch.load(work / "unet.ckpt", weights_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    unet = UNet2DConditionModel(**make_tiny_unet.UNET_CONFIG)
    unet.load_state_dict(state["ema"]["unet"])
    text_encoder = make_tiny_unet.make_text_encoder(tokenizer)
    text_encoder.load_state_dict(state["ema"]["text_encoder"])
    decoder = torch.load(work / "decoder.ckpt", weights_only=True)["ema"]
    vae = make_tiny_decoder.with_decoder(AutoencoderKL.from_pretrained(work / "vae"), decoder)
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet,
        scheduler=make_tiny_unet.make_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)  # fmt: skip
    save_model(pipeline, out)


def save_model(pipeline: DiffusionPipeline, out: Path, readme: Callable[[Path], str] | None = None) -> None:
    """Put a whole model in diffusers layout in the place of what was there.

    Args:
        pipeline: The model.
        out: Its folder; pages and pictures (``*.md``, ``*.png``) that are there already stay.
        readme: Writes the text of ``README.md`` from the folder of the weights; None: there is no new one.
    """
    staging = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    pipeline.save_pretrained(staging, safe_serialization=True)
    for config in staging.glob("*/config.json"):
        _forget_origin(config)
    for kept in [*out.glob("*.md"), *out.glob("*.png")]:
        shutil.copy(kept, staging / kept.name)
    if readme is not None:
        (staging / "README.md").write_text(readme(staging), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    staging.rename(out)


def _forget_origin(config: Path) -> None:
    """Take the path of the folder that a part was read from out of its saved config."""
    keys = json.loads(config.read_text())
    if keys.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(keys, indent=2) + "\n")
