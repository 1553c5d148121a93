"""CLIP's byte-pair tokenizer, made of its merges."""

from collections.abc import Sequence
from typing import Any

from ..early import data_folder


def clip_tokenizer(
    merges: Sequence[tuple[str, str]] | None = None, extra_tokens: Sequence[str] = (), **options: Any
) -> Any:
    """A ``CLIPTokenizer`` that knows each byte, each merge and the extra tokens, in this order.

    Args:
        merges: Pairs of tokens; None for those of CLIP, 49,408 tokens in all.
        extra_tokens: Beside these.
        options: More of ``CLIPTokenizer``, such as ``model_max_length`` and ``pad_token``.
    """
    from transformers import CLIPTokenizer

    merges = _published_merges() if merges is None else merges
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), *extra_tokens]
    vocab = {token: index for index, token in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    make: Any = CLIPTokenizer
    return make(vocab=vocab, merges=list(merges), **({"model_max_length": 77} | options))


def _published_merges() -> list[tuple[str, str]]:
    text = (data_folder() / "clip-tokenizer" / "merges.txt").read_text(encoding="utf-8")
    pairs = (line.split(" ") for line in text.split("\n")[1:] if line)
    return [(first, second) for first, second in pairs]
