"""Noise levels and predictions, brought to one form: epsilon on the variance-preserving scale."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels of a model, as ``z_t = sqrt(abar_t) z + sqrt(1 - abar_t) noise`` for every model.

    A rectified flow (Esser et al. 2024, arXiv:2403.03206) is trained on ``x_s = (1 - s) z + s noise``.
    Divided by ``sqrt((1 - s)^2 + s^2)`` this is the form above with ``abar = (1 - s)^2 / ((1 - s)^2 +
    s^2)``: the same noise level on another scale. Callers therefore see one kind of noisy latent, and
    `alphas_cumprod` means the same for every model; only `network_input` and `to_epsilon` know the
    difference.

    Args:
        alphas_cumprod: Signal variance ``abar_t`` of each integer timestep, in [0, 1], not increasing.
        prediction_type: What the network returns.
        sigmas: Flow times ``s`` in (0, 1] of each integer timestep; None unless `prediction_type` is "flow".
    """

    alphas_cumprod: Float[Tensor, "t"]
    prediction_type: PredictionType = "epsilon"
    sigmas: Float[Tensor, "t"] | None = None

    def __post_init__(self) -> None:
        if (self.sigmas is not None) != (self.prediction_type == "flow"):
            raise ValueError("sigmas belong to prediction_type 'flow', and to no other")

    @classmethod
    def from_sigmas(cls, sigmas: Float[Tensor, "t"]) -> "NoiseLevels":
        """Noise levels of a rectified flow from its flow times, ascending in (0, 1]."""
        signal, noise = (1 - sigmas.double()).square(), sigmas.double().square()
        return cls((signal / (signal + noise)).float(), "flow", sigmas.float())

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def to(self, device: torch.device | str) -> "NoiseLevels":
        """The same levels on `device`."""
        sigmas = None if self.sigmas is None else self.sigmas.to(device)
        return NoiseLevels(self.alphas_cumprod.to(device), self.prediction_type, sigmas)

    def coefficients(self, timesteps: Int[Tensor, "b"]) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
        """``sqrt(abar_t)`` and ``sqrt(1 - abar_t)``, shaped to multiply latents."""
        abar = self.alphas_cumprod[timesteps][:, None, None, None]
        return abar.sqrt(), (1 - abar).sqrt()

    def add_noise(
        self, latents: Float[Tensor, "b c zh zw"], noise: Float[Tensor, "b c zh zw"], timesteps: Int[Tensor, "b"]
    ) -> Float[Tensor, "b c zh zw"]:
        """``sqrt(abar_t) z + sqrt(1 - abar_t) noise`` (Ho et al. 2020, arXiv:2006.11239, Eq. 4)."""
        signal, sigma = self.coefficients(timesteps)
        return signal * latents + sigma * noise

    def network_input(
        self, latents_noisy: Float[Tensor, "b c zh zw"], timesteps: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b c zh zw"], Tensor]:
        """The latents and times the network was trained on: unchanged, or on the flow's scale with T s."""
        if self.sigmas is None:
            return latents_noisy, timesteps
        s = self.sigmas[timesteps]
        scale = ((1 - s).square() + s.square()).sqrt()[:, None, None, None]
        return latents_noisy * scale, s * len(self)

    def to_epsilon(
        self,
        prediction: Float[Tensor, "b c zh zw"],
        latents_noisy: Float[Tensor, "b c zh zw"],
        timesteps: Int[Tensor, "b"],
    ) -> Float[Tensor, "b c zh zw"]:
        """Epsilon from whatever the network predicts, given the same `latents_noisy` that `add_noise` made.

        epsilon: itself; v: ``sqrt(abar) v + sigma z_t`` (Salimans & Ho 2022, arXiv:2202.00512, App. D);
        sample: ``(z_t - sqrt(abar) x0) / sigma``; flow (``noise - z``): ``x_s + (1 - s) flow``.
        """
        if self.prediction_type == "epsilon":
            return prediction
        signal, sigma = self.coefficients(timesteps)
        if self.prediction_type == "v_prediction":
            return signal * prediction + sigma * latents_noisy
        if self.sigmas is None:
            return (latents_noisy - signal * prediction) / sigma
        flow_latents, _ = self.network_input(latents_noisy, timesteps)
        return flow_latents + (1 - self.sigmas[timesteps])[:, None, None, None] * prediction


def noise_levels(scheduler_config: Mapping[str, Any]) -> NoiseLevels:
    """Noise levels from the contents of a ``scheduler_config.json`` of diffusers, whatever scheduler it
    names.

    Raises:
        ValueError: If the config describes noise that is neither a table of betas nor a rectified flow.
    """
    name = str(scheduler_config.get("_class_name", ""))
    if name.startswith("FlowMatch") or scheduler_config.get("prediction_type") == "flow_prediction":
        num_timesteps = int(scheduler_config.get("num_train_timesteps", 1000))
        shift = float(scheduler_config.get("shift", scheduler_config.get("flow_shift", 1.0)))
        times = torch.arange(1, num_timesteps + 1, dtype=torch.float64) / num_timesteps
        return NoiseLevels.from_sigmas((shift * times / (1 + (shift - 1) * times)).float())
    if "EDM" in name:
        raise ValueError(f"scheduler {name} describes continuous EDM noise, which has no timesteps")
    prediction_type = scheduler_config.get("prediction_type", "epsilon")
    if prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(f"unknown prediction_type {prediction_type!r}")
    betas = _betas(scheduler_config)
    if scheduler_config.get("rescale_betas_zero_snr", False):
        betas = _rescaled_to_zero_snr(betas)
    return NoiseLevels(torch.cumprod(1 - betas, 0).float(), prediction_type)


def _betas(config: Mapping[str, Any]) -> Float[Tensor, "t"]:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    schedule = config.get("beta_schedule", "linear")
    num_timesteps = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if schedule == "linear":
        return torch.linspace(start, end, num_timesteps, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, num_timesteps, dtype=torch.float64).square()
    if schedule == "squaredcos_cap_v2":  # Nichol & Dhariwal 2021, arXiv:2102.09672, Eq. 17
        times = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
        abar = ((times + 0.008) / 1.008 * torch.pi / 2).cos().square()
        return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)
    raise ValueError(f"unknown beta_schedule {schedule!r}")


def _rescaled_to_zero_snr(betas: Float[Tensor, "t"]) -> Float[Tensor, "t"]:
    """Betas whose last timestep is pure noise (Lin et al. 2023, arXiv:2305.08891, Algorithm 1)."""
    root = torch.cumprod(1 - betas, 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root.square()
    return 1 - torch.cat([abar[:1], abar[1:] / abar[:-1]])
