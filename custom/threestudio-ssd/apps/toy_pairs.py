"""Pairs of toy scenes that differ in one attribute, seen from one camera, with the instruction that leads across."""

from pathlib import Path

import numpy as np
import torch

from ..rendering import render_each
from ..toyworld import ATTRIBUTES, Attributes, build_scene, sample_attributes, sample_camera
from ..toyworld.captions import TIME_PHRASES
from ..toyworld.splat import to_cameras, to_gaussians
from .training import Worker, write_shards

SIZE = 64
FIRST_SEED = 20_000_000
"""Scenes of pairs have seeds of their own."""
CHOICE_STREAM = 11
TEMPLATES = {
    "color": ("make it {new}", "turn the {object} {new}", "in {new}", "a {new} {object}"),
    "pattern": ("make it {new}", "make the {object} {new}", "{new}", "a {new} {object}"),
    "object": ("turn it into a {new}", "a {new} in place of the {object}", "a {new}", "make it a {new}"),
    "ground": ("put it on {new}", "on {new}", "make the ground {new}", "the {object} on {new}"),
    "time": ("make it {new}", "{phrase}", "the {object} {phrase}", "show it {phrase}"),
}
"""Instructions for a change of each attribute; the words of the captions are single tokens, the others are spelt."""


def random_change(attributes: Attributes, rng: np.random.Generator) -> tuple[Attributes, str]:
    """The same with one attribute at random changed to another word, and which."""
    name = list(ATTRIBUTES)[rng.integers(len(ATTRIBUTES))]
    others = [word for word in ATTRIBUTES[name] if word != getattr(attributes, name)]
    return attributes._replace(**{name: others[rng.integers(len(others))]}), name


def instructions(source: Attributes, target: Attributes) -> list[str]:
    """Everything one may say to get from source to target, which differ in one attribute.

    Raises:
        ValueError: If they differ in none or in several.
    """
    changed = [name for name in ATTRIBUTES if getattr(source, name) != getattr(target, name)]
    if len(changed) != 1:
        raise ValueError(f"one attribute must differ, got {changed}")
    new = getattr(target, changed[0])
    phrases = TIME_PHRASES[new] if changed[0] == "time" else ("",)
    texts = [
        template.format(new=new, object=source.object, phrase=phrase)
        for template in TEMPLATES[changed[0]]
        for phrase in phrases
    ]
    return [_with_article(text) for text in dict.fromkeys(texts)]


def random_instruction(source: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    """One of ``instructions``."""
    texts = instructions(source, target)
    return texts[rng.integers(len(texts))]


def _with_article(text: str) -> str:
    """``a orange ball`` as ``an orange ball``."""
    words = text.split()
    pairs = zip(words, [*words[1:], ""], strict=True)
    return " ".join("an" if word == "a" and after[:1] in "aeiou" and after else word for word, after in pairs)


def write_pair_shards(worker: Worker, folder: Path, num_shards: int, pairs_a_shard: int) -> None:
    """Write shards of sources and targets uint8 (n 64 64 3), their attributes (n 5) each, seeds (n)."""
    write_shards(worker, folder, num_shards, _pair, range(FIRST_SEED, FIRST_SEED + pairs_a_shard))


def _pair(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    source = sample_attributes(rng)
    target, _ = random_change(source, rng)
    camera = to_cameras([sample_camera(rng)], SIZE, SIZE)
    images = [
        next(render_each(to_gaussians(build_scene(each, seed)), camera, torch.zeros(3))) for each in (source, target)
    ]
    sources, targets = ((image * 255 + 0.5).to(torch.uint8).numpy() for image in images)
    pair = {
        "sources": sources, "targets": targets, "source_attributes": np.array(source.labels()),
        "target_attributes": np.array(target.labels()), "seeds": np.array(seed),
    }  # fmt: skip
    return {name: value[None] for name, value in pair.items()}
