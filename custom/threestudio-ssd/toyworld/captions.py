"""Captions of toy scenes and the tokenizer of their words."""

import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .vocabulary import ATTRIBUTES, Attributes

PREFIXES = ("a photo of", "a picture of", "a render of", "")
SYNONYMS = {"ball": ("ball", "sphere"), "house": ("house", "cottage"), "donut": ("donut", "torus")}
TIME_PHRASES = {"day": ("by day", "in daylight"), "night": ("at night",), "sunset": ("at sunset",)}
MAX_TOKENS = 20
CAPTION_SEED = 20

_START, _END = "<|startoftext|>", "<|endoftext|>"


def describe(attributes: Attributes, prefix: str = "a photo of") -> str:
    """The full caption of a scene; plain and by day go without saying."""
    pattern = "" if attributes.pattern == "plain" else attributes.pattern
    time = "" if attributes.time == "day" else TIME_PHRASES[attributes.time][0]
    return _sentence(prefix, attributes.color, pattern, attributes.object, f"on {attributes.ground}", time)


def random_caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """A caption that may leave things out: colour kept 96 %, pattern 95 % (plain said 30 %), ground 85 %, time 90 %."""
    keep = rng.uniform(size=5)
    color = attributes.color if keep[0] < 0.96 else ""
    said = 0.30 if attributes.pattern == "plain" else 0.95
    pattern = attributes.pattern if keep[1] < said else ""
    names = SYNONYMS.get(attributes.object, (attributes.object,))
    name = names[0] if keep[2] < 0.75 else names[-1]
    ground = f"on {attributes.ground}" if keep[3] < 0.85 else ""
    said = 0.30 if attributes.time == "day" else 0.90
    times = TIME_PHRASES[attributes.time]
    time = times[rng.integers(len(times))] if keep[4] < said else ""
    return _sentence(PREFIXES[rng.integers(len(PREFIXES))], color, pattern, name, ground, time)


def parse_caption(caption: str) -> dict[str, str]:
    """Attribute values that a caption names; plain and day are not inferred from silence."""
    words = re.findall(r"[a-z]+", caption.lower())
    back = {synonym: name for name, synonyms in SYNONYMS.items() for synonym in synonyms} | {"daylight": "day"}
    words = [back.get(word, word) for word in words]
    return {name: word for name, values in ATTRIBUTES.items() for word in words if word in values}


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Train the byte-pair tokenizer of the toy captions and save it; every word of the grammar becomes one token.

    Args:
        folder: Where the files go, in the layout ``CLIPTokenizer.from_pretrained`` reads.
    """
    rng = np.random.default_rng(CAPTION_SEED)
    words = [values[rng.integers(len(values))] for _ in range(8000) for values in ATTRIBUTES.values()]
    captions = [random_caption(Attributes(*words[i : i + 5]), rng) for i in range(0, len(words), 5)]
    bpe = Tokenizer(models.BPE(unk_token=_END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(_regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words_and_signs = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_regex(words_and_signs), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=1, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in _merges(bpe)]
    symbols = sorted(alphabet) + [f"{char}</w>" for char in sorted(alphabet)]
    symbols += [left + right for left, right in merges]
    vocab = {symbol: index for index, symbol in enumerate(dict.fromkeys([*symbols, _START, _END]))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _sentence(prefix: str, *words: str) -> str:
    article = f"{prefix} a" if prefix else "a"
    first = next(word for word in words if word)
    if first[0] in "aeiou":
        article += "n"
    return " ".join([article, *(word for word in words if word)])


def _merges(bpe: Tokenizer):
    import json

    return json.loads(bpe.to_str())["model"]["merges"]


def _regex(pattern: str):
    from tokenizers import Regex

    return Regex(pattern)
