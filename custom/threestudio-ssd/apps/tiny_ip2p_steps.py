"""The steps of training the embedded InstructPix2Pix: pairs, the widened U-Net, the model's folder."""

from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from ..toyworld.instructions import random_instruction
from ..toyworld.tokenizer import token_ids
from ..toyworld.vocabulary import Attributes
from .make_tiny_unet import (
    Sample,
    encode_renders,
    held_out_loss,
    make_scheduler,
    stratified_timesteps,
    velocity_loss,
)
from .tiny_ldm_steps import save_model
from .tiny_training import weights_table
from .toy_pairs import write_pair_shards
from .training import Trainer, Worker, batch_rng, load_shards, start_worker

SEED = 13
HELD_OUT_BATCHES = 4
DROP_TEXT, DROP_PICTURE, DROP_BOTH = 0.05, 0.05, 0.05
"""Shares of samples without instruction, without source picture, without either (Brooks et al. 2023, section 3.2.1)."""
FIELDS = ("sources", "targets", "source_attributes", "target_attributes")


def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same network with as many input channels again, for the source's latents; their weights start at zero.

    Its predictions are those of the original, whatever the new channels hold (Brooks et al. 2023, section 3.2).
    """
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": 2 * unet.config.in_channels})
    state = unet.state_dict()
    weight = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([weight, torch.zeros_like(weight)], dim=1)
    wide.load_state_dict(state)
    return wide


class PairBatches:
    """Latents of targets, conditions of sources, instructions.

    Args:
        arrays: Of ``FIELDS``.
        latents: Posterior means and deviations of the targets, unscaled.
        conditions: Posterior means of the sources, unscaled, as the condition is.
        scale: The VAE's scaling factor.
        tokenizer: Of the captions.
    """

    def __init__(
        self, arrays: list[np.ndarray], latents: tuple[Tensor, Tensor], conditions: Tensor, scale: float, tokenizer
    ):
        self.arrays, self.latents, self.conditions = arrays, latents, conditions
        self.scale, self.tokenizer = scale, tokenizer

    def batch(self, rng: np.random.Generator, generator: torch.Generator, size: int) -> Sample:
        """Target latents drawn from their posteriors, token ids, source latents; some of the latter two left out."""
        _, _, source_labels, target_labels = self.arrays
        rows = rng.integers(len(source_labels), size=size)
        mean, deviation = (part[rows].float() for part in self.latents)
        latents = (mean + deviation * torch.randn(mean.shape, generator=generator)) * self.scale
        texts = []
        for row in rows:
            source, target = (Attributes.from_labels(labels[row]) for labels in (source_labels, target_labels))
            texts.append(random_instruction(source, target, rng))
        has_text, has_picture = what_is_given(rng, size)
        texts = [text if is_given else "" for text, is_given in zip(texts, has_text, strict=True)]
        conditions = self.conditions[rows].float() * torch.from_numpy(has_picture).view(-1, 1, 1, 1)
        return Sample(latents, token_ids(self.tokenizer, texts), conditions)


def what_is_given(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which samples keep their instruction, and which their picture, so that guidance has its unconditional states."""
    kind = np.digitize(rng.uniform(size=size), np.cumsum([DROP_TEXT, DROP_PICTURE, DROP_BOTH]))
    return np.isin(kind, (1, 3)), np.isin(kind, (0, 3))


def ip2p_step(rank: int, count: int, meeting: Path, cfg: dict) -> None:
    """Render pairs, then train; each process its part."""
    work, worker = Path(cfg["work"]) / "tiny-ip2p", start_worker(rank, count, meeting)
    write_pair_shards(worker, work / "pairs", cfg["num_shards"], cfg["pairs_a_shard"])
    if worker.count > 1:
        torch.distributed.barrier()
    train(worker, Path(cfg["base"]), work, cfg["steps"], cfg["batch"])


def train(worker: Worker, base: Path, work: Path, num_steps: int, batch: int) -> None:
    """Fine-tune and write ``work/ip2p.ckpt``; ``work/ip2p.log`` has a line every 250 steps."""
    pipeline = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32, safety_checker=None)
    vae = pipeline.vae.requires_grad_(False).eval()

    def batches(held_out: bool) -> PairBatches:
        arrays = load_shards(work / "pairs", FIELDS, held_out=held_out)
        latents, (conditions, _) = (encode_renders(worker, vae, images) for images in (arrays[1], arrays[0]))
        return PairBatches(arrays, latents, conditions, vae.config.scaling_factor, pipeline.tokenizer)

    training, held = batches(False), batches(True)
    torch.manual_seed(SEED)
    modules = {"unet": widened(pipeline.unet), "text_encoder": pipeline.text_encoder.train()}
    for module in modules.values():
        module.requires_grad_(True)
    trainer = Trainer(
        modules, worker, learning_rate=5e-4, num_steps=num_steps, ema_decay=0.999, checkpoint=work / "ip2p.ckpt",
        warm_up=200,
    )  # fmt: skip
    alphas, generator = make_scheduler().alphas_cumprod, torch.Generator()
    for step in trainer.steps():
        rng = batch_rng(SEED, step, worker.rank)
        generator.manual_seed(int(rng.integers(2**62)))
        sample = training.batch(rng, generator, batch)
        t = stratified_timesteps(rng, batch, len(alphas))
        noise = torch.randn(sample.latents.shape, generator=generator)
        trainer.update(velocity_loss(modules["unet"], modules["text_encoder"], alphas, sample, t, noise))
        if worker.is_first and step % 250 == 249:
            loss = held_out_loss(trainer, alphas, held.batch, HELD_OUT_BATCHES, SEED)
            with (work / "ip2p.log").open("a") as log:
                log.write(f"{step + 1} {trainer.seconds:.0f}s held-out {loss:.5f}\n")


def save_ip2p(base: Path, work: Path, out: Path) -> None:
    """The whole model in diffusers layout, float16, as ``StableDiffusionInstructPix2PixPipeline`` reads it."""
    state = torch.load(work / "ip2p.ckpt", weights_only=True)
    pipeline = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32, safety_checker=None)
    unet, text_encoder = widened(pipeline.unet), pipeline.text_encoder
    unet.load_state_dict(state["ema"]["unet"])
    text_encoder.load_state_dict(state["ema"]["text_encoder"])
    result = StableDiffusionInstructPix2PixPipeline(
        vae=pipeline.vae, text_encoder=text_encoder, tokenizer=pipeline.tokenizer, unet=unet,
        scheduler=pipeline.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).to(torch.float16)  # fmt: skip
    save_model(result, out, lambda folder: _readme(folder, state["step"], state["seconds"]))


def _readme(folder: Path, steps: int, seconds: float) -> str:
    parts = [part for part in sorted(folder.iterdir()) if any(part.glob("*.safetensors"))]
    weights = "\n".join(f"`{part.name}/`\n\n{weights_table(part)}\n" for part in parts)
    return f"""# tiny-ip2p

InstructPix2Pix of the toy world, 64 px: edits a picture by an instruction ("make it blue", "put it on snow").

Origin: `data/tiny-ldm` with twice the input channels, fine-tuned by `custom/threestudio-ssd/apps/tiny_ip2p_steps.py`
on pairs of toy scenes that differ in one attribute. Licence: Apache-2.0.

Recipe: {steps} steps, velocity prediction, AdamW 5e-4, EMA 0.999; instruction, picture or both are left out of 5 %
of samples each; {seconds / 60:.0f} min of training.

{weights}"""
