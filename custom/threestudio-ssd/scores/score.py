"""What a score is: an equation over noise predictions, what else it may read, and the table of scores by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..named import NamedClass, registrar
from ..ranks import ALONE, Rank
from .branches import Branch, Predictions


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ScoreInputs:
    """What one step knows besides its noise predictions; a score reads it by attribute.

    The guidance gives every field. A direct call of a score gives what that score reads, and may also give a derived
    value, such as ``t_frac``, in place of what it is derived from.

    Args:
        given: Values by the names below; None counts as not given.

    Raises:
        TypeError: If a name is none of an input.
        AttributeError: If an attribute is read that was not given and does not follow from what was given.
    """

    latents_tgt: Float[Tensor, "b c zh zw"]
    """Clean latents of the edit."""
    latents_src: Float[Tensor, "b c zh zw"]
    """Clean latents of the source."""
    latents_noisy_tgt: Float[Tensor, "b c zh zw"]
    """The edit's with the noise of ``timesteps``."""
    latents_noisy_src: Float[Tensor, "b c zh zw"]
    """The source's with the same noise."""
    noise: Float[Tensor, "b c zh zw"]
    """Standard normal noise, shared by edit and source."""
    timesteps: Int[Tensor, "b"]
    """Of each view, 0 .. T - 1."""
    alphas_cumprod_table: Float[Tensor, "t"]
    """The model's signal variances abar at all of its T timesteps."""
    alphas_cumprod_prev: Float[Tensor, "b 1 1 1"]
    """For direct calls alone: what ``alphas_cumprod_before`` answers, whatever the stride."""
    step: int
    """Step of the run, 0 .. num_steps - 1."""
    num_steps: int
    """Length of the run."""
    image_condition: Float[Tensor, "b c zh zw"]
    """Source latents as InstructPix2Pix reads them; given for such a model alone."""
    generators: tuple[torch.Generator, ...]
    """One of the score's own random stream for each edit of the batch; the views of an edit follow each other."""
    rank: Rank = ALONE
    """Which of several processes these views are of."""

    def __init__(self, **given: Any) -> None:
        for name in given:
            if name not in INPUTS:
                raise TypeError(f"{name} is no input of a score; the inputs are {', '.join(INPUTS)}")
        vars(self).update({name: value for name, value in given.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        why = "which was not given" if name in INPUTS else "which is no input of a score"
        raise AttributeError(f"{name}, {why}", name=name, obj=self)

    @cached_property
    def t_frac(self) -> Float[Tensor, "b 1 1 1"]:
        """t / T in [0, 1)."""
        table = self.alphas_cumprod_table
        return (self.timesteps.to(table) / len(table)).view(-1, 1, 1, 1)

    @cached_property
    def alphas_cumprod(self) -> Float[Tensor, "b 1 1 1"]:
        """Signal variance abar at t."""
        return self.alphas_cumprod_at(self.timesteps)

    @cached_property
    def betas(self) -> Float[Tensor, "b 1 1 1"]:
        """Noise variance that the single step to t adds: 1 - abar_t / abar_(t - 1)."""
        return 1 - self.alphas_cumprod_at(self.timesteps) / self.alphas_cumprod_at(self.timesteps - 1)

    @cached_property
    def generator(self) -> torch.Generator:
        """The first edit's generator, for what all views share."""
        return self.generators[0]

    @property
    def latents_noisy(self) -> dict[str, Float[Tensor, "b c zh zw"]]:
        """Noisy latents by the names that branches use."""
        return {"tgt": self.latents_noisy_tgt, "src": self.latents_noisy_src}

    def alphas_cumprod_at(self, timesteps: Int[Tensor, "b"]) -> Float[Tensor, "b 1 1 1"]:
        """Signal variance at any timesteps; those below 0 count as 0."""
        return self.alphas_cumprod_table[timesteps.clamp(min=0)].view(-1, 1, 1, 1)

    def alphas_cumprod_before(self, stride: int) -> Float[Tensor, "b 1 1 1"]:
        """Signal variance ``stride`` timesteps before t."""
        if "alphas_cumprod_prev" in vars(self):
            return self.alphas_cumprod_prev
        return self.alphas_cumprod_at(self.timesteps - stride)

    def new_noise(self) -> Float[Tensor, "b c zh zw"]:
        """Fresh standard normal noise for each view; each edit's is what it would get alone."""
        latents = self.latents_tgt
        shape = (len(latents) // len(self.generators), *latents.shape[1:])
        return torch.cat([self.rank.randn(shape, each) for each in self.generators]).to(latents)


INPUTS = (
    *(field.name for field in fields(ScoreInputs)),
    *(name for name, member in vars(ScoreInputs).items() if isinstance(member, cached_property)),
)
"""Names that a direct call may give."""


@dataclass(frozen=True)
class Score(ABC):
    """A published equation. A subclass is a frozen dataclass whose fields are the equation's constants.

    It says which noise predictions it reads (``branches``) and what it makes of them (``evaluate``). Calling it
    evaluates it, with all inputs of a step or with the few it reads: ``score(eps, inputs)``, ``score(eps, noise=...)``.
    """

    @property
    @abstractmethod
    def branches(self) -> tuple[Branch, ...]:
        """Every noise prediction that it may read in some step."""

    def branches_at(self, inputs: ScoreInputs) -> tuple[Branch, ...]:
        """The predictions that it reads in this step; all, unless a subclass knows better."""
        return self.branches

    @abstractmethod
    def evaluate(self, eps: Predictions, inputs: ScoreInputs) -> Float[Tensor, "b c zh zw"]:
        """The equation: what is fed back to the latents.

        Args:
            eps: The noise predictions of ``branches_at``.
            inputs: What else the step knows.
        """

    def __call__(self, eps: Predictions, inputs: ScoreInputs | None = None, **given: Any) -> Float[Tensor, "b c zh zw"]:
        """``evaluate``, with ``inputs`` or with some of them by keyword.

        Raises:
            TypeError: If a keyword is no input, if both are given, or if an input that is read was not given.
        """
        if inputs is not None and given:
            raise TypeError(f"{type(self).__name__} takes inputs or keywords, not both: {', '.join(given)}")
        inputs = ScoreInputs(**given) if inputs is None else inputs
        try:
            return self.evaluate(eps, inputs)
        except AttributeError as error:
            if error.obj is not inputs:
                raise
            raise TypeError(f"the score {type(self).__name__} reads {error}") from error


SCORES: dict[str, type[Score]] = {}
"""Score classes by the name configs use."""


def register_score(name: str) -> Callable[[NamedClass], NamedClass]:
    """Make a score known to configs under ``name``; use as a decorator, in this package or in any other file.

    Raises:
        TypeError: If the class is no ``Score``.
        ValueError: If another class holds the name. The same definition, imported again, replaces itself.
    """
    return registrar(name, SCORES, Score, kind="score", kinds="scores")
