"""Prompts to the embeddings a network reads: one CLIP, two (SDXL) or two and a T5 (SD 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

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

    @classmethod
    def cat(cls, parts: Sequence["PromptEmbeds"]) -> "PromptEmbeds":
        """The rows of all `parts`, in order."""
        if len({part.pooled is None for part in parts}) != 1:
            raise ValueError("cannot concatenate prompts with and without pooled embeddings")
        hidden = torch.cat([part.hidden for part in parts])
        return cls(hidden, None if parts[0].pooled is None else torch.cat([part.pooled for part in parts]))

    def _map(self, function) -> "PromptEmbeds":
        return PromptEmbeds(function(self.hidden), None if self.pooled is None else function(self.pooled))


class TextEncoders:
    """The tokenizers and text networks of one model.

    Args:
        kind: "sd" (one CLIP, last layer), "sdxl" (two CLIPs, last layer but one) or "sd3" (two CLIPs and a
            T5).
        tokenizers: One for each text network.
        networks: In the order of the model's folder; the T5 of an SD 3 may be None, it then counts as zeros.
        zero_empty_prompts: Whether an empty prompt is all zeros, as SDXL base was trained with.
        joint_dim: Token width of SD 3's joint sequence; unused otherwise.
    """

    def __init__(
        self,
        kind: str,
        tokenizers: Sequence[Any],
        networks: Sequence[nn.Module | None],
        zero_empty_prompts: bool = False,
        joint_dim: int = 4096,
    ) -> None:
        self.kind = kind
        self.tokenizers, self.networks = list(tokenizers), list(networks)
        self.zero_empty_prompts, self.joint_dim = zero_empty_prompts, joint_dim

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], device: torch.device) -> PromptEmbeds:
        """Embed `prompts`; words beyond a tokenizer's length are dropped with one warning that names them."""
        for prompt in prompts:
            self._warn_of_dropped_words(prompt)
        if self.kind == "sd":
            ids = _token_ids(self.tokenizers[0], prompts, device)
            return PromptEmbeds(self.networks[0](ids).last_hidden_state.float())
        clips = [self._clip(index, prompts, device) for index in range(len(self.networks)) if index < 2]
        hidden = torch.cat([clip.hidden for clip in clips], dim=-1)
        if self.kind == "sdxl":
            embeds = PromptEmbeds(hidden, clips[-1].pooled)
            return self._with_empty_rows_zero(embeds, prompts) if self.zero_empty_prompts else embeds
        hidden = nn.functional.pad(hidden, (0, self.joint_dim - hidden.shape[-1]))
        hidden = torch.cat([hidden, self._t5(prompts, device)], dim=1)
        return PromptEmbeds(hidden, torch.cat([clip.pooled for clip in clips], dim=-1))

    def _clip(self, index: int, prompts: Sequence[str], device: torch.device) -> PromptEmbeds:
        ids = _token_ids(self.tokenizers[index], prompts, device)
        output = self.networks[index](ids, output_hidden_states=True)
        pooled = output.text_embeds if "text_embeds" in output else output.pooler_output
        return PromptEmbeds(output.hidden_states[-2].float(), pooled.float())

    def _t5(self, prompts: Sequence[str], device: torch.device) -> Float[Tensor, "b l d"]:
        if self.networks[2] is None:
            return torch.zeros(len(prompts), 256, self.joint_dim, device=device)
        ids = _token_ids(self.tokenizers[2], prompts, device)
        return self.networks[2](ids).last_hidden_state.float()

    def _with_empty_rows_zero(self, embeds: PromptEmbeds, prompts: Sequence[str]) -> PromptEmbeds:
        is_kept = torch.tensor([prompt != "" for prompt in prompts], device=embeds.hidden.device)
        return PromptEmbeds(embeds.hidden * is_kept[:, None, None], embeds.pooled * is_kept[:, None])

    def _warn_of_dropped_words(self, prompt: str) -> None:
        tokenizer = max((each for each in self.tokenizers if each is not None), key=_max_tokens)
        num_tokens, dropped = dropped_words(tokenizer, prompt)
        if dropped:
            threestudio.warn(
                f'The prompt "{prompt}" has {num_tokens} tokens but the model reads '
                f'{_max_tokens(tokenizer)}: "{dropped}" is dropped.'
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


def _max_tokens(tokenizer: Any) -> int:
    """Length of a token row; a tokenizer without one (T5) reads 256, as SD 3 was trained."""
    return tokenizer.model_max_length if tokenizer.model_max_length < 256 else 256


def _token_ids(tokenizer: Any, prompts: Sequence[str], device: torch.device) -> Tensor:
    encoding = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=_max_tokens(tokenizer),
        truncation=True,
        return_tensors="pt",
    )
    return encoding["input_ids"].to(device)
