"""Trains embedded models one after the other, each in as many processes as it can use; resumable."""

from dataclasses import replace
from pathlib import Path

import torch

from .loop import Worker, run_workers

JUDGES = ("tiny-classifier", "tiny-clip", "tiny-seg")
"""In the order in which one starts from another."""


def make_models(
    work: Path, out: Path, photo_folder: Path, *, num_shards: int, scenes_a_shard: int, vae_steps: int,
    unet_steps: int, decoder_steps: int, num_processes: int,
) -> None:  # fmt: skip
    """Train the text-to-image model: data, autoencoder, U-Net with text encoder, decoder.

    Each goes on where it was interrupted; data and checkpoints are in ``work``, the finished model goes to ``out``.
    """
    from . import decoder, scenes, unet, vae

    data = work / "data"
    run_workers(num_processes, scenes.write_scene_shards, data, num_shards, scenes_a_shard)
    run_workers(num_processes, vae.train, data, photo_folder, work, vae.RECIPE.with_steps(vae_steps))
    run_workers(num_processes, unet.train, data, work, unet.RECIPE.with_steps(unet_steps))
    run_workers(num_processes, decoder.train, data, work, decoder.RECIPE.with_steps(decoder_steps))
    unet.save(work, out)


def make_ip2p(
    base: Path, work: Path, out: Path, *, num_shards: int, pairs_a_shard: int, steps: int, batch_size: int,
    num_processes: int,
) -> None:  # fmt: skip
    """Train the InstructPix2Pix: pairs, then the widened U-Net.

    Args:
        base: Folder of the text-to-image model that is fine-tuned.
        work: Folder of pairs and checkpoints.
        out: Where the finished model goes.
        num_shards: Shards of pairs.
        pairs_a_shard: Pairs in each.
        steps: Training steps.
        batch_size: Pairs a step and process.
        num_processes: Single-threaded processes that average their gradients.
    """
    from . import ip2p, pairs

    recipe = replace(ip2p.RECIPE, steps=steps, batch_size=batch_size)
    run_workers(num_processes, pairs.write_pair_shards, work / "pairs", num_shards, pairs_a_shard)
    run_workers(num_processes, ip2p.train, work / "pairs", base, work, recipe)
    ip2p.save(base, work, out)


def make_judge(name: str, data: Path, output: Path, work: Path, *, steps: int = 0, num_threads: int = 1) -> None:
    """Train one of ``JUDGES`` in this process.

    Args:
        name: Which.
        data: Folder that ``write_scene_shards`` filled.
        output: Folder of the trained model; the segmenter starts from the ``tiny-clip`` beside it.
        work: Folder of the resumable state.
        steps: Training steps; 0: the recipe's.
        num_threads: Processor threads.
    """
    from . import classifier, clip, segmenter

    model = {"tiny-classifier": classifier, "tiny-clip": clip, "tiny-seg": segmenter}[name]
    start = {"clip_folder": output.with_name("tiny-clip")} if name == "tiny-seg" else {}
    torch.set_num_threads(num_threads)
    torch.set_flush_denormal(True)  # a decaying average of weights is full of them, and they are slow
    try:
        model.train(Worker(), data, output, work, model.RECIPE.with_steps(steps), **start)
    finally:
        torch.set_flush_denormal(False)
