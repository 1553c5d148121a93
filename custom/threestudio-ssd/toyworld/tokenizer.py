"""The tokenizer of the toy captions' words."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from .captions import (
    CUBE_SIDES,
    FRAMINGS,
    HEIGHTS,
    MAX_TOKENS,
    PREFIXES,
    SIDES,
    SYNONYMS,
    TIME_PHRASES,
    random_view_caption,
)
from .instructions import TEMPLATES
from .vocabulary import ATTRIBUTES, Attributes

CAPTION_SEED = 20
_START, _END = "<|startoftext|>", "<|endoftext|>"


def token_ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Int[Tensor, "b l"]:
    """Token ids of captions or instructions, padded to the embedded models' length."""
    length = {"padding": "max_length", "max_length": MAX_TOKENS, "truncation": True}
    return tokenizer(list(texts), **length, return_tensors="pt").input_ids


def known_words() -> list[str]:
    """Every word that captions and instructions are made of, which is what a model of the toy world knows."""
    told = [PREFIXES, FRAMINGS, SIDES, CUBE_SIDES, [word for word, _ in HEIGHTS], *TIME_PHRASES.values()]
    told += [*SYNONYMS.values(), *ATTRIBUTES.values(), *TEMPLATES.values(), ["an", "seen", "from", "empty"]]
    return sorted(
        {word for texts in told for text in texts for word in re.findall(r"[a-z]+", re.sub("{.*?}", "", text))}
    )


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Train the byte-pair tokenizer of the toy captions and save it; every word of the grammar becomes one token.

    Args:
        folder: Where the files go, in the layout ``CLIPTokenizer.from_pretrained`` reads.
    """
    rng = np.random.default_rng(CAPTION_SEED)
    words = [values[rng.integers(len(values))] for _ in range(8000) for values in ATTRIBUTES.values()]
    captions = [_random_caption(Attributes(*words[i : i + 5]), rng) for i in range(0, len(words), 5)]
    bpe = Tokenizer(models.BPE(unk_token=_END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words_and_signs = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    pieces = pre_tokenizers.Split(words_and_signs, behavior="removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=1, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(captions, trainer)
    merges: list[Any] = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    symbols = sorted(alphabet) + [f"{char}</w>" for char in sorted(alphabet)]
    symbols += [left + right for left, right in merges]
    vocab = {symbol: index for index, symbol in enumerate(dict.fromkeys([*symbols, _START, _END]))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS, known_words=known_words())
    tokenizer.save_pretrained(folder)
    return tokenizer


def _random_caption(attributes: Attributes, rng: np.random.Generator) -> str:
    framing, azimuth_deg, elevation_deg = FRAMINGS[rng.integers(len(FRAMINGS))], rng.uniform(0, 360), rng.uniform(0, 60)
    return random_view_caption(attributes, bool(rng.uniform() < 0.9), framing, azimuth_deg, elevation_deg, rng)
