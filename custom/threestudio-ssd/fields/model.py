"""A radiance field: densities and colours at the nodes of a lattice (as in DVGO and Plenoxels), and its renders.

It stands wherever Gaussians do: its nodes have places, colours and rows that are selected, edited or kept as those of
Gaussians are. Between nodes all values are interpolated; density becomes opaque only after that, so that surfaces can
be sharper than a cell (Sun et al. 2022, post-activation).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag, softplus

from ..cameras import Cameras
from ..gaussians.placed import Placed
from ..gaussians.sh import sh_basis
from .lattice import Lattice
from .marching import STEP, Samples, march
from .rays import Rays, rays_of
from .volume import composite, ray_weights, transmittances

PARAMETERS = ("raw_densities", "sh0", "shN")
RAYS_AT_ONCE = 1 << 15
"""Rays that are rendered together where no gradient is asked for."""
KEPT_SAMPLES = 12_000_000
"""Samples that are kept from one render of a view to the next, 32 bytes each."""
UNSEEN = 1e-3
"""Share of the light below which what lies behind is left out of samples that are kept."""


class SampleStore:
    """Samples of views that are rendered again and again; of the lattice alone, so they never change."""

    def __init__(self) -> None:
        self.samples: dict[bytes, Samples] = {}
        self.size = 0

    def keep(self, key: bytes, samples: Samples) -> None:
        """Remember the samples of a view, as long as there is room."""
        if self.size + len(samples) <= KEPT_SAMPLES:
            self.samples[key] = samples
            self.size += len(samples)


class RadianceField(Placed):
    """Densities and colours at nodes.

    Args:
        lattice: (n nodes).
        raw_densities: (n) softplus of them, interpolated, is the optical depth of one cell's side.
        sh0: (n 1 3) spherical harmonic of degree 0, as in ``Gaussians``.
        shN: (n k-1 3) the higher degrees, of the direction along the ray.
        store: Keeps samples of views; None: nothing is kept.
        opaque: For kept samples: optical depths that will never shrink, (n) raw; what they hide is left out.

    Raises:
        ValueError: If the shapes do not belong together.
    """

    origin = None
    parts = "nodes"
    is_antialiased = False
    channels = 3
    """Values of a colour."""

    def __init__(
        self,
        lattice: Lattice,
        raw_densities: Float[Tensor, "n"],
        sh0: Float[Tensor, "n 1 d"],
        shN: Float[Tensor, "n rest d"],
        *,
        store: SampleStore | None = None,
        opaque: Float[Tensor, "n"] | None = None,
    ) -> None:
        self.lattice, self.raw_densities, self.sh0, self.shN = lattice, raw_densities, sh0, shN
        self.store, self.opaque = store, opaque
        shapes = {"raw_densities": (), "sh0": (1, self.channels), "shN": (shN.shape[1], self.channels)}
        for name, shape in shapes.items():
            actual = tuple(getattr(self, name).shape)
            if actual != (len(lattice), *shape):
                raise ValueError(f"{name} has shape {actual}, expected {(len(lattice), *shape)}")

    def __len__(self) -> int:
        return len(self.lattice)

    def like(self, lattice: Lattice, **values: Any) -> "RadianceField":
        """A field of the same kind.

        Args:
            lattice: Of the other field.
            **values: Its parameters by name, and ``store`` and ``opaque``.
        """
        return RadianceField(lattice, **values)

    @property
    def means(self) -> Float[Tensor, "n 3"]:
        """Where the nodes are, world."""
        return self.lattice.means

    @property
    def opacities(self) -> Float[Tensor, "n"]:
        """Alpha of one cell's side at each node, in [0, 1]."""
        return 1 - (-softplus(self.raw_densities)).exp()

    @property
    def sh_degree(self) -> int:
        """Highest degree of the spherical harmonics held."""
        return math.isqrt(self.shN.shape[1] + 1) - 1

    @property
    def sh0_shown(self) -> Float[Tensor, "n 1 3"]:
        """The colour of each node, from all sides."""
        return self.sh0

    @property
    def sh(self) -> Float[Tensor, "n k d"]:
        """All spherical harmonics, degree 0 first."""
        return torch.cat([self.sh0, self.shN], dim=1)

    @property
    def device(self) -> torch.device:
        """Where the values live."""
        return self.sh0.device

    @property
    def origin_rows(self) -> Int[Tensor, "n"]:
        """A field is written whole, so no node stems from a row of a file: -1."""
        return torch.full((len(self),), -1)

    def parameters(self) -> dict[str, Tensor]:
        """The three tensors by name."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def replace(self, *, origin_rows: Any = None, **values: Tensor) -> "RadianceField":
        """Other values at the same nodes; samples stay kept."""
        parameters: dict[str, Any] = {**self.parameters(), **values}
        return self.like(self.lattice, **parameters, store=self.store, opaque=self.opaque)

    def detach(self) -> "RadianceField":
        """The same values, cut from the graph."""
        return self._map(Tensor.detach)

    def to(self, device: torch.device | str) -> "RadianceField":
        """The same field on another device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.parameters().items()}
        return self if self.device == torch.device(device) else self.like(self.lattice.to(device), **moved)

    def select(self, index: Tensor | Sequence[int] | slice) -> "RadianceField":
        """Some of the nodes; cells that lose a corner become empty."""
        index = index if isinstance(index, slice) else torch.as_tensor(index, device=self.device)
        values: dict[str, Any] = {name: tensor[index] for name, tensor in self.parameters().items()}
        return self.like(self.lattice.select(index), **values)

    def keeping_samples(self, opaque: Float[Tensor, "n"] | None) -> "RadianceField":
        """The same field, with a store of its own for the samples of views.

        Args:
            opaque: See the class.
        """
        return self.like(self.lattice, **self.parameters(), store=SampleStore(), opaque=opaque)

    def at(self, samples: Samples, values: Float[Tensor, "n d"]) -> Float[Tensor, "s d"]:
        """Values of the nodes, interpolated at samples."""
        rows = self.lattice.corner_rows.index_select(0, samples.cells).long()
        return embedding_bag(rows, values, per_sample_weights=samples.weights.to(values), mode="sum")

    def depths_at(self, samples: Samples) -> Float[Tensor, "s"]:
        """Optical depth of each sample, over the length that it stands for."""
        return STEP * softplus(self.at(samples, self.raw_densities[:, None])[:, 0])

    def render_rays(
        self, rays: Rays, samples: Samples, background: Float[Tensor, "d"],
        colors: Float[Tensor, "n d"] | None = None, sh_degree: int | None = None,
    ) -> tuple[Float[Tensor, "r d"], Float[Tensor, "r"], Float[Tensor, "r"]]:  # fmt: skip
        """What rays show.

        Args:
            rays: The rays.
            samples: Of them.
            background: Behind the field.
            colors: Values to blend in place of the spherical harmonics.
            sh_degree: Degree up to which these are used; None: all.

        Returns:
            Colours, not clamped; alphas in [0, 1]; depths along the viewing axis, world units, 0 where nothing is.
        """
        degree = self.sh_degree if sh_degree is None else min(sh_degree, self.sh_degree)
        count = (degree + 1) ** 2
        values = colors if colors is not None else self.sh[:, :count].flatten(1)
        both = self.at(samples, torch.cat([self.raw_densities[:, None], values.to(self.raw_densities)], dim=1))
        weights = ray_weights(STEP * softplus(both[:, 0]), samples.rays, samples.num_rays)
        seen = both[:, 1:]
        if colors is None:
            seen = 0.5 + _seen(seen.unflatten(1, (count, 3)), rays.directions, samples.rays, degree)
            seen = seen.clamp_min(0)
        ones = torch.ones_like(weights)
        along = (samples.lengths * rays.cosines.index_select(0, samples.rays)).to(seen)
        extra = torch.stack([ones, along], dim=1)
        pixels = composite(weights, torch.cat([seen, extra], dim=1), samples.rays, samples.num_rays)
        images, alphas, depths = pixels[:, :-2], pixels[:, -2], pixels[:, -1]
        images = images + (1 - alphas)[:, None] * background.to(images)
        return images, alphas, depths / alphas.clamp_min(1e-6)

    def render(
        self, cameras: Cameras, background: Float[Tensor, "d"], colors: Float[Tensor, "n d"] | None = None,
        sh_degree: int | None = None,
    ) -> tuple[Float[Tensor, "c h w d2"], Float[Tensor, "c h w 1"], Float[Tensor, "c h w 1"]]:  # fmt: skip
        """Render all cameras, which share one size.

        Args:
            cameras: Views.
            background: Behind the field.
            colors: See ``render_rays``.
            sh_degree: See ``render_rays``.

        Returns:
            Images, alphas and depths, see ``render_rays``.
        """
        views = [self._view(cameras, row, background, colors, sh_degree) for row in range(len(cameras))]
        return tuple(torch.stack(parts) for parts in zip(*views, strict=True))  # pyright: ignore[reportReturnType]

    def _view(
        self, cameras: Cameras, row: int, background: Tensor, colors: Tensor | None, sh_degree: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        rays = rays_of(cameras.to(self.device), row)
        samples, parts = self._kept_samples(cameras, row, rays), []
        if samples is not None:
            parts.append(self.render_rays(rays, samples, background, colors, sh_degree))
        else:
            for start in range(0, len(rays.origins), RAYS_AT_ONCE):
                few = rays.rows(slice(start, start + RAYS_AT_ONCE))
                parts.append(self.render_rays(few, march(self.lattice, few), background, colors, sh_degree))
        size = (int(cameras.heights[row]), int(cameras.widths[row]), -1)
        images, alphas, depths = (torch.cat(each) for each in zip(*parts, strict=True))
        return images.view(size), alphas.view(size), depths.view(size)

    @torch.no_grad()
    def _kept_samples(self, cameras: Cameras, row: int, rays: Rays) -> Samples | None:
        """The samples of a view, from the store or for it; None where nothing is kept."""
        if self.store is None or len(rays.origins) > RAYS_AT_ONCE:
            return None
        where = torch.cat([cameras.viewmats[row].flatten(), cameras.Ks[row].flatten()]).cpu().numpy().tobytes()
        key = where + f"{int(cameras.widths[row])}x{int(cameras.heights[row])}".encode()
        if key in self.store.samples:
            return self.store.samples[key]
        samples = march(self.lattice, rays)
        if self.opaque is not None:
            samples = samples.select(visible(self.replace(raw_densities=self.opaque), samples))
        self.store.keep(key, samples)
        return samples

    def _map(self, function: Any) -> "RadianceField":
        values: dict[str, Any] = {name: function(tensor) for name, tensor in self.parameters().items()}
        device = values["sh0"].device
        return self.replace(**values) if device == self.device else self.like(self.lattice.to(device), **values)


def visible(field: RadianceField, samples: Samples) -> Bool[Tensor, "s"]:
    """Which samples at least ``UNSEEN`` of the light comes through to."""
    return transmittances(field.depths_at(samples), samples.rays, samples.num_rays) > UNSEEN


def _seen(
    sh: Float[Tensor, "s k 3"], directions: Float[Tensor, "r 3"], rays: Int[Tensor, "s"], degree: int
) -> Float[Tensor, "s 3"]:
    """Sum of the spherical harmonics along each sample's ray."""
    basis = sh_basis(directions.to(sh), degree).index_select(0, rays)
    return (basis[..., None] * sh).sum(dim=1)
