"""What the ray through each cell of an image meets, told by words: a radiance field of latents.

Points along a ray have a density and features, and these are blended front to back as NeRF blends colours (Mildenhall
et al. 2020, arXiv:2003.08934, equation 3; features as in Niemeyer & Geiger 2021, arXiv:2011.12100). One network holds
many things: words, and the view before the edit, set the gains of its layers (Perez et al. 2018, arXiv:1709.07871).
The view before also shows where the light comes from; points have normals, and features that only the light brings out
(Lambert's law). Convolutions make latents of the features, since where an outline crosses a cell shows in the cells
beside it.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, linear, normalize, pixel_shuffle, pixel_unshuffle, relu, silu, softplus

from .waves import num_waves, waves

RADIUS, BOTTOM, TOP = 0.265, -0.01, 0.475
"""The upright cylinder in which an object stands, in the unit of its frame: about the distance of the cameras."""
MIDDLE, HALVES = (0.0, 0.0, (TOP + BOTTOM) / 2), (RADIUS, RADIUS, (TOP - BOTTOM) / 2)
RAYS_A_SIDE = 2
"""Each side of a cell has so many rays: what is smaller than a cell is seen by some of them and not by others."""
NUM_POINTS = 16
"""On each ray, evenly within the cylinder."""
REACH = 0.8
"""How far from the object the ground is told by places, in the frame's unit; what is beyond lies at the edge."""
FARTHEST = 2.0
"""Where a ray ends that does not meet the ground."""
OCTAVES = 5
"""Sines and cosines of places; of directions there are half as many."""
WIDTH, NUM_LAYERS, NUM_FEATURES = 64, 3, 16
"""Of the network of points."""
SOURCE_WIDTH, NUM_LOOKS = 32, 4
"""Features of the view before, and how often they are gathered."""
LIGHT_WIDTH = 32
"""Of the network that finds the light."""
NUM_QUERIES = 4
"""How often words are gathered."""
FOCUS = 4.0
"""Weights of the words' keys begin so much larger than usual, so that the queries begin with different words."""
CONTROL_WIDTH, RAY_WIDTH, HEAD_WIDTH = 256, 32, 64
EMPTY = -2.0
"""The largest features where a ray misses the cylinder."""
SPARSE = 1.0
"""Points begin with a density of ``softplus(-SPARSE)``, so that light comes through."""
FINER = 4
"""A cell's side has so many parts of which each is told by itself whether the object covers it; a ray has several."""


class Seen(NamedTuple):
    """What a light field says of views.

    Attributes:
        latents: Scaled, (b c zh zw).
        covered: Logits of how much of each part of a cell the object makes up, (b 1 FINER*zh FINER*zw).
    """

    latents: Tensor
    covered: Tensor


class LightField(nn.Module):
    """Latents of a view by its rays, and the object's outline, told by words and by the view before the edit.

    Args:
        num_channels: Of the latents.
        num_source_channels: Of the latents of the view before; 0: it is not seen.
        text_width: Of a token's embedding.
    """

    def __init__(self, num_channels: int, num_source_channels: int, text_width: int) -> None:
        super().__init__()
        self.control = Control(
            num_source_channels, text_width, (*[WIDTH] * (NUM_LAYERS + 1), RAY_WIDTH, *[HEAD_WIDTH] * 2)
        )
        widths = [num_waves(3, OCTAVES), *[WIDTH] * NUM_LAYERS]
        self.points = nn.ModuleList(nn.Linear(*each) for each in pairwise(widths))
        self.point_last = nn.Linear(WIDTH, 1 + NUM_FEATURES + 3)
        self.plain = nn.Linear(WIDTH + 1, NUM_FEATURES, bias=False)
        self.ground = nn.Linear(num_waves(2, OCTAVES) + 1, WIDTH)
        self.ground_last = nn.Linear(WIDTH, NUM_FEATURES)
        self.beside = nn.Conv2d(2 * NUM_FEATURES + 1, RAY_WIDTH, 3, padding=1)
        self.outline = nn.Conv2d(RAY_WIDTH, (FINER // RAYS_A_SIDE) ** 2, 3, padding=1)
        num_seen = RAY_WIDTH * RAYS_A_SIDE**2 + num_source_channels + SOURCE_WIDTH
        self.head = nn.ModuleList([nn.Conv2d(num_seen, HEAD_WIDTH, 3, padding=1), nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 1)])
        self.last = nn.Conv2d(HEAD_WIDTH, num_channels + num_source_channels, 3, padding=1)
        self.kept = nn.Conv2d(num_source_channels, num_channels, 1) if num_source_channels else None
        if self.kept is not None:
            nn.init.dirac_(self.kept.weight)
        self.light = Light(num_source_channels)
        self.lit = nn.Linear(WIDTH + 1, NUM_FEATURES, bias=False)
        nn.init.zeros_(self.lit.weight)

    def forward(
        self,
        rays: Float[Tensor, "b 8 rh rw"],
        sources: Float[Tensor, "b s zh zw"],
        embeds: Float[Tensor, "b l w"],
        light: Float[Tensor, "b 3"] | None = None,
    ) -> Seen:
        """What is seen.

        Args:
            rays: ``ObjectViews.passing`` of a ``grid_of_rays``, in single precision whatever the network's is.
            sources: Latents of the view before, as the U-Net gets them.
            embeds: Of the prompt's tokens.
            light: Where it comes from, in the frame of the rays; None: as ``light_of`` finds it.
        """
        directions, nearest = (part.movedim(1, -1) for part in (rays[:, :3], rays[:, 3:6]))
        light = (self.light_of(rays, sources) if light is None else light).to(sources)
        around, gains = self.control(cell_means(rays)[:, :3].movedim(1, -1), sources, embeds, light)
        *of_points, of_ground, of_rays, of_first, of_second = gains
        object_seen, largest, shares = self._object(directions, nearest, of_points, light)
        seen = object_seen + (1 - shares) * self._ground(directions, nearest, of_ground)
        of_ray = _layer(self.beside, torch.cat([seen, shares, largest], dim=-1).movedim(-1, 1), of_rays)
        hidden = torch.cat([pixel_unshuffle(of_ray, RAYS_A_SIDE), sources, around], dim=1)
        for layer, own in zip(self.head, (of_first, of_second), strict=True):
            hidden = _layer(layer, hidden, own)
        latents, gates = self.last(hidden).tensor_split([self.last.out_channels - sources.shape[1]], dim=1)
        if self.kept is not None:
            latents = latents + self.kept(gates.sigmoid() * sources)
        return Seen(latents, pixel_shuffle(self.outline(of_ray), FINER // RAYS_A_SIDE))

    def light_of(self, rays: Float[Tensor, "b 8 rh rw"], sources: Float[Tensor, "b s zh zw"]) -> Float[Tensor, "b 3"]:
        """Where the light comes from in the frame of the rays, as each view before the edit shows it for itself."""
        return self.light(cell_means(rays)[:, :3].movedim(1, -1), sources)

    def _object(
        self,
        directions: Float[Tensor, "b rh rw 3"],
        nearest: Float[Tensor, "b rh rw 3"],
        gains: list[Tensor],
        light: Float[Tensor, "b 3"],
    ) -> tuple[Float[Tensor, "b rh rw f"], Float[Tensor, "b rh rw f"], Float[Tensor, "b rh rw 1"]]:
        """Blended features, the largest of others along the ray, and how much of the ray ends here.

        Only rays through the cylinder are looked at.
        """
        near, far = crossing(directions, nearest)
        inside = (far > near).nonzero(as_tuple=True)
        places = (torch.arange(NUM_POINTS, device=near.device, dtype=near.dtype) + 0.5) / NUM_POINTS
        depths = torch.lerp(near[inside][:, None], far[inside][:, None], places)
        points = nearest[inside][:, None] + depths[..., None] * directions[inside][:, None]
        middle, halves = (points.new_tensor(values) for values in (MIDDLE, HALVES))
        places = waves((points - middle) / halves, OCTAVES).to(gains[0])
        of_views = places.split(torch.bincount(inside[0], minlength=len(near)).tolist())
        seen = [self._points(own, [each[view] for each in gains], light[view]) for view, own in enumerate(of_views)]
        features, others, ends = (torch.cat(parts) for parts in zip(*seen, strict=True))
        shape = *near.shape, NUM_FEATURES
        blended, largest = others.new_zeros(shape), others.new_full(shape, EMPTY)
        shares = others.new_zeros(*near.shape, 1)
        return blended.index_put(inside, features), largest.index_put(inside, others), shares.index_put(inside, ends)

    def _points(
        self, places: Float[Tensor, "r p f"], gains: list[Tensor], light: Float[Tensor, "3"]
    ) -> tuple[Float[Tensor, "r k"], Float[Tensor, "r k"], Float[Tensor, "r 1"]]:
        """What ``_object`` gives of the rays of one view.

        Gains go into the weights, of which there are fewer than of points. What is linear in points is worked out of
        what is gathered along the ray; of what the light brings out, only where it falls on counts.
        """
        hidden = places
        for layer, own in zip(self.points, gains, strict=True):
            assert isinstance(layer, nn.Linear)
            weight = layer.weight * (1 + own.chunk(2)[0])[:, None]
            hidden = silu(linear(hidden, weight, gained(layer.bias, own)))
        densities, others, normals = self.point_last(hidden).split([1, NUM_FEATURES, 3], dim=-1)
        weights = blending_weights(softplus(densities.float() - SPARSE))
        lit = weights * relu((normals * light).sum(-1, keepdim=True)).float()
        both = torch.cat([weights, lit], dim=-1)
        gathered = torch.cat([both.mT.to(hidden) @ hidden, both.sum(1).to(hidden)[..., None]], dim=-1)
        features = self.plain(gathered[:, 0]) + self.lit(gathered[:, 1])
        return features, others.amax(1), weights.sum(1).to(hidden)

    def _ground(
        self, directions: Float[Tensor, "b rh rw 3"], nearest: Float[Tensor, "b rh rw 3"], gains: Tensor
    ) -> Float[Tensor, "b rh rw f"]:
        """Features of the place where a ray meets the ground, or of one far away."""
        sinks = directions[..., 2:]
        depths = torch.where(sinks < -1e-3, nearest[..., 2:] / -sinks.clamp_max(-1e-3), FARTHEST)
        places = (nearest + depths.clamp(-FARTHEST, FARTHEST) * directions)[..., :2] / REACH
        hidden = self.ground(torch.cat([waves(places.clamp(-1.2, 1.2), OCTAVES), sinks], dim=-1).to(gains))
        return self.ground_last(silu(gained(hidden, gains[:, None, None])))


class Control(nn.Module):
    """What words, the view before and the light say of a scene: gains and shifts of layers, and features of each cell.

    Args:
        num_source_channels: Of the latents of the view before.
        text_width: Of a token's embedding.
        widths: Of the layers.
    """

    def __init__(self, num_source_channels: int, text_width: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = widths
        self.queries = nn.Parameter(0.1 * torch.randn(NUM_QUERIES, text_width))
        self.keys = nn.Linear(text_width, text_width)
        self.keys.weight.data *= FOCUS
        self.source = _two_layers(num_source_channels + num_waves(3, OCTAVES // 2), SOURCE_WIDTH)
        self.looks = nn.Conv2d(SOURCE_WIDTH, NUM_LOOKS, 1)
        num_said, num_seen = NUM_QUERIES * text_width, (NUM_LOOKS + 1) * SOURCE_WIDTH
        self.said_norm, self.seen_norm = nn.LayerNorm(num_said), nn.LayerNorm(num_seen)
        self.layers = nn.Sequential(
            nn.Linear(num_said + num_seen + 3, CONTROL_WIDTH),
            nn.SiLU(),
            nn.Linear(CONTROL_WIDTH, CONTROL_WIDTH),
            nn.SiLU(),
            nn.Linear(CONTROL_WIDTH, 2 * sum(widths)),
        )

    def forward(
        self,
        directions: Float[Tensor, "b zh zw 3"],
        sources: Float[Tensor, "b s zh zw"],
        embeds: Float[Tensor, "b l w"],
        light: Float[Tensor, "b 3"],
    ) -> tuple[Float[Tensor, "b f zh zw"], list[Tensor]]:
        """Features of cells, and gains and shifts (b 2*w) of each layer."""
        around = self.source(torch.cat([sources, waves(directions, OCTAVES // 2).movedim(-1, 1).to(sources)], dim=1))
        seen = _gathered(around, self.looks)
        weights = (self.queries @ self.keys(embeds).mT * embeds.shape[-1] ** -0.5).softmax(-1)
        said = (weights @ embeds).flatten(1)
        control = self.layers(torch.cat([self.said_norm(said), self.seen_norm(seen), light], dim=1))
        return around, list(control.split([2 * width for width in self.widths], dim=1))


class Light(nn.Module):
    """Where the light comes from, by what a view shows: lit and dark sides, shadows.

    It is found as the camera sees it, where a bright side is to the left or to the right, and then turned into the
    frame of the rays.

    Args:
        num_source_channels: Of the latents of the view.
    """

    def __init__(self, num_source_channels: int) -> None:
        super().__init__()
        self.source = _two_layers(num_source_channels + 3, LIGHT_WIDTH)
        self.looks = nn.Conv2d(LIGHT_WIDTH, NUM_LOOKS, 1)
        num_seen = (NUM_LOOKS + 1) * LIGHT_WIDTH
        self.layers = nn.Sequential(nn.LayerNorm(num_seen), nn.Linear(num_seen, 2 * LIGHT_WIDTH), nn.SiLU())
        self.last = nn.Linear(2 * LIGHT_WIDTH, 3)
        for part in self.last.parameters():
            nn.init.zeros_(part)  # a new network says nothing of the light

    def forward(
        self, directions: Float[Tensor, "b zh zw 3"], sources: Float[Tensor, "b s zh zw"]
    ) -> Float[Tensor, "b 3"]:
        """A vector in the frame of the directions, which are in single precision."""
        axes = camera_axes(directions)
        places = (directions @ axes.mT[:, None])[..., :2]
        sinks = axes[:, None, None, 2, 2:].expand(*places.shape[:3], 1)
        seen_from = torch.cat([places, sinks], dim=-1).movedim(-1, 1)
        around = self.source(torch.cat([sources, seen_from.to(sources)], dim=1))
        seen = _gathered(around, self.looks)
        return (self.last(self.layers(seen)).float()[:, None] @ axes)[:, 0]


def camera_axes(directions: Float[Tensor, "b zh zw 3"]) -> Float[Tensor, "b 3 3"]:
    """Right, down and ahead of cameras as unit vectors, the rows, by the directions of the rays through their cells."""
    ahead = normalize(directions.mean((1, 2)), dim=-1)
    across = (directions[:, :, -1] - directions[:, :, 0]).mean(1)
    right = normalize(across - (across * ahead).sum(-1, keepdim=True) * ahead, dim=-1)
    return torch.stack([right, torch.linalg.cross(ahead, right), ahead], dim=1)


def _two_layers(num_channels: int, width: int) -> nn.Sequential:
    """Two convolutions, each followed by SiLU."""
    first, second = nn.Conv2d(num_channels, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(first, nn.SiLU(), second, nn.SiLU())


def _gathered(around: Float[Tensor, "b f zh zw"], looks: nn.Module) -> Float[Tensor, "b g"]:
    """Features of cells, gathered where each of the looks turns to, and their mean."""
    cells, places = around.flatten(2).mT, looks(around).flatten(2).softmax(-1)
    return torch.cat([places @ cells, cells.mean(1, keepdim=True)], dim=1).flatten(1)


def _layer(layer: nn.Module, hidden: Float[Tensor, "b f h w"], own: Float[Tensor, "b g"]) -> Float[Tensor, "b o h w"]:
    """A convolution with gains, then SiLU."""
    return silu(gained(layer(hidden).movedim(1, -1), own[:, None, None])).movedim(-1, 1)


def grid_of_rays(cells: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of rays that a field takes for so many rows and columns of cells."""
    rows, columns = cells
    return RAYS_A_SIDE * rows, RAYS_A_SIDE * columns


def cell_means(rays: Float[Tensor, "b 8 rh rw"]) -> Float[Tensor, "b 8 zh zw"]:
    """The ray through the middle of each cell, as nearly as the mean of the cell's rays is it."""
    return avg_pool2d(rays, RAYS_A_SIDE)


def gained(hidden: Float[Tensor, "*b w"], own: Float[Tensor, "*#b w2"]) -> Float[Tensor, "*b w"]:
    """Values times one plus their gains, plus their shifts; ``own`` holds the ones before the others."""
    gains, shifts = own.chunk(2, dim=-1)
    return hidden * (1 + gains) + shifts


def crossing(
    directions: Float[Tensor, "*b 3"], nearest: Float[Tensor, "*b 3"]
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """Where rays enter the cylinder and leave it, as lengths from the point nearest to the origin.

    A ray that misses it leaves it before it enters.

    Args:
        directions: Unit vectors.
        nearest: Points of the rays that are nearest to the origin.
    """
    slopes = directions[..., :2].square().sum(-1).clamp_min(1e-6)
    middles = -(nearest[..., :2] * directions[..., :2]).sum(-1) / slopes
    across = middles.square() - (nearest[..., :2].square().sum(-1) - RADIUS**2) / slopes
    halves = across.abs().sqrt() * across.sign()
    sinks = directions[..., 2]
    sinks = torch.where(sinks.abs() < 1e-4, 1e-4, sinks)
    bottoms, tops = ((height - nearest[..., 2]) / sinks for height in (BOTTOM, TOP))
    return (
        torch.maximum(middles - halves, torch.minimum(bottoms, tops)),
        torch.minimum(middles + halves, torch.maximum(bottoms, tops)),
    )


def blending_weights(densities: Float[Tensor, "n p 1"]) -> Float[Tensor, "n p 1"]:
    """How much of what is seen each point of a ray is, front to back; together they are 1 at most.

    Args:
        densities: Optical depths of the points' parts of the ray, >= 0.
    """
    passed = torch.exp(densities - densities.cumsum(1))
    return passed * -torch.expm1(-densities)
