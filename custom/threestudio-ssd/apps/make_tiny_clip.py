"""Train the embedded CLIP of the toy world, and write it in the transformers format with its recipe and figures."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from ..metrics.clip_model import OPENAI_MEAN, OPENAI_STD
from ..toyworld.captions import MAX_TOKENS, describe, parse_caption, random_caption
from ..toyworld.tokenizer import build_tokenizer
from ..toyworld.vocabulary import ATTRIBUTES, Attributes
from .tiny_augment import damage, mirror, shift
from .tiny_training import Recipe, ToyData, load_toy_data, train, weights_table, write_text

DEFAULT_FOLDER = Path(__file__).resolve().parents[3] / "data" / "tiny-clip"
RECIPE = Recipe(steps=550, batch_size=96, learning_rate=1.2e-3, weight_decay=0.05)
IMAGE_SIZE, PATCH_SIZE, WIDTH, IMAGE_LAYERS, TEXT_LAYERS, HEADS = 64, 8, 128, 4, 2, 4
MAX_LOGIT_SCALE = 4.6


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


def normalise_pixels(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """What the picture tower takes, from pictures in [0, 1]."""
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
    return (images - mean) / std


class ClipInTraining(nn.Module):
    """The CLIP, and linear heads on its picture features that read the attributes; the heads are thrown away."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, len(words)) for name, words in ATTRIBUTES.items()})


def named_labels(captions: list[str]) -> Int[Tensor, "t 5"]:
    """Label of each attribute that a caption names, -1 where it is silent."""
    rows = []
    for caption in captions:
        said = parse_caption(caption)
        rows.append([words.index(said[name]) if name in said else -1 for name, words in ATTRIBUTES.items()])
    return torch.tensor(rows)


def is_true_of(labels: Int[Tensor, "b 5"], named: Int[Tensor, "t 5"]) -> Bool[Tensor, "b t"]:
    """Whether each caption is true of each picture."""
    return ((named[None] == labels[:, None]) | (named[None] < 0)).all(-1)


def captions_and_twins(labels: Int[Tensor, "b 5"], seed: int) -> list[str]:
    """A caption of each picture, then one for a scene that differs in one attribute."""
    rng = np.random.default_rng(seed)
    captions, twins = [], []
    for row in labels.tolist():
        attributes = Attributes.from_labels(row)
        name = list(ATTRIBUTES)[rng.integers(len(ATTRIBUTES))]
        others = [word for word in ATTRIBUTES[name] if word != getattr(attributes, name)]
        captions.append(random_caption(attributes, rng))
        twins.append(random_caption(attributes._replace(**{name: others[rng.integers(len(others))]}), rng))
    return captions + twins


def contrastive(
    features: Float[Tensor, "b d"], texts: Float[Tensor, "t d"], scale: Tensor, is_true: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """CLIP's symmetric loss, in which every caption that is true of a picture counts as right."""
    logits = scale * features @ texts.T
    wanted = is_true.float()
    by_image = -(log_softmax(logits, 1) * wanted / wanted.sum(1, keepdim=True)).sum(1).mean()
    has_image = wanted.sum(0) > 0
    columns, wanted = logits.T[has_image], wanted.T[has_image]
    by_text = -(log_softmax(columns, 1) * wanted / wanted.sum(1, keepdim=True)).sum(1).mean()
    return (by_image + by_text) / 2


def clip_loss(data: ToyData, tokenizer, batch_size: int) -> Callable[[nn.Module, torch.Generator], Tensor]:
    """Contrastive loss plus the attribute heads' cross-entropies on a random batch."""

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        images = damage(mirror(shift(data.images[rows].float() / 255, generator), generator), generator)
        labels = data.labels[rows]
        captions = captions_and_twins(labels, int(torch.randint(2**31, (), generator=generator)))
        tokens = tokenizer(captions, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        features = network.clip.get_image_features(pixel_values=normalise_pixels(images)).pooler_output
        texts = network.clip.get_text_features(**tokens).pooler_output
        scale = network.clip.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        pairs = contrastive(
            normalize(features, dim=-1), normalize(texts, dim=-1), scale, is_true_of(labels, named_labels(captions))
        )
        heads = [
            cross_entropy(network.heads[name](features), labels[:, column]) for column, name in enumerate(ATTRIBUTES)
        ]
        return pairs + sum(heads) / len(heads)

    return loss


@torch.no_grad()
def held_out_figures(clip: nn.Module, tokenizer, data: ToyData, num_retrieval: int = 500) -> dict[str, float]:
    """What the full captions of all scenes, and of a few hundred held-out ones, retrieve."""
    scenes = list(np.ndindex(*(len(words) for words in ATTRIBUTES.values())))

    def embed_texts(captions: list[str]) -> Tensor:
        tokens = tokenizer(captions, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        return normalize(clip.get_text_features(**tokens).pooler_output, dim=-1)

    texts = torch.cat([
        embed_texts([describe(Attributes.from_labels(labels)) for labels in scenes[start : start + 256]])
        for start in range(0, len(scenes), 256)
    ])  # fmt: skip
    images = torch.cat([
        normalize(clip.get_image_features(pixel_values=normalise_pixels(rows.float() / 255)).pooler_output, dim=-1)
        for rows in data.images.split(256)
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


def make_tiny_clip(
    data_folder: Path,
    output: Path,
    work: Path,
    recipe: Recipe = RECIPE,
    *,
    info: Callable[[str], None],
) -> dict[str, float]:
    """Train, save in half precision, measure on held-out scenes, write the README.

    Args:
        data_folder: What the data step wrote.
        output: Folder that ``CLIPModel.from_pretrained`` and ``CLIPTokenizer.from_pretrained`` will read.
        work: Folder of the resumable state.
        recipe: Steps and rates.
        info: Takes the progress lines.

    Returns:
        The held-out figures, shares in [0, 1].

    Raises:
        ConfigError: If there is no data.
    """
    from transformers import CLIPConfig, CLIPModel

    training, held_out = load_toy_data(data_folder).split()
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(work)
    torch.manual_seed(recipe.seed)
    # Plain attention: at 65 tokens on a CPU its backward is no slower than the fused one.
    clip = CLIPModel._from_config(CLIPConfig(**clip_settings(tokenizer)), attn_implementation="eager")
    network = ClipInTraining(clip)
    loss = clip_loss(training, tokenizer, recipe.batch_size)
    seconds = train(network, loss, recipe, work / "last.pt", info=info)
    clip.half().save_pretrained(output)
    tokenizer.save_pretrained(output)
    settings = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD, "antialias": True, "size": IMAGE_SIZE}
    write_text(output / "preprocessor_config.json", json.dumps(settings, indent=2) + "\n")
    clip = CLIPModel.from_pretrained(output).float().eval()
    figures = held_out_figures(clip, tokenizer, held_out)
    write_text(output / "README.md", _readme(figures, recipe, output, len(training), len(held_out), seconds))
    info(f"held-out figures: {figures}")
    return figures


def _readme(figures: dict, recipe: Recipe, folder: Path, num_training: int, num_held_out: int, seconds: float) -> str:
    return "\n".join([
        "# tiny-clip",
        "",
        "A CLIP of the toy world, for the metrics of the demo. **Its scores compare runs with each other only.**",
        "They are not comparable with scores of OpenAI's CLIP in papers and mean nothing on real pictures.",
        "",
        "Origin: trained from random weights by `custom/threestudio-ssd/apps/make_tiny_clip.py` on renders and",
        "captions of the toy world alone (`make_toy_data`). Licence: Apache-2.0.",
        "Loads by `CLIPModel.from_pretrained` and `CLIPTokenizer.from_pretrained`; pictures are 64x64 (larger ones are",
        "resized bicubically with antialiasing), normalised with OpenAI's mean and deviation.",
        "",
        weights_table(folder),
        "",
        f"Recipe: {num_training} renders, {recipe.describe()},",
        f"{seconds / 60:.1f} min of one core. Contrastive loss in which every caption that is true of a picture counts",
        "as right; each caption has a twin that differs in one attribute. Linear attribute heads on the picture",
        "features helped the training and are not kept. The attribute classifier had no part in it.",
        "",
        f"On {num_held_out} renders of scenes that were not trained on (zero-shot: among the captions of all 3840",
        "scenes; retrieval: among different scenes):",
        "",
        "| figure | share |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in figures.items()),
        "",
    ])  # fmt: skip
