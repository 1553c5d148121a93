"""A radiance field of latents (ED-NeRF, Park et al. 2023, arXiv:2310.02712): nodes hold what a diffusion model sees.

Its renders are latents, a cell of the autoencoder each in place of a pixel; a layer refines them, and the autoencoder's
decoder makes pictures of them for people. An edit needs neither pictures nor the encoder.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ..cameras import Cameras
from ..errors import ConfigError
from ..gaussians.sh import sh0_from_rgbs
from .lattice import Lattice
from .marching import Samples
from .model import RadianceField, SampleStore
from .rays import Rays
from .refiner import Refiner

DECODED_AT_ONCE = 1 << 12
"""Nodes whose colours are looked up together."""


@dataclass(frozen=True)
class AutoencoderName:
    """Which autoencoder latents are of.

    Attributes:
        checksum: Of its weights; what counts.
        model: Folder or hub id of the model it was read with.
        revision: Commit of the hub's model.
        vae: Folder or hub id, where it is not the model's own.
        vae_revision: Commit of that.
    """

    checksum: str
    model: str
    revision: str | None = None
    vae: str | None = None
    vae_revision: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """What a field's latents mean.

    Attributes:
        autoencoder: Whose latents they are.
        downscale: Pixels of a latent cell's side.
        size: Shorter side of the pictures that the field was fitted to, pixels; latents are rendered as of such.
        behind: (d) the latent behind the field.
        refiner: Refines rendered latents.
        decode: Latents to pictures in [0, 1]; None: not at hand.
    """

    autoencoder: AutoencoderName
    downscale: int
    size: int
    behind: Float[Tensor, "d"]
    refiner: Refiner
    decode: Callable[[Tensor], Tensor] | None = None

    def to(self, device: torch.device | str) -> "LatentSpace":
        """The same on another device."""
        if self.behind.device == torch.device(device):
            return self
        return replace(self, behind=self.behind.to(device), refiner=deepcopy(self.refiner).to(device))

    def cells(self, width: int, height: int) -> tuple[int, int]:
        """Latent cells along the sides of a picture: as many as one of this aspect had in the fit."""
        scale = self.size / min(width, height) / self.downscale
        return max(1, round(width * scale)), max(1, round(height * scale))

    def pictures(self, latents: Float[Tensor, "b d zh zw"]) -> Float[Tensor, "b 3 h w"]:
        """What latents show, in [0, 1].

        Raises:
            ConfigError: If the autoencoder is not at hand.
        """
        if self.decode is None:
            raise ConfigError(
                what="the scene is a radiance field of latents, which cannot be shown here without its autoencoder",
                expected="a splat, or a radiance field of colours",
                fix="make a splat of it: launch.py --run convert my.field my.ply",
            )
        return self.decode(latents)


class LatentField(RadianceField):
    """Densities and latents at nodes; ``sh0`` holds the latents, which are the same from all sides.

    Args:
        lattice: (n nodes).
        raw_densities: As of ``RadianceField``.
        sh0: (n 1 d) latents.
        shN: (n 0 d).
        space: What they mean.
        store: As of ``RadianceField``.
        opaque: The same.
    """

    def __init__(
        self,
        lattice: Lattice,
        raw_densities: Float[Tensor, "n"],
        sh0: Float[Tensor, "n 1 d"],
        shN: Float[Tensor, "n rest d"],
        *,
        space: LatentSpace,
        store: SampleStore | None = None,
        opaque: Float[Tensor, "n"] | None = None,
    ) -> None:
        self.space, self.channels = space.to(sh0.device), len(space.behind)
        super().__init__(lattice, raw_densities, sh0, shN, store=store, opaque=opaque)

    def like(self, lattice: Lattice, **values: Any) -> "LatentField":
        """See ``RadianceField.like``."""
        return LatentField(lattice, space=self.space, **values)

    def decoded_by(self, decode: Callable[[Tensor], Tensor]) -> "LatentField":
        """The same field with its decoder at hand."""
        space = replace(self.space, decode=decode)
        return LatentField(self.lattice, **self.parameters(), space=space, store=self.store, opaque=self.opaque)

    @property
    def sh0_shown(self) -> Float[Tensor, "n 1 3"]:
        """Roughly the colour of each node: that of a picture of its latent alone."""
        parts = self.sh0[:, 0, :, None, None].split(DECODED_AT_ONCE)
        rgbs = torch.cat([self.space.pictures(part).mean(dim=(2, 3)) for part in parts])
        return sh0_from_rgbs(rgbs)[:, None]

    def render_rays(
        self, rays: Rays, samples: Samples, background: Float[Tensor, "d"],
        colors: Float[Tensor, "n d"] | None = None, sh_degree: int | None = None,
    ) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r"], Float[Tensor, "r"]]:  # fmt: skip
        """See ``RadianceField.render_rays``; without ``colors``, latents that are not refined."""
        colors = self.sh0[:, 0] if colors is None else colors
        return super().render_rays(rays, samples, background, colors)

    def render_latents(
        self, cameras: Cameras
    ) -> tuple[Float[Tensor, "c d zh zw"], Float[Tensor, "c 1 zh zw"], Float[Tensor, "c 1 zh zw"]]:
        """Refined latents of all cameras, which share one size; alphas and depths of the cells.

        Args:
            cameras: Views; of their size the aspect counts alone.
        """
        views = cameras.resized(*self.space.cells(int(cameras.widths[0]), int(cameras.heights[0])))
        latents, *rest = (each.permute(0, 3, 1, 2) for each in super().render(views, self.space.behind))
        return self.space.refiner(latents), *rest  # pyright: ignore[reportReturnType]  # two of them

    def render(
        self, cameras: Cameras, background: Float[Tensor, "d2"], colors: Float[Tensor, "n d2"] | None = None,
        sh_degree: int | None = None,
    ) -> tuple[Float[Tensor, "c h w d3"], Float[Tensor, "c h w 1"], Float[Tensor, "c h w 1"]]:  # fmt: skip
        """Decoded pictures, at the size of the cameras; with ``colors`` as of ``RadianceField``.

        Args:
            cameras: Views.
            background: Behind the field, where there are ``colors``; else the latent it was fitted with is.
            colors: Values to blend in place of latents.
            sh_degree: Of no effect.

        Raises:
            ConfigError: If the autoencoder is not at hand.
        """
        if colors is not None:
            return super().render(cameras, background, colors)
        latents, alphas, depths = self.render_latents(cameras)
        size = (int(cameras.heights[0]), int(cameras.widths[0]))
        pictures = self.space.pictures(latents)
        if pictures.shape[-2:] != size:
            pictures = interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
        alphas, depths = (interpolate(each, size, mode="bilinear", align_corners=False) for each in (alphas, depths))
        return tuple(each.permute(0, 2, 3, 1) for each in (pictures, alphas, depths))  # pyright: ignore[reportReturnType]  # three of them
