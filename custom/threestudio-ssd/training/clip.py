"""The embedded CLIP of the toy world, in the transformers format."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from ..metrics.clip_model import OPENAI_MEAN, OPENAI_STD
from ..metrics.regions import normalised
from ..toyworld.captions import MAX_TOKENS, describe, parse_caption, random_caption
from ..toyworld.instructions import random_change
from ..toyworld.tokenizer import build_tokenizer
from ..toyworld.vocabulary import ATTRIBUTES, Attributes
from .augment import damage, mirror, shift
from .loop import Recipe, Worker, fit, numpy_generator
from .publish import save_and_reload, write_readme
from .scenes import ToyData, load_toy_data

RECIPE = Recipe(
    steps=550, batch_size=96, learning_rate=1.2e-3, seed=0, weight_decay=0.05, warm_up_steps=100, ema_decay=0.995
)
IMAGE_SIZE, PATCH_SIZE, WIDTH, IMAGE_LAYERS, TEXT_LAYERS, HEADS = 64, 8, 128, 4, 2, 4
MAX_LOGIT_SCALE = 4.6
IMAGE_SETTINGS = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD, "size": IMAGE_SIZE}
"""What a reader of the model does to images."""
ABOUT = """
A CLIP of the toy world, for the metrics of the demo. **Its scores compare runs with each other only.**
They are not comparable with scores of OpenAI's CLIP in papers and mean nothing on real images.

Origin: trained from random weights by `custom/threestudio-ssd/training/clip.py` on renders and
captions of the toy world alone (`training/scenes.py`). Licence: Apache-2.0.
Loads by `CLIPModel.from_pretrained` and `CLIPTokenizer.from_pretrained`; images are 64x64 (larger ones are
resized bicubically with antialiasing), normalised with OpenAI's mean and deviation.
"""
METHOD = """Contrastive loss in which every caption that is true of an image counts
as right; each caption has a twin that differs in one attribute. Linear attribute heads on the image
features helped the training and are not kept. The attribute classifier had no part in it."""

HELD_OUT = """renders of scenes that were not trained on (zero-shot: among the captions of all 3840
scenes; retrieval: among different scenes):"""


def clip_settings(tokenizer) -> dict:
    """Settings of the two towers, as ``CLIPConfig`` and ``CLIPSegConfig`` both take them."""
    tower = {
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS, "hidden_act": "relu",
    }  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "num_hidden_layers": TEXT_LAYERS, "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    vision = {"num_hidden_layers": IMAGE_LAYERS, "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE}
    return {"text_config": tower | text, "vision_config": tower | vision, "projection_dim": WIDTH}


normalise_pixels = partial(normalised, mean=OPENAI_MEAN, std=OPENAI_STD)
"""What the image tower takes, from images in [0, 1]."""


class ClipInTraining(nn.Module):
    """The CLIP, and linear heads on its image features that read the attributes; the heads are thrown away."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip: Any = clip
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, len(words)) for name, words in ATTRIBUTES.items()})


def named_labels(captions: list[str]) -> Int[Tensor, "t 5"]:
    """Label of each attribute that a caption names, -1 where it is silent."""
    rows = []
    for caption in captions:
        said = parse_caption(caption)
        rows.append([words.index(said[name]) if name in said else -1 for name, words in ATTRIBUTES.items()])
    return torch.tensor(rows)


def is_true_of(labels: Int[Tensor, "b 5"], named: Int[Tensor, "t 5"]) -> Bool[Tensor, "b t"]:
    """Whether each caption is true of each image."""
    return ((named[None] == labels[:, None]) | (named[None] < 0)).all(-1)


def captions_and_twins(labels: Int[Tensor, "b 5"], rng: np.random.Generator) -> list[str]:
    """A caption of each image, then one for a scene that differs in one attribute."""
    scenes = [Attributes.from_labels(row) for row in labels.tolist()]
    twins = [random_change(scene, rng)[0] for scene in scenes]
    return [random_caption(scene, rng) for scene in (*scenes, *twins)]


def contrastive(
    features: Float[Tensor, "b d"], texts: Float[Tensor, "t d"], scale: Tensor, is_true: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """CLIP's symmetric loss, in which every caption that is true of an image counts as right."""
    logits = scale * features @ texts.T
    wanted = is_true.float()
    by_image = -(log_softmax(logits, 1) * wanted / wanted.sum(1, keepdim=True)).sum(1).mean()
    has_image = wanted.sum(0) > 0
    columns, wanted = logits.T[has_image], wanted.T[has_image]
    by_text = -(log_softmax(columns, 1) * wanted / wanted.sum(1, keepdim=True)).sum(1).mean()
    return (by_image + by_text) / 2


def clip_loss(
    network: ClipInTraining, data: ToyData, tokenizer, batch_size: int, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Contrastive loss plus the attribute heads' cross-entropies on a random batch."""
    rows = data.draw(batch_size, generator)
    images = damage(mirror(shift(data.unit_images(rows), generator), generator), generator)
    labels = data.labels[rows]
    captions = captions_and_twins(labels, numpy_generator(generator))
    features = network.clip.get_image_features(pixel_values=normalise_pixels(images)).pooler_output
    texts = embed_texts(network.clip, tokenizer, captions)
    scale = network.clip.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    pairs = contrastive(normalize(features, dim=-1), texts, scale, is_true_of(labels, named_labels(captions)))
    heads = [cross_entropy(network.heads[name](features), labels[:, column]) for column, name in enumerate(ATTRIBUTES)]
    return pairs + torch.stack(heads).mean()


def embed_texts(clip: Any, tokenizer, captions: list[str]) -> Float[Tensor, "t d"]:
    """Features of captions, of length 1."""
    tokens = tokenizer(captions, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return normalize(clip.get_text_features(**tokens).pooler_output, dim=-1)


@torch.no_grad()
def held_out_figures(clip: Any, tokenizer, data: ToyData, num_retrieval: int = 500) -> dict[str, float]:
    """What the full captions of all scenes, and of a few hundred held-out ones, retrieve."""
    scenes = list(np.ndindex(*(len(words) for words in ATTRIBUTES.values())))

    captions = [describe(Attributes.from_labels(labels)) for labels in scenes]
    texts = torch.cat([
        embed_texts(clip, tokenizer, captions[start : start + 256]) for start in range(0, len(scenes), 256)
    ])  # fmt: skip
    images = torch.cat([
        normalize(clip.get_image_features(pixel_values=normalise_pixels(images.float() / 255)).pooler_output, dim=-1)
        for images in data.images.split(256)
    ])  # fmt: skip
    best = torch.tensor(scenes)[(images @ texts.T).argmax(1)]
    right = best == data.labels
    shares = right.float().mean(0).tolist()
    figures = {f"zero-shot {name}": share for name, share in zip(ATTRIBUTES, shares, strict=True)}
    figures["zero-shot all five"] = right.all(1).float().mean().item()

    index = {labels: place for place, labels in enumerate(scenes)}
    keys = [index[tuple(labels)] for labels in data.labels.tolist()]
    first = list({key: row for row, key in reversed(list(enumerate(keys)))}.values())[:num_retrieval]
    scores = images[first] @ texts[[keys[row] for row in first]].T
    wanted = torch.arange(len(first))
    for name, table in (("image to text", scores), ("text to image", scores.T)):
        ranks = (table > table.diag()[:, None]).sum(1)
        figures[f"{name} R@1 of {len(wanted)}"] = (ranks < 1).float().mean().item()
        figures[f"{name} R@5 of {len(wanted)}"] = (ranks < 5).float().mean().item()
    return figures


def train(worker: Worker, data_folder: Path, output: Path, work: Path, recipe: Recipe = RECIPE) -> dict[str, float]:
    """Train a CLIP that ``CLIPModel.from_pretrained`` reads; arguments and the rest as in ``classifier.train``.

    Returns:
        The held-out figures, shares in [0, 1].
    """
    from transformers import CLIPConfig, CLIPModel

    data, held_out = (load_toy_data(data_folder, is_held_out=each, only_objects=True) for each in (False, True))
    tokenizer = build_tokenizer(work)
    torch.manual_seed(recipe.seed)
    # Plain attention: at 65 tokens on a CPU its backward is no slower than the fused one.
    clip = CLIPModel._from_config(CLIPConfig(**clip_settings(tokenizer)), attn_implementation="eager")
    network = ClipInTraining(clip)
    training = fit(
        {"network": network}, lambda step, generator: clip_loss(network, data, tokenizer, recipe.batch_size, generator),
        recipe, work / "last.pt", worker, report_every=50,
    )  # fmt: skip
    clip = save_and_reload(training.average["network"].clip, tokenizer, output, **IMAGE_SETTINGS, antialias=True)
    figures = held_out_figures(clip, tokenizer, held_out)
    how = f"{len(data)} renders, {recipe.describe()},\n{training.seconds / 60:.1f} min of one core. {METHOD}"
    write_readme(output, "tiny-clip", ABOUT, how, f"On {len(held_out)} {HELD_OUT}", figures)
    worker.info(f"held-out figures: {figures}")
    return figures
