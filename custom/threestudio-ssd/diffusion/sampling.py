"""Deterministic sampling with any backbone: noise to image, image to noise, and known parts put back.

The step is that of DDIM (Song et al. 2020, arXiv:2010.02502, Eq. 12 with sigma = 0). With ``abar_t`` the signal
variance of timestep t and ``eps`` the predicted noise,

    z_0 = (z_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)
    z_s = sqrt(abar_s) z_0 + sqrt(1 - abar_s) eps

The same step leads to less noise (s < t, ``denoise``) and to more (s > t, ``invert``). A path is a list of timesteps
that ends in 0, and 0 stands for latents without noise (abar = 1).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .backbone import Backbone
from .prompts import PromptEmbeds

Predict = Callable[[Tensor, int], Tensor]
"""Noisy latents and their timestep -> epsilon."""


def timesteps_down(backbone: Backbone, num_steps: int, start_frac: float = 1.0) -> list[int]:
    """An even path of timesteps from noise to the clean latents.

    Args:
        backbone: Its last timestep is where 1 starts; pure noise (abar = 0) is left out, since no clean latents follow
            from it.
        num_steps: Steps, >= 1.
        start_frac: Where to start, in (0, 1]; less keeps more of an image (SDEdit).

    Returns:
        num_steps + 1 timesteps, falling, 0 last.

    Raises:
        ValueError: If a number is out of range.
    """
    if num_steps < 1 or not 0 < start_frac <= 1:
        raise ValueError(f"num_steps must be >= 1 and start_frac in (0, 1], got {num_steps} and {start_frac}")
    last = int(backbone.alphas_cumprod.nonzero()[-1])
    return torch.linspace(start_frac * last, 0, num_steps + 1).round().long().tolist()


def guided_by(
    backbone: Backbone,
    prompts: PromptEmbeds,
    null: PromptEmbeds,
    guidance_scale: float,
    image_condition: Float[Tensor, "b c zh zw"] | None = None,
    *,
    rescale: float = 0.0,
) -> Predict:
    """Classifier-free guidance, ``eps_null + s (eps_cond - eps_null)`` (Ho and Salimans 2022, arXiv:2207.12598).

    Both predictions are rows of one network call; at s = 1 the null prompt is not evaluated.

    Args:
        backbone: The model.
        prompts: One row for all latents, or one for each.
        null: What to be led away from: one row, usually the empty prompt.
        guidance_scale: s; 1 is no guidance.
        image_condition: Of a model that reads one; both predictions do.
        rescale: phi in [0, 1]: how far the result gets the standard deviation of eps_cond back, which guidance makes
            larger (Lin et al. 2023, arXiv:2305.08891, Eq. 15 and 16).
    """

    def predict(latents: Float[Tensor, "b c zh zw"], timestep: int) -> Float[Tensor, "b c zh zw"]:
        rows = prompts.rows(len(latents))
        condition = () if image_condition is None else (image_condition,)
        if guidance_scale == 1:
            return backbone.predict_noise(latents, timestep, rows, *condition)
        rows = PromptEmbeds.cat([rows, null.expand(len(latents))])
        condition = tuple(each.repeat(2, 1, 1, 1) for each in condition)
        both = backbone.predict_noise(latents.repeat(2, 1, 1, 1), timestep, rows, *condition)
        eps_cond, eps_null = both.chunk(2)
        return rescaled(eps_null + guidance_scale * (eps_cond - eps_null), eps_cond, rescale)

    return predict


def guided_by_image(
    backbone: Backbone,
    prompts: PromptEmbeds,
    null: PromptEmbeds,
    image_condition: Float[Tensor, "b c zh zw"],
    text_scale: float,
    image_scale: float,
    *,
    rescale: float = 0.0,
) -> Predict:
    """Guidance by an image and an instruction (InstructPix2Pix, Brooks et al. 2023, arXiv:2211.09800, Eq. 3).

    eps(z, 0, null) + s_I (eps(z, c_I, null) - eps(z, 0, null)) + s_T (eps(z, c_I, c_T) - eps(z, c_I, null)), all three
    rows of one network call; at s_I = 1 the first is not evaluated.

    Args:
        backbone: A model that reads an image.
        prompts: Instructions, one row for all latents, or one for each.
        null: One row, usually the empty prompt.
        image_condition: c_I, from ``encode_condition``.
        text_scale: s_T.
        image_scale: s_I.
        rescale: As in ``guided_by``; the standard deviation is that of eps(z, c_I, c_T).
    """
    if image_scale == 1:
        return guided_by(backbone, prompts, null, text_scale, image_condition, rescale=rescale)

    def predict(latents: Float[Tensor, "b c zh zw"], timestep: int) -> Float[Tensor, "b c zh zw"]:
        nulls = null.expand(len(latents))
        rows = PromptEmbeds.cat([prompts.rows(len(latents)), nulls, nulls])
        condition = torch.cat([image_condition, image_condition, torch.zeros_like(image_condition)])
        eps_all = backbone.predict_noise(latents.repeat(3, 1, 1, 1), timestep, rows, condition)
        eps_both, eps_image, eps_null = eps_all.chunk(3)
        eps = eps_null + image_scale * (eps_image - eps_null) + text_scale * (eps_both - eps_image)
        return rescaled(eps, eps_both, rescale)

    return predict


def rescaled(
    eps: Float[Tensor, "b c zh zw"], like: Float[Tensor, "b c zh zw"], share: float
) -> Float[Tensor, "b c zh zw"]:
    """A guided prediction with part of its contrast taken back (Lin et al. 2023, arXiv:2305.08891, Eq. 15 and 16).

    Args:
        eps: With guidance, which makes its standard deviation larger.
        like: Without.
        share: phi in [0, 1]: 0 leaves ``eps`` as it is, 1 gives it the standard deviation of ``like``.
    """
    if share == 0:
        return eps
    ratio = like.std(dim=(1, 2, 3), keepdim=True) / eps.std(dim=(1, 2, 3), keepdim=True)
    return eps.lerp(eps * ratio, share)


def ddim_step(
    backbone: Backbone, latents: Float[Tensor, "b c zh zw"], eps: Float[Tensor, "b c zh zw"], now: int, then: int
) -> Float[Tensor, "b c zh zw"]:
    """From one noise level to another, the predicted noise kept; see the equations above.

    Args:
        backbone: Its noise levels.
        latents: At ``now``.
        eps: The noise in them.
        now: Timestep of the latents; 0 is without noise.
        then: Timestep of the result; the same.
    """
    abar = backbone.alphas_cumprod[now]
    clean = (latents - (1 - abar).sqrt() * eps) / abar.sqrt() if now > 0 else latents
    return _noised(backbone, clean, eps, then)


@torch.no_grad()
def denoise(
    backbone: Backbone, latents: Float[Tensor, "b c zh zw"], timesteps: Sequence[int], predict: Predict
) -> Float[Tensor, "b c zh zw"]:
    """Follow a path down from noisy latents.

    From noise alone this makes an image. From an image's latents, noised to the first timestep, it is SDEdit, also
    called image to image (Meng et al. 2021, arXiv:2108.01073): ``denoise(backbone, backbone.add_noise(...), ...)``.

    Args:
        backbone: The model.
        latents: At the first timestep.
        timesteps: The path, as ``timesteps_down`` gives it.
        predict: The noise in latents, such as ``guided_by``.
    """
    return trajectory(backbone, latents, timesteps, predict)[-1]


@torch.no_grad()
def trajectory(
    backbone: Backbone, latents: Float[Tensor, "b c zh zw"], timesteps: Sequence[int], predict: Predict
) -> list[Float[Tensor, "b c zh zw"]]:
    """The latents at every timestep of a path, which may go down as for ``denoise`` or up as for ``invert``."""
    visited = [latents]
    for now, then in zip(timesteps[:-1], timesteps[1:], strict=True):
        visited.append(ddim_step(backbone, visited[-1], predict(visited[-1], now), now, then))
    return visited


def invert(
    backbone: Backbone, latents: Float[Tensor, "b c zh zw"], timesteps: Sequence[int], predict: Predict
) -> Float[Tensor, "b c zh zw"]:
    """Follow the same path up: the noise from which ``denoise`` comes back to these latents, to first order.

    The prediction at the end of a step is not known yet, so that at its beginning takes its place (Song et al. 2020,
    section 4.3). The way back is exact where the two agree, and the closer the shorter the steps are.

    Args:
        backbone: The model.
        latents: Without noise.
        timesteps: The path down, as for ``denoise``; it is followed from its end.
        predict: The noise in latents; guidance beyond 1 makes the way back inexact.
    """
    return denoise(backbone, latents, timesteps[::-1], predict)


def noise_in(
    backbone: Backbone, noisy: Float[Tensor, "b c zh zw"], clean: Float[Tensor, "b c zh zw"], timestep: int
) -> Float[Tensor, "b c zh zw"]:
    """(z_t - sqrt(abar) z_0) / sqrt(1 - abar): the noise with which ``add_noise`` makes z_t of z_0, at t > 0."""
    abar = backbone.alphas_cumprod[timestep]
    return (noisy - abar.sqrt() * clean) / (1 - abar).sqrt()


@torch.no_grad()
def blend(
    backbone: Backbone,
    latents: Float[Tensor, "b c zh zw"],
    is_free: Bool[Tensor, "b 1 zh zw"],
    noise: Float[Tensor, "b c zh zw"],
    timesteps: Sequence[int],
    predict: Predict,
    *,
    start: Float[Tensor, "b c zh zw"] | None = None,
) -> Float[Tensor, "b c zh zw"]:
    """Denoise a part of latents and keep the others (Avrahami et al. 2023, arXiv:2206.02779).

    After every step, the latents to be kept are put back at that step's noise level: ``z = m z + (1 - m) z_kept``.

    Args:
        backbone: The model.
        latents: Without noise; those outside the mask come back exactly.
        is_free: Which cells may change.
        noise: What the latents are noised with.
        timesteps: The path, as for ``denoise``; the first says how much of the free part is forgotten.
        predict: The noise in latents, such as ``guided_by``.
        start: What the free part starts from, without noise; None: ``latents``.
    """
    begin = latents if start is None else torch.where(is_free, start, latents)
    noisy = _noised(backbone, begin, noise, timesteps[0])
    for now, then in zip(timesteps[:-1], timesteps[1:], strict=True):
        noisy = ddim_step(backbone, noisy, predict(noisy, now), now, then)
        noisy = torch.where(is_free, noisy, _noised(backbone, latents, noise, then))
    return noisy


def _noised(backbone: Backbone, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
    return backbone.add_noise(clean, noise, timestep) if timestep > 0 else clean
