"""Which tokens of a prompt belong to which word, for any tokenizer that a U-Net's prompts go through."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .prompts import TextEncoders, with_new_words


@dataclass(frozen=True)
class PromptWords:
    """The words of a prompt and the columns of its embedding that each of them fills.

    Attributes:
        words: In order, lower case; a punctuation mark is a word of its own.
        columns: Of each word; a word beyond the tokenizer's length has none.
        length: Columns of the embedding: the first is the start, those after the last word are end and padding.
    """

    words: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]
    length: int

    @property
    def end(self) -> int:
        """Column after the last word's."""
        return 1 + sum(map(len, self.columns))

    def columns_of(self, words: str) -> list[int]:
        """Columns of every place where these words stand one after another; none where they do not."""
        wanted = split_words(words)
        starts = range(len(self.words) - len(wanted) + 1) if wanted else ()
        places = [start for start in starts if list(self.words[start : start + len(wanted)]) == wanted]
        return [column for start in places for each in self.columns[start : start + len(wanted)] for column in each]


KNOWN_WORDS = "known_words"
"""Key of a tokenizer's config: all words that a small model has met in its training."""


def unknown_words(encoders: TextEncoders, texts: Sequence[str]) -> list[str]:
    """Words that a model has never met, in order; none of a model that does not say which it has met."""
    tokenizer = next(each for each in encoders.tokenizers if each is not None)
    vocabulary = set(tokenizer.init_kwargs.get(KNOWN_WORDS, ()))
    words = dict.fromkeys(word for text in texts for word in split_words(text) if word.isalpha())
    return [word for word in words if word not in vocabulary] if vocabulary else []


def split_words(text: str) -> list[str]:
    """Words and punctuation marks, lower case."""
    return re.findall(r"[\w'<>-]+|[^\w\s]", text.lower())


def prompt_words(encoders: TextEncoders, texts: Sequence[str]) -> dict[str, PromptWords]:
    """The words of prompts, by prompt; the tokens of a model's several tokenizers stand in the same columns.

    Raises:
        ConfigError: If the tokenizer takes words together, so that no token belongs to one word.
    """
    return {text: _words_of(encoders.tokenizers[0], text) for text in texts}


def _words_of(tokenizer: Any, text: str) -> PromptWords:
    words = split_words(text)
    tokens = [_tokens(tokenizer, word) for word in words]
    if [token for word in tokens for token in word] != _tokens(tokenizer, text):
        raise ConfigError(
            what=f'the tokenizer of system.editing.model takes words of "{text}" together',
            expected="tokens that belong to one word each", fix="write the prompt in plain words",
        )  # fmt: skip
    columns, place, length = [], 1, tokenizer.model_max_length
    for word in tokens:
        columns.append(tuple(column for column in range(place, place + len(word)) if column < length - 1))
        place += len(word)
    return PromptWords(tuple(words), tuple(columns), length)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    (text,) = with_new_words([text], tokenizer)
    return tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
