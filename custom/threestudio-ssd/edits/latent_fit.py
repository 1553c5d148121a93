"""A radiance field of latents from what photographs are encoded to (ED-NeRF, Park et al. 2023, arXiv:2310.02712)."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from torch.optim import Optimizer

from ..data.photos import Photos
from ..diffusion import Backbone, ModelKeys, backbone_of
from ..errors import check_values
from ..fields import LatentField, LatentSpace, Lattice, Refiner
from ..fields.refiner import GROUPS
from ..latents import name_of
from ..metrics import psnr
from ..seeds import Stream, generator
from .edit import Facts
from .field_fit import FieldFit, FieldFitConfig, FieldFitting, FieldRates

WHOLE = 0.98
"""Share of a latent cell that has to lie inside the photograph for it to count."""


@dataclass
class LatentRates(FieldRates):
    """The same for a field of latents."""

    sh0: Any = 0.1
    """Of the latents."""
    refiner: Any = 1e-3
    """Of the refining layer's weights; 0: rendered latents are taken as they are."""


@dataclass
class LatentFitConfig(FieldFitConfig):
    """Keys of a fit of a radiance field of latents."""

    autoencoder: ModelKeys = field(default_factory=ModelKeys)
    """The model whose latents are fitted; only its VAE is used."""
    refiner_width: int | None = 32
    """Channels inside the refining layer, a multiple of 8; none: the first layers of the VAE's decoder, with their
    weights, as ED-NeRF has it."""
    refined_views: int = 2
    """Views a step that are rendered whole and refined, >= 1."""
    lambda_refined: float = 1.0
    """Weight of the squared error of refined latents, >= 0."""
    lambda_rgb: float = 1.0
    """Weight of the squared error of what refined latents decode to, >= 0."""
    learning_rates: LatentRates = field(default_factory=LatentRates)
    """Per attribute; they fall to a tenth over the run."""


class LatentPhotos:
    """Photographs as an autoencoder gives them.

    Args:
        photos: Where the fit runs.
        backbone: Has the autoencoder.
        size: Shorter side as they are encoded, pixels; None: the median of theirs.

    Attributes:
        size: Shorter side as they were encoded, a multiple of a latent cell's.
        latents: Cameras of the latent cells, and what each should show.
        pictures: (3 h w) the photographs as they were encoded.
    """

    def __init__(self, photos: Photos, backbone: Backbone, size: int | None = None) -> None:
        cameras, cell = photos.cameras, backbone.downscale
        shorter = size or float(torch.minimum(cameras.widths, cameras.heights).median())
        self.size = max(1, round(shorter / cell)) * cell
        self.pictures, latents, inside, scales = [], [], [], []
        for image, is_inside in zip(photos.images, photos.inside, strict=True):
            height, width = (max(1, round(side * self.size / min(image.shape[:2]) / cell)) for side in image.shape[:2])
            picture = interpolate(
                image.permute(2, 0, 1)[None], (height * cell, width * cell), mode="bilinear", antialias=True
            )
            self.pictures.append(picture[0])
            latents.append(backbone.encode(picture)[0].permute(1, 2, 0))
            inside.append(adaptive_avg_pool2d(is_inside[None].float(), (height, width))[0] > WHOLE)
            scales.append((width, height))
        widths, heights = torch.tensor(scales).to(cameras.widths).unbind(1)
        self.latents = Photos(cameras.drawn_at(widths, heights), latents, inside)


class LatentFitting(FieldFitting):
    """A field and a refining layer that move towards the latents of photographs.

    Single cells are fitted ray by ray, as colours are; whole views are refined, and held against their latents and,
    when decoded, against their photographs.

    Args:
        cfg: Keys of ``LatentFitConfig``.
        photos: What it should look like.
        lattice: The coarsest one, whole.
        space: What latents mean, with the refining layer that is trained.
    """

    def __init__(self, cfg: Any, photos: LatentPhotos, lattice: Lattice, space: LatentSpace) -> None:
        super().__init__(cfg, photos.latents, lattice, space.behind)
        self.space, self.refiner, self.pictures = space, space.refiner, photos.pictures

    def field(self) -> LatentField:
        """The field as it is now, with gradient."""
        return LatentField(self.lattice, **self.values, space=self.space)

    def make_optimizers(self) -> list[Optimizer]:
        """One, with a group for each attribute and one for the refining layer."""
        (optimizer,) = super().make_optimizers()
        optimizer.add_param_group({"params": list(self.refiner.parameters()), "name": "refiner"})
        return [optimizer]

    def loss(self, step: int) -> tuple[Tensor, Facts]:
        """Of some cells what ``FieldFitting`` says, and of some views what they are refined and decoded to."""
        loss, facts = super().loss(step)
        count = min(self.cfg.refined_views, len(self.pictures))
        order = torch.randperm(len(self.pictures), generator=generator(self.cfg.seed, step, Stream.VIEW_ORDER))
        errors = torch.stack([self._view_errors(row) for row in order[:count].tolist()]).mean(dim=0)
        loss = loss + (errors * errors.new_tensor([self.cfg.lambda_refined, self.cfg.lambda_rgb])).sum()
        refined, decoded = errors.detach().unbind()
        decibels = {"psnr": -10 * torch.log10(decoded.clamp_min(1e-10))} if self.cfg.lambda_rgb else {}
        return loss, {"loss": loss.detach(), "nodes": facts["nodes"], "refined": refined, **decibels}

    def _view_errors(self, row: int) -> Float[Tensor, "2"]:
        """Mean squared errors of a whole view: of its refined latents, and of what they decode to."""
        inside = self.photos.inside[row][None, None]
        latents, _, _ = self.field().render_latents(self.photos.cameras[row])
        target = self.photos.images[row].permute(2, 0, 1)[None]
        errors = [(latents - target).square().mean(dim=1, keepdim=True)]
        if self.cfg.lambda_rgb:
            change = self.space.pictures(latents) - self.pictures[row]
            errors.append(change.square().mean(dim=1, keepdim=True))
        means = [(each * _stretched(inside, each)).mean() / inside.float().mean().clamp_min(1e-6) for each in errors]
        return torch.stack([*means, *[means[0].new_zeros(())] * (2 - len(means))])


def _stretched(inside: Bool[Tensor, "1 1 zh zw"], like: Float[Tensor, "1 1 h w"]) -> Float[Tensor, "1 1 h w"]:
    """Which pixels of a picture belong to cells that count."""
    return interpolate(inside.float(), like.shape[-2:])


class LatentFit(FieldFit):
    """What ``FieldFit`` is, for a field of latents.

    Args:
        cfg: Keys of ``LatentFitConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used, or a model that cannot be had.
        SceneFormatError: For a splat or a model that cannot be read.
    """

    rates = LatentRates
    encoded: LatentPhotos

    def __init__(self, cfg: DictConfig) -> None:
        width = cfg.refiner_width
        check_values("system", cfg, LatentFitConfig(), {
            "sh_degree": (cfg.sh_degree == 0, "0: latents are the same from all sides"),
            "refiner_width": (width is None or 0 < width and width % GROUPS == 0, f"none, or a multiple of {GROUPS}"),
            "refined_views": (cfg.refined_views >= 1, "at least 1"),
            "lambda_refined": (0 <= cfg.lambda_refined < math.inf, "at least 0, and finite"),
            "lambda_rgb": (0 <= cfg.lambda_rgb < math.inf, "at least 0, and finite"),
        })  # fmt: skip
        super().__init__(cfg)
        self.backbone = backbone_of(cfg.autoencoder, self.device)
        self.backbone.free_text_encoder()

    def fitting(self, lattice: Lattice) -> LatentFitting:
        """Encode the photographs, and lay out the fit."""
        with torch.no_grad():
            self.encoded = LatentPhotos(self.photos, self.backbone)
            side = self.encoded.size
            behind = self.backbone.encode(self.background[None, :, None, None].expand(1, 3, side, side))
        backbone, draws = self.backbone, generator(self.cfg.seed, 0, Stream.START)
        width, channels = self.cfg.refiner_width, backbone.latent_channels
        refiner = (
            Refiner.of_decoder(channels, backbone.vae, draws) if width is None
            else Refiner.drawn(channels, width, draws)
        )  # fmt: skip
        space = LatentSpace(
            name_of(backbone), backbone.downscale, side, behind.mean(dim=(0, 2, 3)), refiner.to(self.device),
            backbone.decode,
        )  # fmt: skip
        return LatentFitting(self.cfg, self.encoded, lattice, space)

    @torch.no_grad()
    def autoencoder_psnr(self) -> float:
        """Mean PSNR of what the autoencoder alone makes of the images that judge, dB: as good as a fit can get."""
        encoded = LatentPhotos(self.judges.to(self.device), self.backbone, self.encoded.size)
        values = [
            float(psnr(self.backbone.decode(latents.permute(2, 0, 1)[None]), picture[None]))
            for latents, picture in zip(encoded.latents.images, encoded.pictures, strict=True)
        ]
        return sum(values) / len(values)
