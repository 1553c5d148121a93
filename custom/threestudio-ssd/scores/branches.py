"""Noise predictions by name, and the one place that evaluates them: each once, all in one batched network call."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

LatentsName = Literal["src", "tgt"]
PromptName = Literal["src", "tgt", "null", "neg"]


class Branch(NamedTuple):
    """One noise prediction: whose latents are denoised, under whose prompt, with whose image as condition."""

    latents: LatentsName
    prompt: PromptName
    image: Literal["none", "src"] = "none"
    """Image condition of InstructPix2Pix-style networks; other networks know only "none"."""
    network: Literal["frozen", "lora"] = "frozen"
    """The pretrained network, or the same with a LoRA that is trained beside the edit (VSD, Piva)."""


Predictions = Mapping[Branch, Float[Tensor, "b c zh zw"]]
"""Evaluated noise predictions by branch."""


def guided(
    eps_cond: Float[Tensor, "b c zh zw"], eps_null: Float[Tensor, "b c zh zw"], guidance_scale: float
) -> Float[Tensor, "b c zh zw"]:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598); a scale of 1 is no guidance."""
    return eps_null + guidance_scale * (eps_cond - eps_null)


def guidance_branches(latents: LatentsName, prompt: PromptName, guidance_scale: float) -> tuple[Branch, ...]:
    """What ``guided_prediction`` reads: no null prediction at a scale of 1, no other at 0."""
    return needed({Branch(latents, "null"): 1 - guidance_scale, Branch(latents, prompt): guidance_scale})


def guided_prediction(
    eps: Predictions, latents: LatentsName, prompt: PromptName, guidance_scale: float
) -> Float[Tensor, "b c zh zw"]:
    """eps^s(latents, prompt), the guided prediction out of the evaluated ones."""
    if guidance_scale in (0, 1):
        return eps[Branch(latents, prompt if guidance_scale else "null")]
    return guided(eps[Branch(latents, prompt)], eps[Branch(latents, "null")], guidance_scale)


def weighted(eps: Predictions, weights: Mapping[Branch, float]) -> Float[Tensor, "b c zh zw"]:
    """Sum of weight times prediction over the branches whose weight is not zero."""
    return sum((weight * eps[branch] for branch, weight in weights.items() if weight != 0), torch.zeros(()))


def needed(weights: Mapping[Branch, float]) -> tuple[Branch, ...]:
    """The branches whose weight is not zero."""
    return tuple(branch for branch, weight in weights.items() if weight != 0)


def predict_branches(
    predict_noise: Callable[..., Tensor],
    branches: Iterable[Branch],
    *,
    latents_noisy: Mapping[str, Float[Tensor, "b c zh zw"]],
    timesteps: Int[Tensor, "b"],
    prompts: Mapping[str, Any],
    image_condition: Float[Tensor, "b c zh zw"] | None = None,
) -> dict[Branch, Float[Tensor, "b c zh zw"]]:
    """Evaluate the distinct ``branches`` in one call of ``predict_noise``.

    Args:
        predict_noise: ``(latents_noisy, timesteps, prompts, image_condition) -> eps``, rows independent.
        branches: What is needed; repetitions cost nothing.
        latents_noisy: Noisy latents by name ("src", "tgt"), one row a view.
        timesteps: One for each view.
        prompts: Embeddings by name, rows that can be concatenated with ``type(rows).cat``; b rows each.
        image_condition: Image latents for branches with ``image="src"``; zeros stand for "none".

    Returns:
        The prediction of each branch.

    Raises:
        ValueError: If a branch reads the source image and there is no ``image_condition``.
    """
    distinct = tuple(dict.fromkeys(branches))
    if not distinct:
        return {}
    if image_condition is None and (reading := [branch for branch in distinct if branch.image == "src"]):
        raise ValueError(f"{len(reading)} of {len(distinct)} predictions read the source picture; give image_condition")
    rows = [prompts[branch.prompt] for branch in distinct]
    condition = None
    if image_condition is not None:
        blank = torch.zeros_like(image_condition)
        condition = torch.cat([image_condition if branch.image == "src" else blank for branch in distinct])
    eps = predict_noise(
        torch.cat([latents_noisy[branch.latents] for branch in distinct]),
        timesteps.repeat(len(distinct)),
        type(rows[0]).cat(rows),
        condition,
    )
    return dict(zip(distinct, eps.chunk(len(distinct)), strict=True))
