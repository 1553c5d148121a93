"""The embedded InstructPix2Pix: the embedded U-Net with twice the input channels, fine-tuned on toy pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity
from transformers import CLIPTokenizer

from ..cameras import Cameras
from ..cameras.rays import ObjectFrame, ObjectViews
from ..diffusion.beside import load_beside, save_beside
from ..diffusion.light_field import grid_of_rays
from ..diffusion.ray_map import RayMap
from ..toyworld.captions import VIEW_SHARE, parse_caption
from ..toyworld.instructions import random_instruction
from ..toyworld.tokenizer import token_ids
from ..toyworld.vocabulary import ATTRIBUTES, Attributes
from ..toyworld.world import object_size
from . import start
from .loop import Recipe, Training, Worker, fit, load_average, numpy_generator
from .pairs import Pairs, load_pairs, sun_of_pair
from .precision import mixed_precision, quick_to_train
from .publish import save_pipeline, write_readme
from .unet import (
    UNET_CONFIG,
    Sample,
    cached_posteriors,
    caption_of,
    center_weights,
    draw_latents,
    held_out_words,
    make_scheduler,
    training_timesteps,
    velocity_loss,
)

RECIPE = Recipe(
    steps=4200, batch_size=16, learning_rate=5e-4, seed=13, weight_decay=1e-2, warm_up_steps=200, hold_share=0.3,
    ema_decay=0.999,
)  # fmt: skip
FIELD_RECIPE = Recipe(
    steps=4000, batch_size=32, learning_rate=3e-3, seed=14, weight_decay=1e-2, warm_up_steps=100, hold_share=0.3,
    ema_decay=0.998,
)  # fmt: skip
"""For the light field of a map of rays, which costs a fraction of a step of the U-Net."""
LIGHT_BATCH = 96
"""Further views a step from which the field learns where the light comes from, which costs next to nothing."""
LIGHT_WEIGHT = 0.2
"""Of the squared error of the light's direction in a field's loss."""
LIGHT_JITTER = 0.05
"""What a field is told of the light is off by so much, a standard deviation: in an edit it has to be found."""
HELD_OUT_BATCHES, HELD_OUT_FIELDS = 4, 512
ABOUT = """
InstructPix2Pix of the toy world, 64 px: edits an image by an instruction ("make it blue", "put it on snow") or a
caption of what should be there ("a blue ball on grass seen high"). Beside it, in `ray_map.safetensors`, lies what it
knows of cameras, named by `system.editing.consistency.name=ray-map`; it works without.

Origin: `data/tiny-ldm` with twice the input channels, fine-tuned by `custom/threestudio-ssd/training/ip2p.py`
on pairs of toy scenes that differ in one attribute at most. Licence: Apache-2.0.
"""
METHOD = (
    "velocity prediction; instruction, image or both are left out of 5 % of samples each,\n"
    "the rays of 10 %; most samples are of new objects, and of much noise;"
)
RAY_MAP = "ray_map.safetensors"
"""File beside the model's parts."""
FIELD = "field.ckpt"
"""Checkpoint of a map's light field alone."""
INSTRUCTION_SHARE = 0.5
"""Share of the texts that are instructions, of pairs that can have one; the others are captions of the target."""
OBJECT_SHARE = 0.7
"""Share of the samples that are drawn from the pairs with a new object alone; the others are drawn from all."""
TIMES = ((0.25, (0.1, 0.65)), (0.3, (0.5, 0.9)), (0.4, (0.85, 1.0)))
"""As ``unet.TIMES``: source, text and rays leave little open, so most is decided where nothing but noise is seen."""
RAYS_SHARE = 0.9
"""Share of the samples that are told from where exactly the new object is seen."""
FOOT_JITTER, UNIT, UNIT_JITTER = 0.01, 5.45, 0.015
"""The frame of an object has its foot in the origin and this unit, about the distance of a capture's cameras from it,
times the object's size, so that all of a kind are of one size in it; give or take so much (world units, a standard
deviation, and a share): nobody knows either exactly."""
DROP_TEXT, DROP_IMAGE, DROP_BOTH = 0.05, 0.05, 0.05
"""Shares of samples without instruction, without source image, without either (Brooks et al. 2023, section 3.2.1)."""


def load_base(folder: Path) -> Any:
    """The parts of the model that is fine-tuned as a ``StableDiffusionPipeline``, in single precision."""
    return StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)


def widened(unet: Any) -> Any:
    """The same network with as many input channels again, for the source's latents; their weights start at zero.

    Its predictions are those of the original, whatever the new channels hold (Brooks et al. 2023, section 3.2). One
    that has these channels stays as it is.
    """
    if unet.config.in_channels == 2 * unet.config.out_channels:
        return quick_to_train(unet)
    wide: Any = UNet2DConditionModel.from_config({**unet.config, "in_channels": 2 * unet.config.in_channels})
    state = unet.state_dict()
    weight = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([weight, torch.zeros_like(weight)], dim=1)
    wide.load_state_dict(state)
    return quick_to_train(wide)


def started_ray_map(unet: Any, base: Path, *, has_new_field: bool = False) -> RayMap:
    """That of the model which is trained on, if it has one; else a new one.

    Args:
        unet: The widened network.
        base: Folder of the model.
        has_new_field: Whether its light field is a new one, which may be of other shapes than the model's.
    """
    path, ray_map = base / RAY_MAP, RayMap(unet)
    if path.is_file() and has_new_field:
        kept = {name: weight for name, weight in load_file(path).items() if not name.startswith("field.")}
        ray_map.load_state_dict({**ray_map.state_dict(), **kept})
    elif path.is_file():
        load_beside(ray_map, path, unet, "run.base")
    return ray_map.requires_grad_(True)


class PairBatches:
    """Latents of targets, conditions of sources, texts.

    Args:
        pairs: The scenes.
        targets: Posterior means and standard deviations of the targets, unscaled.
        conditions: Posterior means of the sources, unscaled, as the condition is.
        scale: The autoencoder's scaling factor.
        tokenizer: Of the captions.
    """

    def __init__(
        self, pairs: Pairs, targets: tuple[Tensor, Tensor], conditions: Tensor, scale: float, tokenizer: CLIPTokenizer
    ) -> None:
        self.pairs, self.targets, self.conditions = pairs, targets, conditions
        self.scale, self.tokenizer = scale, tokenizer
        place = list(ATTRIBUTES).index("object")
        is_new = pairs.labels[:, place] != pairs.source_labels[:, place]
        self.new_objects = (is_new | ~is_new.any()).nonzero()[:, 0]

    def batch(self, size: int, generator: torch.Generator, *, is_whole: bool = False) -> Sample:
        """Target latents drawn from their posteriors, token ids, source latents, rays, where the new object is.

        A few texts and sources are left out, unless ``is_whole``.
        """
        rows, rng = self.pairs.draw(size, generator), numpy_generator(generator)
        is_chosen = torch.rand(size, generator=generator) < OBJECT_SHARE
        rows = torch.where(is_chosen, self.new_objects[rows % len(self.new_objects)], rows)
        latents = draw_latents(self.targets, rows, generator) * self.scale
        has_text, has_image = what_is_given(rng, size)
        has_text, has_image = has_text | is_whole, has_image | is_whole
        texts = [
            text_of(self.pairs, row, rng) if is_given else ""
            for row, is_given in zip(rows.tolist(), has_text, strict=True)
        ]
        conditions = self.conditions[rows].float() * torch.from_numpy(has_image).view(-1, 1, 1, 1)
        is_told = torch.from_numpy(rng.uniform(size=size) < RAYS_SHARE).float()
        sizes = torch.tensor([object_size(seed) for seed in self.pairs.seeds[rows].tolist()])
        rays = rays_of(self.pairs.cameras(rows), sizes, rng, self._cells)
        covered = self.pairs.shares[rows, None].float() / 255
        light = self._suns(rows) + torch.from_numpy(rng.normal(0, LIGHT_JITTER, (size, 3))).float()
        return Sample(latents, token_ids(self.tokenizer, texts), conditions, rays, is_told, covered, light)

    def lit(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Rays (b 8 rh rw), source latents (b c h w), and where the light comes from (b 3)."""
        rows, rng = self.pairs.draw(size, generator), numpy_generator(generator)
        rays = rays_of(self.pairs.cameras(rows), torch.ones(size), rng, self._cells)
        return rays, self.conditions[rows].float(), self._suns(rows)

    @property
    def _cells(self) -> tuple[int, int]:
        height, width = self.conditions.shape[-2:]
        return height, width

    def _suns(self, rows: Tensor) -> Float[Tensor, "b 3"]:
        return torch.from_numpy(np.stack([sun_of_pair(seed) for seed in self.pairs.seeds[rows].tolist()])).float()


def rays_of(
    cameras: Cameras, sizes: Float[Tensor, "b"], rng: np.random.Generator, size: tuple[int, int]
) -> Float[Tensor, "b 8 rh rw"]:
    """``ObjectViews.passing`` of cameras, each of an object that stands near the origin, as a light field takes them.

    Args:
        cameras: In the frame of the object.
        sizes: Of the objects, 1: as usual.
        rng: Random numbers.
        size: Rows and columns of cells.
    """
    feet = torch.from_numpy(rng.normal(0, FOOT_JITTER, (len(cameras), 3))).float()
    units = torch.from_numpy(rng.uniform(1 - UNIT_JITTER, 1 + UNIT_JITTER, len(cameras))).float() * sizes * UNIT
    viewmats = cameras.viewmats.clone()
    viewmats[:, :3, 3] += (viewmats[:, :3, :3] @ feet[..., None])[..., 0]
    viewmats[:, :3, 3] /= units[:, None]
    views = ObjectViews(replace(cameras, viewmats=viewmats), ObjectFrame(torch.eye(3), torch.zeros(3), 1.0))
    return views.passing(grid_of_rays(size))


def text_of(pairs: Pairs, row: int, rng: np.random.Generator) -> str:
    """What to tell the model for a pair: an instruction, or a caption of what should be there.

    Where the new object looks elsewhere than the old one, it is a caption that says the side. A caption names what
    changes; plain and by day go without saying, as everywhere.
    """
    source, target = (Attributes.from_labels(each[row].tolist()) for each in (pairs.source_labels, pairs.labels))
    changed = [name for name in ATTRIBUTES if getattr(source, name) != getattr(target, name)]
    is_turned = bool(pairs.is_turned[row])
    if changed and not is_turned and rng.uniform() < INSTRUCTION_SHARE:
        return random_instruction(source, target, rng)
    while True:
        caption = caption_of(pairs, row, True, rng, view_share=1.0 if is_turned else VIEW_SHARE)
        said = parse_caption(caption)
        if all(said.get(name) == getattr(target, name) for name in changed if name in ("color", "ground")):
            return caption


def what_is_given(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which samples keep their instruction, and which their image, so that guidance has its unconditional states."""
    kind = np.digitize(rng.uniform(size=size), np.cumsum([DROP_TEXT, DROP_IMAGE, DROP_BOTH]))
    return np.isin(kind, (1, 3)), np.isin(kind, (0, 3))


def field_loss(field: Any, text_encoder: Any, sample: Sample, place_weights: Tensor | float = 1.0) -> Float[Tensor, ""]:
    """How wrong a light field is of latents and of the object's outline; the text encoder learns nothing of it.

    The squared error of the target's latents, and the cross-entropy of how much of each pixel the object makes up.
    Where there is a view before the edit the field is told the light, as an edit finds it by all views.
    """
    assert sample.covered is not None
    assert sample.condition is not None
    assert sample.light is not None
    with mixed_precision():
        with torch.no_grad():
            embeds = text_encoder(sample.tokens).last_hidden_state
            guess = field.light_of(sample.rays, sample.condition)
        has_image = sample.condition.flatten(1).any(1, keepdim=True)
        seen = field(sample.rays, sample.condition, embeds, torch.where(has_image, sample.light, guess))
    of_latents = (place_weights * (seen.latents.float() - sample.latents).pow(2)).mean()
    return of_latents + binary_cross_entropy_with_logits(seen.covered.float(), sample.covered)


def light_loss(field: Any, batches: PairBatches, generator: torch.Generator) -> Float[Tensor, ""]:
    """How wrong a light field is of where the light comes from: the squared error on further views, weighted."""
    rays, sources, suns = batches.lit(LIGHT_BATCH, generator)
    return LIGHT_WEIGHT * (field.light_of(rays, sources) - suns).pow(2).mean()


@torch.no_grad()
def held_out_field(field: Any, text_encoder: Any, held_out: PairBatches, seed: int) -> str:
    """Mean ``field_loss`` of samples that are not trained on, and by how much it misses the light, in words."""
    generator = torch.Generator().manual_seed(seed)
    loss = float(field_loss(field, text_encoder, held_out.batch(HELD_OUT_FIELDS, generator, is_whole=True)))
    rays, sources, suns = held_out.lit(HELD_OUT_FIELDS, generator)
    miss = cosine_similarity(field.light_of(rays, sources), suns).clamp(-1, 1).acos().rad2deg().median()
    return f"held-out {loss:.5f}, light off by {float(miss):.1f} degrees"


def train_field(
    worker: Worker, field: nn.Module, text_encoder: Any, training: PairBatches, held_out: PairBatches, work: Path,
    recipe: Recipe,
) -> None:  # fmt: skip
    """Train the light field alone, in place; checkpoint and log are ``work/field.*``."""
    weights = center_weights(UNET_CONFIG["sample_size"])

    def loss(step: int, generator: torch.Generator) -> Tensor:
        of_light = light_loss(field, training, generator)
        return of_light + field_loss(field, text_encoder, training.batch(recipe.batch_size, generator), weights)

    def measure(average: dict[str, nn.Module]) -> str:
        return held_out_field(average["field"], text_encoder, held_out, recipe.seed)

    alone = fit({"field": field}, loss, recipe, work / FIELD, worker, report_every=250, measure=measure)
    field.load_state_dict(alone.average["field"].state_dict())


def train(
    worker: Worker, pairs_folder: Path, base: Path, work: Path, recipe: Recipe = RECIPE,
    field_recipe: Recipe | None = FIELD_RECIPE, *, has_new_field: bool = False,
) -> Training:  # fmt: skip
    """Fine-tune; checkpoints and logs are ``work/ip2p.*``, and ``work/field.*`` of the map's light field.

    Args:
        worker: This process.
        pairs_folder: What ``write_pair_shards`` wrote.
        base: Folder of the model to start from: a text-to-image model, or an InstructPix2Pix that is trained on.
        work: Where checkpoints and logs go.
        recipe: Steps and rates of the U-Net, its text encoder and the map.
        field_recipe: Those of the light field alone, which comes first; None: it begins as it is.
        has_new_field: See ``started_ray_map``.
    """
    pipeline = load_base(base)
    vae = pipeline.vae.requires_grad_(False).eval()

    def batches(is_held_out: bool) -> PairBatches:
        pairs = load_pairs(pairs_folder, is_held_out=is_held_out)
        conditions, _ = cached_posteriors(worker, vae, pairs.sources, pairs.seeds, work / f"sources-{is_held_out}.pt")
        targets = cached_posteriors(worker, vae, pairs.targets, pairs.seeds, work / f"targets-{is_held_out}.pt")
        return PairBatches(pairs, targets, conditions, vae.config.scaling_factor, pipeline.tokenizer)

    training, held_out = batches(False), batches(True)
    begun = start.checksum(base)
    weights, encoder = center_weights(UNET_CONFIG["sample_size"]), pipeline.text_encoder

    torch.manual_seed(recipe.seed)
    unet = widened(pipeline.unet)
    ray_map = started_ray_map(unet, base, has_new_field=has_new_field)
    if field_recipe:
        encoder.requires_grad_(False).eval()
        train_field(worker, ray_map.field, encoder, training, held_out, work, replace(field_recipe, start=begun))
    modules = {"unet": unet, "text_encoder": encoder, "ray_map": ray_map}
    for module in modules.values():
        module.requires_grad_(True)
    alphas = make_scheduler().alphas_cumprod

    def loss(step: int, generator: torch.Generator) -> Tensor:
        sample = training.batch(recipe.batch_size, generator)
        t = training_timesteps(numpy_generator(generator), recipe.batch_size, len(alphas), TIMES)
        noise = torch.randn(sample.latents.shape, generator=generator)
        drawn = velocity_loss(modules, alphas, sample, t, noise, weights)
        of_light = light_loss(ray_map.field, training, generator)
        return drawn + field_loss(ray_map.field, encoder, sample, weights) + of_light

    return fit(
        modules, loss, replace(recipe, start=begun), work / "ip2p.ckpt", worker, report_every=250,
        measure=held_out_words(alphas, held_out.batch, HELD_OUT_BATCHES, recipe.seed),
    )  # fmt: skip


def save(base: Path, work: Path, out: Path) -> None:
    """The whole model in diffusers layout, float16, as ``StableDiffusionInstructPix2PixPipeline`` reads it."""
    pipeline = load_base(base)
    unet = widened(pipeline.unet)
    modules = {"unet": unet, "text_encoder": pipeline.text_encoder, "ray_map": RayMap(unet)}
    recipe, seconds = load_average(work / "ip2p.ckpt", modules)
    ray_map = modules.pop("ray_map")
    parts = {**modules, "vae": pipeline.vae, "tokenizer": pipeline.tokenizer, "scheduler": pipeline.scheduler}
    begun = f"trained on from `{base.name}` {recipe.start};"
    how = f"{recipe.describe()};\n{begun}\n{METHOD}\n{seconds / 60:.0f} min of training."
    if (work / FIELD).is_file():
        of_field, seconds = load_average(work / FIELD, {})
        how += f" Before it, for the light field of the map of rays:\n{of_field.describe()},\n{seconds / 60:.0f} min."

    def finish(folder: Path) -> None:
        save_beside(ray_map, folder / RAY_MAP, unet)
        write_readme(folder, "tiny-ip2p", ABOUT, how)

    save_pipeline(StableDiffusionInstructPix2PixPipeline, out, finish, **parts)
