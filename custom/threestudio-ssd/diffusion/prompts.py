"""Prompts and their embeddings; which text networks make them, and how, is the family's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

import threestudio


@dataclass(frozen=True)
class PromptEmbeds:
    """Embeddings of `b` prompts, one row each; rows can be indexed, concatenated and repeated.

    Args:
        hidden: One vector per token.
        pooled: One vector per prompt, for models that read it (SDXL, SD 3); else None.
    """

    hidden: Float[Tensor, "b l d"]
    pooled: Float[Tensor, "b p"] | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "PromptEmbeds":
        """The rows at `index`; an int gives one row, not a vector."""
        if isinstance(index, int):
            index = [index]
        return self._map(lambda rows: rows[index])

    def to(self, *args: Any, **kwargs: Any) -> "PromptEmbeds":
        """Like ``Tensor.to``, for all rows."""
        return self._map(lambda rows: rows.to(*args, **kwargs))

    def repeat(self, times: int) -> "PromptEmbeds":
        """All rows, `times` times over: a b -> a b a b."""
        return self._map(lambda rows: torch.cat([rows] * times))

    def expand(self, num_rows: int) -> "PromptEmbeds":
        """One row shown `num_rows` times, without copying it."""
        if len(self) != 1:
            raise ValueError(f"only a single prompt can be expanded, these are {len(self)}")
        return self._map(lambda rows: rows.expand(num_rows, *rows.shape[1:]))

    def rows(self, num_rows: int) -> "PromptEmbeds":
        """As many rows as that: these, or one row for all."""
        return self if len(self) == num_rows else self.expand(num_rows)

    @classmethod
    def cat(cls, parts: Sequence["PromptEmbeds"]) -> "PromptEmbeds":
        """The rows of all `parts`, in order."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        if len(pooled) not in (0, len(parts)):
            raise ValueError("cannot concatenate prompts with and without pooled embeddings")
        return cls(torch.cat([part.hidden for part in parts]), torch.cat(pooled) if pooled else None)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "PromptEmbeds":
        return PromptEmbeds(function(self.hidden), None if self.pooled is None else function(self.pooled))


@dataclass
class TextEncoders:
    """The tokenizers and text networks of one model; its family says how they make embeddings.

    Args:
        tokenizers: One for each text network.
        networks: In the order of the model's folder; None for one that is left out.
        device: Where the networks are.
        zero_empty_prompts: Whether an empty prompt is all zeros, as SDXL base was trained with.
    """

    tokenizers: list[Any]
    networks: list[Any]
    device: torch.device
    zero_empty_prompts: bool = False

    def token_ids(self, index: int, prompts: Sequence[str]) -> Int[Tensor, "b l"]:
        """Rows of tokens for one of the networks, cut or filled up to what it reads."""
        tokenizer = self.tokenizers[index]
        padding = {"padding": "max_length", "max_length": _max_tokens(tokenizer), "truncation": True}
        encoding = tokenizer(with_new_words(prompts, tokenizer), return_tensors="pt", **padding)
        return encoding["input_ids"].to(self.device)

    def clip(self, index: int, prompts: Sequence[str]) -> PromptEmbeds:
        """A CLIP's last layer but one, and its pooled embedding."""
        output = self.networks[index](self.token_ids(index, prompts), output_hidden_states=True)
        pooled = output.text_embeds if "text_embeds" in output else output.pooler_output
        return PromptEmbeds(output.hidden_states[-2].float(), pooled.float())

    def with_empty_rows_zero(self, embeds: PromptEmbeds, prompts: Sequence[str]) -> PromptEmbeds:
        """Zeros in place of the embeddings of empty prompts."""
        is_kept = torch.tensor([prompt != "" for prompt in prompts], device=embeds.hidden.device)
        pooled = None if embeds.pooled is None else embeds.pooled * is_kept[:, None]
        return PromptEmbeds(embeds.hidden * is_kept[:, None, None], pooled)

    def warn_of_dropped_words(self, prompts: Sequence[str]) -> None:
        """Warn once of words beyond the longest tokenizer's length, naming those of the longest prompt."""
        tokenizer = max((each for each in self.tokenizers if each is not None), key=_max_tokens)
        cut = [(*dropped_words(tokenizer, prompt), prompt) for prompt in prompts]
        cut = [each for each in cut if each[1]]
        if cut:
            num_tokens, dropped, prompt = max(cut, key=lambda each: each[0])
            others = f" The same holds for {len(cut) - 1} more." if len(cut) > 1 else ""
            threestudio.warn(
                f'The prompt "{prompt}" has {num_tokens} tokens but the model reads '
                f'{_max_tokens(tokenizer)}: "{dropped}" is dropped.{others}'
            )


def dropped_words(tokenizer: Any, prompt: str) -> tuple[int, str]:
    """How many tokens `prompt` has, and the words, from the first one cut into, that a tokenizer cuts off."""
    encoding = tokenizer(prompt, truncation=False, verbose=False)
    ids, limit = encoding["input_ids"], _max_tokens(tokenizer)
    if len(ids) <= limit:
        return len(ids), ""
    if not encoding.encodings:
        return len(ids), tokenizer.decode(ids[limit - 1 : -1]).strip()
    start, end = encoding.encodings[0].offsets[limit - 1]
    if not prompt[start:end][:1].isspace():  # a word cut in two counts as dropped from its beginning
        start = prompt.rfind(" ", 0, start + 1) + 1
    return len(ids), prompt[start:].strip()


def with_new_words(prompts: Sequence[str], tokenizer: Any) -> list[str]:
    """Prompts in which a word of a textual inversion that has several embeddings is written as all of them."""
    from diffusers.loaders import TextualInversionLoaderMixin

    loader: Any = TextualInversionLoaderMixin()
    return loader.maybe_convert_prompt(list(prompts), tokenizer)


def _max_tokens(tokenizer: Any) -> int:
    """Length of a token row; a tokenizer without one (T5) reads 256, as SD 3 was trained."""
    return tokenizer.model_max_length if tokenizer.model_max_length < 256 else 256
