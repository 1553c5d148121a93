"""The contrastive term at work: features of source and target out of the network calls of a step, gradient and all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from ..diffusion import AttentionTaps, Backbone
from ..errors import ConfigError, check_values
from ..scores import CDS, Branch, ScoreInputs


@dataclass
class CDSConfig:
    """Keys of the contrastive regulariser (CDS, arXiv:2311.18608)."""

    weight: float = 0.0
    """Weight of the energy, 3.0 as published; at 0 nothing of it is evaluated."""
    num_patches: int = 256
    """Places drawn in each self-attention map, at most; >= 2."""
    patch_sizes: list[int] = field(default_factory=lambda: [1, 2])
    """Sides of the patches, cells of the map, >= 1."""
    temperature: float = 0.07
    """Of the softmax over places, > 0."""
    layers: list[int] = field(default_factory=list)
    """Which self-attention layers on the way up, 0 the coarsest's first; empty: all, as published."""


class ContrastTerm:
    """Evaluates a step's predictions with features, each prediction once, and the gradient of the energy.

    The target's conditional prediction runs by itself with gradient; its value serves the score too. All others, and
    the source's conditional one for the reference, share one call without gradient.

    Args:
        cfg: Keys, with a weight above 0.
        backbone: The network; frozen, so that no gradient collects in its weights.

    Raises:
        ConfigError: If a value is out of range, or the network has no such layers.
    """

    def __init__(self, cfg: CDSConfig | DictConfig, backbone: Backbone) -> None:
        self.backbone = backbone
        num_layers = len(AttentionTaps(backbone).layer_names)
        _check(cfg, num_layers)
        self.layers = list(cfg.layers) or list(range(num_layers))
        self.cds = CDS(cfg.weight, cfg.num_patches, tuple(cfg.patch_sizes), cfg.temperature)
        self.source, self.target = CDS.branches
        if backbone.has_image_condition:  # an instruction is no caption of the source: its null prompt stands for it
            self.source = self.source._replace(prompt="null", image="src")
            self.target = self.target._replace(image="src")

    @property
    def branches(self) -> tuple[Branch, Branch]:
        """The predictions whose features are compared."""
        return self.source, self.target

    def __call__(
        self, branches: Iterable[Branch], inputs: ScoreInputs, predict: Callable[..., dict], places: torch.Generator
    ) -> tuple[dict[Branch, Tensor], Float[Tensor, "b c zh zw"]]:
        """Predictions of ``branches``, and the gradient of the energy on the latents.

        Args:
            branches: What the score reads.
            inputs: Latents, noise and timesteps of the step.
            predict: ``predict_branches`` at the step's timesteps, prompts and image condition.
            places: Draws the places.
        """
        latents = inputs.latents_tgt
        others = tuple(dict.fromkeys((self.source, *(b for b in branches if b != self.target))))
        with AttentionTaps(self.backbone) as taps:
            eps = predict(self.backbone.predict_noise, others, latents_noisy=inputs.latents_noisy)
        maps_src = [each[: len(latents)] for each in self._chosen(taps)]
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            noisy = {self.target.latents: self.backbone.add_noise(leaf, inputs.noise, inputs.timesteps)}
            with AttentionTaps(self.backbone) as taps:
                with_grad = partial(self.backbone.predict_noise, with_grad=True)
                eps |= predict(with_grad, (self.target,), latents_noisy=noisy)
            num_cells = latents.shape[-2] * latents.shape[-1]
            energy = self.cds(maps_src, self._chosen(taps), num_cells=num_cells, generator=places)
            (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        eps[self.target] = eps[self.target].detach()
        return eps, gradient

    def _chosen(self, taps: AttentionTaps) -> list[Tensor]:
        return [taps.calls[-1][index] for index in self.layers]


def _check(cfg: CDSConfig | DictConfig, num_layers: int) -> None:
    key = "system.guidance.cds"
    wrong = [index for index in cfg.layers if not 0 <= index < num_layers]
    if wrong:
        expected, fix = f"0 to {num_layers - 1} for this network", f"set {key}.layers=[] for all of them"
        raise ConfigError(what=f"{key}.layers holds {wrong[0]}", expected=expected, fix=fix)
    check_values(key, cfg, CDSConfig(weight=CDS().weight), {
        "weight": (cfg.weight > 0, "at least 0"),
        "num_patches": (cfg.num_patches >= 2, "at least 2"),
        "patch_sizes": (len(cfg.patch_sizes) > 0 and min(cfg.patch_sizes) >= 1, "sides of at least 1 cell"),
        "temperature": (cfg.temperature > 0, "above 0"),
    })  # fmt: skip
