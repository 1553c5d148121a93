"""Trains embedded models one after the other, each in as many processes as it can use; resumable."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import threestudio

from .loop import Worker, run_workers

JUDGES = ("tiny-classifier", "tiny-clip", "tiny-seg")
"""In the order in which one starts from another."""


def make_models(cfg: Any) -> None:
    """Train the text-to-image model: data, autoencoder, U-Net with text encoder, decoder; then the judges, if wanted.

    Each goes on where it was interrupted; data and checkpoints are in ``work``, the finished model goes to ``out``.

    Args:
        cfg: Keys of ``--run make-tiny-models``.
    """
    from . import decoder, scenes, start, unet, vae

    work, out, run = Path(cfg.work), Path(cfg.out), partial(run_workers, cfg.num_processes)
    data, start_folder = work / "data", Path(cfg.start) if cfg.start else None
    recipe = unet.RECIPE if start_folder else unet.RECIPE_FROM_RANDOM
    recipe = replace(recipe.with_steps(cfg.unet_steps), batch_size=cfg.unet_batch)
    if start_folder:
        threestudio.info(f"The training starts from {start_folder} ({start.checksum(start_folder)}).")
    run(scenes.write_scene_shards, data, cfg.num_shards, cfg.scenes_a_shard)
    if start_folder:
        start.copy_autoencoder(start_folder, work)
        threestudio.info(f"The autoencoder is that of {start_folder}; its training is skipped.")
    else:
        run(vae.train, data, Path(cfg.photos), work, vae.RECIPE.with_steps(cfg.vae_steps))
    run(unet.train, data, work, recipe, start_folder)
    if not start_folder:
        run(decoder.train, data, work, decoder.RECIPE.with_steps(cfg.decoder_steps))
    unet.save(work, out, vae.load_vae(work / "vae") if start_folder else decoder.load(work))
    threestudio.info(f"The embedded model is in {out}.")
    for name in JUDGES if cfg.judges else ():
        make_judge(name, data, out.with_name(name), work / name, steps=cfg.judge_steps)


def make_ip2p(cfg: Any) -> None:
    """Train the InstructPix2Pix: pairs, the light field, then the widened U-Net.

    Args:
        cfg: Keys of ``--run make-tiny-ip2p``.
    """
    from . import ip2p, pairs

    base, work, run = Path(cfg.base), Path(cfg.work) / "tiny-ip2p", partial(run_workers, cfg.num_processes)
    recipe = replace(ip2p.RECIPE.with_steps(cfg.steps), batch_size=cfg.batch, seed=cfg.seed or ip2p.RECIPE.seed)
    field_recipe = replace(ip2p.FIELD_RECIPE.with_steps(cfg.field_steps), seed=recipe.seed + 1)
    begins_field = cfg.new_field or not (base / ip2p.RAY_MAP).is_file()
    own_recipe = field_recipe if cfg.field_steps or begins_field else None
    run(pairs.write_pair_shards, work / "pairs", cfg.num_shards, cfg.scenes_a_shard)
    run(partial(ip2p.train, has_new_field=cfg.new_field), work / "pairs", base, work, recipe, own_recipe)
    ip2p.save(base, work, Path(cfg.out))
    threestudio.info(f"The embedded InstructPix2Pix is in {cfg.out}.")


def make_lcm(cfg: Any) -> None:
    """Distil the few-step sibling: renders, the teacher's paths, then the LoRA.

    Args:
        cfg: Keys of ``--run make-tiny-lcm``.
    """
    from . import consistency, scenes

    base, work, run = Path(cfg.base), Path(cfg.work), partial(run_workers, cfg.num_processes)
    recipe, own = replace(consistency.RECIPE.with_steps(cfg.steps), batch_size=cfg.batch), work / "tiny-lcm"
    run(scenes.write_scene_shards, work / "data", cfg.num_shards, cfg.scenes_a_shard)
    run(consistency.write_solutions, work / "data", base, own, cfg.num_rounds)
    run(consistency.train, base, own, recipe)
    consistency.save(base, own, Path(cfg.out))
    threestudio.info(f"The LoRA is in {cfg.out}.")


def make_views(cfg: Any) -> None:
    """Train the view adapter: renders of several views a scene, then the adapter beside the frozen U-Net.

    Args:
        cfg: Keys of ``--run make-tiny-views``.
    """
    from . import view_adapter, view_groups

    base, work, run = Path(cfg.base), Path(cfg.work) / "tiny-views", partial(run_workers, cfg.num_processes)
    recipe = replace(view_adapter.RECIPE.with_steps(cfg.steps), batch_size=cfg.batch)
    run(view_groups.write_view_group_shards, work / "views", cfg.num_shards, cfg.scenes_a_shard)
    run(view_adapter.train, work / "views", base, work, recipe, Path(cfg.start) if cfg.start else None)
    view_adapter.save(base, work, Path(cfg.out))
    threestudio.info(f"The view adapter is in {cfg.out}.")


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
