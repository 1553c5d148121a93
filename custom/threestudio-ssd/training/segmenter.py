"""The embedded text-prompted segmenter of the toy world: a small CLIPSeg that starts from tiny-clip."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..toyworld.captions import MAX_TOKENS, SYNONYMS
from ..toyworld.instructions import random_other
from ..toyworld.tokenizer import build_tokenizer
from ..toyworld.vocabulary import ATTRIBUTES, TIME_LIGHT, TIMES, Attributes
from .augment import damage, mirror, shift
from .clip import IMAGE_SETTINGS, IMAGE_SIZE, clip_settings, normalise_pixels
from .loop import Recipe, Worker, fit, numpy_generator
from .publish import save_and_reload, write_readme
from .scenes import ToyData, evenly_spread, load_toy_data

RECIPE = Recipe(
    steps=900, batch_size=48, learning_rate=8e-4, seed=0, weight_decay=0.02, warm_up_steps=100, ema_decay=0.995
)
NUM_FIGURE_IMAGES = 600
LEAST_SHARE = 0.005
"""A mask of less than this share of the image counts as empty."""
PHRASES_PER_IMAGE = 3
SKY_TOLERANCE = 16
"""A pixel this near to the sky's colour (Euclidean, 0-255) and not on the object is sky."""

GROUND_WORDS, SKY_WORDS, ALL_WORDS = ("ground", "floor"), ("sky",), ("background",)
OBJECT_WORDS = ("object", "thing")
ABOUT = """
Finds what a text names in an image of the toy world: an object ('the red ball', 'the object'), the ground
('grass', 'the ground'), the sky, the background; or nothing. It knows no other world.

Origin: trained by `custom/threestudio-ssd/training/segmenter.py` on renders of the toy world alone
(`training/scenes.py`), starting from `tiny-clip`. Licence: Apache-2.0, as the repository.
Loads by `CLIPSegForImageSegmentation.from_pretrained` and `CLIPTokenizer.from_pretrained`; images are
64x64, normalised with OpenAI's mean and deviation; a logit above 0 is found.
"""
METHOD = f"""{PHRASES_PER_IMAGE} phrases for each render; cross-entropy per pixel plus
Dice; about a fifth of the phrases name something that is not there. Object masks come from the renderer;
the sky is what is within {SKY_TOLERANCE} of the sky's colour (0-255), the ground is the rest."""


class Phrase(NamedTuple):
    """A text and what it means in a toy image: ``object``, ``ground``, ``sky``, ``background`` or ``nothing``."""

    text: str
    part: str


def part_masks(data: ToyData, rows: Tensor) -> dict[str, Bool[Tensor, "b h w"]]:
    """Where each part is visible; the sky is told from the ground by its one colour."""
    skies = torch.tensor([TIME_LIGHT[time].sky_rgb for time in TIMES]) * 255
    is_object = data.object_masks[rows]
    sky = skies[data.labels[rows, list(ATTRIBUTES).index("time")]][:, :, None, None]
    is_sky = ((data.images[rows].float() - sky).norm(dim=1) < SKY_TOLERANCE) & ~is_object
    return {
        "object": is_object, "sky": is_sky, "ground": ~is_object & ~is_sky, "background": ~is_object,
        "nothing": torch.zeros_like(is_object),
    }  # fmt: skip


def object_words(attributes: Attributes, rng: np.random.Generator) -> str:
    """The object in words: its name or "object", with or without colour and pattern."""
    names = SYNONYMS.get(attributes.object, (attributes.object,))
    name = OBJECT_WORDS[rng.integers(2)] if rng.uniform() < 0.15 else names[rng.integers(len(names))]
    color = attributes.color if rng.uniform() < 0.5 else ""
    pattern = attributes.pattern if rng.uniform() < 0.25 else ""
    return " ".join(word for word in (color, pattern, name) if word)


def random_phrase(attributes: Attributes, rng: np.random.Generator) -> Phrase:
    """A phrase that a user might type for a mask, right or wrong about the scene."""
    article = ("", "the ", "a ")[rng.integers(3)]
    kind = rng.uniform()
    if kind < 0.42:
        return Phrase(article + object_words(attributes, rng), "object")
    if kind < 0.62:
        words = (attributes.ground, *GROUND_WORDS)
        return Phrase(article + words[rng.integers(len(words))], "ground")
    if kind < 0.72:
        return Phrase(article + SKY_WORDS[0], "sky")
    if kind < 0.77:
        return Phrase(article + ALL_WORDS[0], "background")
    name = ("object", "color", "ground", "pattern")[rng.choice(4, p=(0.5, 0.25, 0.2, 0.05))]
    wrong = attributes._replace(**{name: random_other(name, getattr(attributes, name), rng)})
    if name == "ground":
        return Phrase(article + wrong.ground, "nothing")
    words = [wrong.color if name == "color" or rng.uniform() < 0.3 else "", wrong.pattern if name == "pattern" else ""]
    names = SYNONYMS.get(wrong.object, (wrong.object,))
    return Phrase(article + " ".join(word for word in (*words, names[rng.integers(len(names))]) if word), "nothing")


def decode(network: Any, images: Float[Tensor, "b 3 h w"], tokens: Mapping, repeats: int) -> Float[Tensor, "m h w"]:
    """Logits of ``repeats`` phrases for each image, with gradient (the library's forward holds the towers fixed)."""
    towers = network.clip
    states = towers.vision_model(pixel_values=normalise_pixels(images), output_hidden_states=True).hidden_states
    activations = [states[layer + 1].repeat_interleave(repeats, 0) for layer in network.extract_layers]
    condition = towers.get_text_features(**tokens).pooler_output
    return network.decoder(activations, condition).logits


def seg_loss(network: Any, data: ToyData, tokenizer, batch_size: int, generator: torch.Generator) -> Float[Tensor, ""]:
    """Cross-entropy per pixel plus, where there is something to find, the Dice loss."""
    rows, rng = data.draw(batch_size, generator), numpy_generator(generator)
    masks = part_masks(data, rows)
    chosen = [
        [random_phrase(Attributes.from_labels(labels), rng) for _ in range(PHRASES_PER_IMAGE)]
        for labels in data.labels[rows].tolist()
    ]
    wanted = torch.stack([
        torch.stack([masks[phrase.part][row] for phrase in phrases]) for row, phrases in enumerate(chosen)
    ])  # fmt: skip
    stack = torch.cat([data.unit_images(rows), wanted.float()], 1)
    stack = mirror(shift(stack, generator), generator)
    images, wanted = damage(stack[:, :3], generator), stack[:, 3:].flatten(0, 1)
    texts = [phrase.text for phrases in chosen for phrase in phrases]
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    logits = decode(network, images, tokens, PHRASES_PER_IMAGE)
    probabilities = logits.sigmoid()
    overlap = (probabilities * wanted).sum((1, 2))
    dice = 1 - (2 * overlap + 1) / (probabilities.sum((1, 2)) + wanted.sum((1, 2)) + 1)
    is_there = (wanted.sum((1, 2)) > 0).float()
    return binary_cross_entropy_with_logits(logits, wanted) + 0.5 * (dice * is_there).sum() / is_there.sum()


@torch.no_grad()
def held_out_figures(network: Any, tokenizer, data: ToyData) -> dict[str, float]:
    """Intersection over union per kind of phrase, and how often an absent thing is rightly not found."""
    rng = np.random.default_rng(0)
    rows = evenly_spread(NUM_FIGURE_IMAGES, len(data))
    attributes = [Attributes.from_labels(labels) for labels in data.labels[rows].tolist()]
    questions = {
        "object by name ('the ball')": ("object", [f"the {a.object}" for a in attributes]),
        "object by colour and name ('the red ball')": ("object", [f"the {a.color} {a.object}" for a in attributes]),
        "'the object'": ("object", ["the object"] * len(rows)),
        "ground by name ('grass')": ("ground", [a.ground for a in attributes]),
        "'the ground'": ("ground", ["the ground"] * len(rows)),
        "'sky'": ("sky", ["sky"] * len(rows)),
        "another object": ("nothing", [f"the {random_other('object', a.object, rng)}" for a in attributes]),
        "the right object in another colour": (
            "nothing", [f"the {random_other('color', a.color, rng)} {a.object}" for a in attributes],
        ),
        "another ground": ("nothing", [random_other("ground", a.ground, rng) for a in attributes]),
    }  # fmt: skip
    masks = part_masks(data, rows)
    figures = {}
    for name, (part, texts) in questions.items():
        predicted = _predicted_masks(network, tokenizer, data.unit_images(rows), texts)
        if part == "nothing":
            is_empty = predicted.float().mean((1, 2)) < LEAST_SHARE
            figures[f"{name}: rightly empty (under 0.5 % of the image)"] = is_empty.float().mean().item()
            continue
        wanted = masks[part]
        is_there = wanted.float().mean((1, 2)) > LEAST_SHARE
        union = (predicted | wanted).sum((1, 2)).clamp_min(1)
        figures[f"{name}: IoU"] = ((predicted & wanted).sum((1, 2)) / union)[is_there].mean().item()
    return figures


def _predicted_masks(
    network: Any, tokenizer, images: Float[Tensor, "b 3 h w"], texts: list[str]
) -> Bool[Tensor, "b h w"]:
    parts = []
    for start in range(0, len(texts), 100):
        rows = slice(start, start + 100)
        tokens = tokenizer(texts[rows], padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
        logits = network(pixel_values=normalise_pixels(images[rows]), **tokens).logits
        parts.append(logits.reshape(-1, IMAGE_SIZE, IMAGE_SIZE) > 0)
    return torch.cat(parts)


def start_network(clip_folder: Path, tokenizer) -> Any:
    """A CLIPSeg whose towers are tiny-clip's and whose decoder is new."""
    from transformers import CLIPModel, CLIPSegConfig, CLIPSegForImageSegmentation

    config = CLIPSegConfig(
        **clip_settings(tokenizer), extract_layers=[0, 1, 2, 3], reduce_dim=64, decoder_num_attention_heads=4,
        decoder_intermediate_size=256,
    )  # fmt: skip
    network = CLIPSegForImageSegmentation._from_config(config, attn_implementation="eager")
    for module in network.decoder.modules():  # the library leaves these at deviations near 1, and nothing is learned
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            module.reset_parameters()
    network.clip.load_state_dict(CLIPModel.from_pretrained(clip_folder).float().state_dict())
    return network


def train(
    worker: Worker, data_folder: Path, output: Path, work: Path, recipe: Recipe = RECIPE, *, clip_folder: Path
) -> dict[str, float]:
    """Train a CLIPSeg that ``CLIPSegForImageSegmentation.from_pretrained`` reads; the rest as in ``classifier.train``.

    Args:
        clip_folder: The CLIP to start from, made by ``clip.train``.

    Returns:
        The held-out figures, shares in [0, 1].
    """
    data, held_out = (load_toy_data(data_folder, is_held_out=each, only_objects=True) for each in (False, True))
    tokenizer = build_tokenizer(work)
    torch.manual_seed(recipe.seed)
    network = start_network(clip_folder, tokenizer)
    training = fit(
        {"network": network}, lambda step, generator: seg_loss(network, data, tokenizer, recipe.batch_size, generator),
        recipe, work / "last.pt", worker, report_every=50,
    )  # fmt: skip
    network = save_and_reload(training.average["network"], tokenizer, output, **IMAGE_SETTINGS)
    figures = held_out_figures(network, tokenizer, held_out)
    num_used = min(NUM_FIGURE_IMAGES, len(held_out))
    heading = f"On renders of scenes that were not trained on ({num_used} of {len(held_out)}):"
    how = f"{len(data)} renders, {recipe.describe()},\n{training.seconds / 60:.1f} min of one core. {METHOD}"
    write_readme(output, "tiny-seg", ABOUT, how, heading, figures)
    worker.info(f"held-out figures: {figures}")
    return figures
