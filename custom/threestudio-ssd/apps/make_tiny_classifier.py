"""Train the attribute classifier that judges toy edits, and write it with its recipe and figures."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..toyworld.classifier import WEIGHTS_NAME, AttributeClassifier, load_classifier
from ..toyworld.vocabulary import ATTRIBUTES
from .tiny_augment import blur, damage, mirror, quantise_blocks, shift
from .tiny_training import Recipe, ToyData, load_toy_data, train, weights_table, write_text

RECIPE = Recipe(steps=800, batch_size=64, learning_rate=2e-3, horizon=1500)


def classifier_loss(data: ToyData, batch_size: int) -> Callable[[nn.Module, torch.Generator], Tensor]:
    """Sum of the heads' cross-entropies on an augmented random batch."""

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        images = damage(mirror(shift(data.images[rows].float() / 255, generator), generator), generator)
        logits = network(images)
        labels = data.labels[rows]
        return sum(
            cross_entropy(logits[name], labels[:, column], label_smoothing=0.02)
            for column, name in enumerate(ATTRIBUTES)
        )

    return loss


def accuracy(read: Callable, data: ToyData, change: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
    """Share of right answers per attribute, and of pictures with all five right, on changed pictures."""
    right = []
    for start in range(0, len(data), 256):
        rows = slice(start, start + 256)
        images = data.images[rows].float() / 255
        readings = read(images if change is None else change(images).clamp(0, 1))
        labels = torch.stack([readings[name].labels for name in ATTRIBUTES], 1)
        right.append(labels == data.labels[rows])
    right = torch.cat(right)
    shares = dict(zip(ATTRIBUTES, right.float().mean(0).tolist(), strict=True))
    return shares | {"all five": right.all(1).float().mean().item()}


def held_out_figures(read: Callable, data: ToyData) -> dict[str, dict[str, float]]:
    """Accuracies on clean and on damaged held-out renders."""
    generator = torch.Generator().manual_seed(0)
    return {
        "clean": accuracy(read, data),
        "blurred (sigma 0.8 px)": accuracy(read, data, lambda images: blur(images, 0.8)),
        "noisy (deviation 0.04)": accuracy(
            read, data, lambda images: images + 0.04 * torch.randn(images.shape, generator=generator)
        ),
        "8x8 blocks quantised (0.03)": accuracy(read, data, lambda images: quantise_blocks(images, 0.03)),
    }


def make_tiny_classifier(
    data_folder: Path,
    output: Path,
    work: Path,
    recipe: Recipe = RECIPE,
    *,
    info: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """Train, save in half precision, measure on held-out scenes, write the README.

    Args:
        data_folder: What the data step wrote.
        output: Folder of the weights and README.
        work: Folder of the resumable state.
        recipe: Steps and rates.
        info: Takes the progress lines.

    Returns:
        Accuracies: kind of damage -> attribute -> share.

    Raises:
        ConfigError: If there is no data.
    """
    training, held_out = load_toy_data(data_folder).split()
    torch.manual_seed(recipe.seed)
    network = AttributeClassifier()
    seconds = train(network, classifier_loss(training, recipe.batch_size), recipe, work / "last.pt", info=info)
    output.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    temporary = output / (WEIGHTS_NAME + ".tmp")
    save_file(weights, temporary, metadata={"format": "pt"})
    os.replace(temporary, output / WEIGHTS_NAME)
    figures = held_out_figures(load_classifier(output), held_out)
    write_text(output / "README.md", _readme(figures, recipe, output, len(training), len(held_out), seconds))
    info(f"held-out accuracy: {figures['clean']}")
    return figures


def _readme(figures: dict, recipe: Recipe, folder: Path, num_training: int, num_held_out: int, seconds: float) -> str:
    columns = [*ATTRIBUTES, "all five"]
    rows = [f"| {kind} | " + " | ".join(f"{row[name]:.4f}" for name in columns) + " |" for kind, row in figures.items()]
    return "\n".join([
        "# tiny-classifier",
        "",
        "Reads object, colour, pattern, ground and time of day from a 64x64 picture of the toy world. It judges",
        "edits and samples; no other model is trained with it.",
        "",
        "Origin: trained from random weights by `custom/threestudio-ssd/apps/make_tiny_classifier.py` on renders of",
        "the toy world alone (`make_toy_data`). Licence: Apache-2.0.",
        "",
        weights_table(folder),
        "",
        f"Recipe: {num_training} renders, {recipe.describe()},",
        f"{seconds / 60:.1f} min of one core. Augmented by mirror, shift, blur, resampling, 8x8 block quantisation,",
        "brightness, contrast and noise; never by hue.",
        "",
        f"Share of right answers on {num_held_out} renders of scenes that were not trained on:",
        "",
        "| pictures | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
        *rows,
        "",
    ])  # fmt: skip
