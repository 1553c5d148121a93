"""What an inversion is: the way from a picture up to noise, and what brings its source branch back down."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ...diffusion.sampling import Predict, ddim_step, guided_by, trajectory
from ...errors import check_values
from .setting import Inverted, Setting


@dataclass(frozen=True)
class PictureInversion(ABC):
    """A way to invert. A subclass is a frozen dataclass whose fields are the method's constants."""

    guides_source: ClassVar[bool] = False
    """Whether its source branch has guidance whatever the control says."""
    is_followed: ClassVar[bool] = False
    """Whether its source branch is put on the inverted latents, so that its own steps do not matter."""

    def check(self, key: str) -> None:  # noqa: B027  # some have no fields
        """Override: refuse values of the fields that cannot be used; see ``ImageEditor``."""

    @abstractmethod
    def invert(self, setting: Setting, latents: Float[Tensor, "b c zh zw"]) -> Inverted:
        """The inverse of a picture.

        Args:
            setting: Of the edit.
            latents: Of the views before any edit, without noise.
        """


@dataclass(frozen=True)
class FittedInversion(PictureInversion):
    """An inversion that fits something at every step down, with constants that both published ones share."""

    guides_source: ClassVar[bool] = True

    inner_steps: int = 10
    """Steps of Adam for the first step down, at most, >= 1."""
    learning_rate: float = 1e-2
    """Of Adam at the first step down, > 0; at step i it is (1 - i / rate_steps) of it."""
    rate_steps: int = 100
    """See ``learning_rate``, >= 1."""
    tolerance: float = 1e-5
    """Loss at which the first step down has fitted enough, >= 0."""
    tolerance_growth: float = 2e-5
    """What is added to the tolerance at each further step, >= 0."""

    def check(self, key: str) -> None:
        """See ``PictureInversion``."""
        rules = {
            "inner_steps": (self.inner_steps >= 1, "at least 1"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "rate_steps": (self.rate_steps >= 1, "at least 1"),
            "tolerance": (self.tolerance >= 0, "at least 0"),
            "tolerance_growth": (self.tolerance_growth >= 0, "at least 0"),
        }
        check_values(key, self, type(self)(), rules)

    def fit(
        self, parameters: Sequence[Tensor], losses: Callable[[], Float[Tensor, "b"]], step: int, num_steps: int
    ) -> None:
        """``fit_each`` with the constants of a step down.

        Args:
            parameters: The first dimension is the view's.
            losses: Of each view, with gradient.
            step: Number of the step down, from 0.
            num_steps: Of Adam, at most.
        """
        rate = self.learning_rate * max(1 - step / self.rate_steps, 0.0)
        fit_each(parameters, losses, num_steps, rate, self.tolerance + self.tolerance_growth * step)


def ddim_inverse(
    setting: Setting, latents: Float[Tensor, "b c zh zw"], predict: Predict | None = None
) -> list[Float[Tensor, "b c zh zw"]]:
    """Latents at every timestep of the path, the noisiest first, found from the last up.

    This is DDIM's inversion (Song et al. 2020, section 4.3). The way up is without guidance, s = 1.

    Args:
        setting: Of the edit.
        latents: Without noise.
        predict: The noise in latents; None: that of the source prompt.
    """
    predict = predict or guided_by(setting.backbone, setting.source, setting.network.null, 1.0)
    return trajectory(setting.backbone, latents, setting.path[::-1], predict)[::-1]


def guided_step(
    setting: Setting, step: int, latents: Float[Tensor, "b c zh zw"], eps: Float[Tensor, "b c zh zw"],
    eps_null: Float[Tensor, "b c zh zw"],
) -> Float[Tensor, "b c zh zw"]:  # fmt: skip
    """One step down with guidance.

    Args:
        setting: Its path and guidance.
        step: Number of the step, from 0.
        latents: Before it.
        eps: The noise in them, with a prompt.
        eps_null: What guidance leads away from.
    """
    guided = eps_null + setting.guidance_scale * (eps - eps_null)
    return ddim_step(setting.backbone, latents, guided, setting.path[step], setting.path[step + 1])


def fit_each(
    parameters: Sequence[Tensor], losses: Callable[[], Float[Tensor, "b"]], num_steps: int, learning_rate: float,
    tolerance: float,
) -> None:  # fmt: skip
    """Adam on parameters of several views, each as it would be fitted alone.

    Args:
        parameters: The first dimension is the view's.
        losses: Of each view, with gradient; a view is left alone after the step at which its loss was below the
            tolerance.
        num_steps: At most.
        learning_rate: Of Adam.
        tolerance: Of the losses.
    """
    optimizer = torch.optim.Adam(list(parameters), lr=learning_rate)
    is_done = torch.zeros(len(parameters[0]), dtype=torch.bool, device=parameters[0].device)
    for _ in range(num_steps):
        with torch.enable_grad():
            loss = losses()
            optimizer.zero_grad()
            loss.sum().backward()
        before = [each.detach().clone() for each in parameters]
        optimizer.step()
        with torch.no_grad():
            for each, kept in zip(parameters, before, strict=True):
                each[is_done] = kept[is_done]
        is_done = is_done | (loss.detach() < tolerance)
        if bool(is_done.all()):
            return


def mse(given: Float[Tensor, "b *rest"], wanted: Float[Tensor, "b *rest"]) -> Float[Tensor, "b"]:
    """Mean squared difference of each view."""
    return (given - wanted).square().flatten(1).mean(1)
