"""The attribute classifier that judges toy edits."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..files import markdown_table, write_tensors
from ..toyworld.classifier import WEIGHTS_NAME, AttributeClassifier, load_classifier
from ..toyworld.vocabulary import ATTRIBUTES
from .augment import blur, damage, mirror, quantise_blocks, shift
from .loop import Recipe, Worker, fit
from .publish import write_readme
from .scenes import ToyData, load_toy_data

RECIPE = Recipe(
    steps=800, batch_size=64, learning_rate=2e-3, seed=0, weight_decay=0.02, warm_up_steps=100, horizon=1500,
    ema_decay=0.995,
)  # fmt: skip
LABEL_SMOOTHING = 0.02
ABOUT = """
Reads object, colour, pattern, ground and time of day from a 64x64 image of the toy world. It judges
edits and samples; no other model is trained with it.

Origin: trained from random weights by `custom/threestudio-ssd/training/classifier.py` on renders of
the toy world alone (`training/scenes.py`). Licence: Apache-2.0.
"""
METHOD = """Augmented by mirror,
shift, blur, resampling, 8x8 block quantisation, brightness, contrast and noise; never by hue."""


def classifier_loss(network: AttributeClassifier, data: ToyData, batch_size: int, generator: torch.Generator) -> Tensor:
    """Sum of the heads' cross-entropies on an augmented random batch."""
    rows = data.draw(batch_size, generator)
    logits = network(damage(mirror(shift(data.unit_images(rows), generator), generator), generator))
    losses = [
        cross_entropy(logits[name], data.labels[rows, column], label_smoothing=LABEL_SMOOTHING)
        for column, name in enumerate(ATTRIBUTES)
    ]
    return torch.stack(losses).sum()


def accuracy(read: Callable, data: ToyData, change: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
    """Share of right answers per attribute, and of images with all five right, on changed images."""
    parts = []
    for rows in torch.arange(len(data)).split(256):
        images = data.unit_images(rows)
        readings = read(images if change is None else change(images).clamp(0, 1))
        labels = torch.stack([readings[name].labels for name in ATTRIBUTES], 1)
        parts.append(labels == data.labels[rows])
    is_right = torch.cat(parts)
    shares = dict(zip(ATTRIBUTES, is_right.float().mean(0).tolist(), strict=True))
    return shares | {"all five": is_right.all(1).float().mean().item()}


def held_out_figures(read: Callable, data: ToyData) -> dict[str, dict[str, float]]:
    """Accuracies on clean and on damaged held-out renders."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    return {
        "clean": accuracy(read, data),
        "blurred (sigma 0.8 px)": accuracy(read, data, lambda images: blur(images, 0.8)),
        "noisy (deviation 0.04)": accuracy(read, data, lambda images: images + 0.04 * draw(images.shape)),
        "8x8 blocks quantised (0.03)": accuracy(read, data, lambda images: quantise_blocks(images, 0.03)),
    }


def train(
    worker: Worker, data_folder: Path, output: Path, work: Path, recipe: Recipe = RECIPE
) -> dict[str, dict[str, float]]:
    """Train, save in half precision, measure on held-out scenes, write the README.

    Args:
        worker: This process, the only one.
        data_folder: What ``write_scene_shards`` wrote.
        output: Folder of the weights and README.
        work: Folder of the resumable state.
        recipe: Steps and rates.

    Returns:
        Accuracies: kind of damage -> attribute -> share.

    Raises:
        ConfigError: If there is no data.
    """
    data, held_out = (load_toy_data(data_folder, is_held_out=each, only_objects=True) for each in (False, True))
    torch.manual_seed(recipe.seed)
    network = AttributeClassifier()
    training = fit(
        {"network": network}, lambda step, generator: classifier_loss(network, data, recipe.batch_size, generator),
        recipe, work / "last.pt", worker, report_every=50,
    )  # fmt: skip
    state = training.average["network"].state_dict()
    weights = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_tensors(output / WEIGHTS_NAME, weights, format="pt")
    figures = held_out_figures(load_classifier(output), held_out)
    columns = [*ATTRIBUTES, "all five"]
    rows = [(kind, *(f"{row[name]:.4f}" for name in columns)) for kind, row in figures.items()]
    how = f"{len(data)} renders, {recipe.describe()},\n{training.seconds / 60:.1f} min of one core. {METHOD}"
    heading = f"Share of right answers on {len(held_out)} renders of scenes that were not trained on:"
    write_readme(output, "tiny-classifier", ABOUT, how, heading, markdown_table(["images", *columns], rows))
    worker.info(f"held-out accuracy: {figures['clean']}")
    return figures
