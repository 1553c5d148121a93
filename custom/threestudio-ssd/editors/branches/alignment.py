"""Which word of the target prompt stands for which word of the source prompt (Hertz et al. 2022, section 3.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from jaxtyping import Float
from torch import Tensor

from ...diffusion.words import PromptWords


@dataclass(frozen=True)
class Alignment:
    """How attention to the source prompt's tokens becomes attention to the target's.

    Attributes:
        mapper: (l_src, l_tgt) what a target token takes of each source token's attention.
        share: (l_tgt) how much of a target token's attention is taken over, in [0, 1]; the rest is its own.
    """

    mapper: Float[Tensor, "l l"]
    share: Float[Tensor, "l"]

    def carried(self, source: Float[Tensor, "*b n l"], target: Float[Tensor, "*b n l"]) -> Float[Tensor, "*b n l"]:
        """A target's attention maps with those of the source carried over."""
        mapper, share = self.mapper.to(source), self.share.to(source)
        return (source @ mapper).lerp(target, 1 - share)


def refined(source: PromptWords, target: PromptWords) -> Alignment:
    """Words that both prompts have keep the source's attention; new words have their own."""
    mapper, share = _of_the_rest(source, target), torch.ones(target.length)
    for columns in target.columns:
        share[list(columns)] = 0
    for first, second, count in SequenceMatcher(None, source.words, target.words, autojunk=False).get_matching_blocks():
        for place in range(count):
            for old, new in zip(source.columns[first + place], target.columns[second + place], strict=False):
                mapper[old, new] = share[new] = 1
    return Alignment(mapper, share)


def replaced(source: PromptWords, target: PromptWords) -> Alignment:
    """Every word takes the attention of the word that stood in its place, shared among its tokens.

    Raises:
        ValueError: If the prompts have not the same number of words.
    """
    mapper = _of_the_rest(source, target)
    for old, new in zip(source.columns, target.columns, strict=True):
        if len(old) == len(new):
            mapper[list(old), list(new)] = 1
        else:
            for column in old:
                mapper[column, list(new)] = 1 / len(new)
    return Alignment(mapper, torch.ones(target.length))


def _of_the_rest(source: PromptWords, target: PromptWords) -> Float[Tensor, "l l"]:
    """Start to start, end to end, padding to padding; what the longer end has more of takes the last."""
    mapper = torch.zeros(source.length, target.length)
    mapper[0, 0] = 1
    for old, new in _ends(source, target):
        mapper[old, new] = 1
    return mapper


def _ends(source: PromptWords, target: PromptWords) -> Iterator[tuple[int, int]]:
    for new in range(target.end, target.length):
        yield min(source.end + new - target.end, source.length - 1), new
