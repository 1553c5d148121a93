"""What to tell an InstructPix2Pix model, so that one toy scene becomes another that differs in one attribute."""

import numpy as np

from .captions import TIME_PHRASES
from .vocabulary import ATTRIBUTES, Attributes

TEMPLATES = {
    "color": ("make it {new}", "turn the {object} {new}", "in {new}", "a {new} {object}"),
    "pattern": ("make it {new}", "make the {object} {new}", "{new}", "a {new} {object}"),
    "object": ("turn it into a {new}", "a {new} in place of the {object}", "a {new}", "make it a {new}"),
    "ground": ("put it on {new}", "on {new}", "make the ground {new}", "the {object} on {new}"),
    "time": ("make it {new}", "{phrase}", "the {object} {phrase}", "show it {phrase}"),
}
"""Instructions for a change of each attribute; the words of the captions are single tokens, the others are spelt."""


def random_other(name: str, word: str, rng: np.random.Generator) -> str:
    """A word of the attribute ``name`` other than ``word``."""
    others = [option for option in ATTRIBUTES[name] if option != word]
    return others[rng.integers(len(others))]


def random_change(attributes: Attributes, rng: np.random.Generator) -> tuple[Attributes, str]:
    """The same scene with one attribute at random changed to another word, and the name of that attribute."""
    name = list(ATTRIBUTES)[rng.integers(len(ATTRIBUTES))]
    return attributes._replace(**{name: random_other(name, getattr(attributes, name), rng)}), name


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
