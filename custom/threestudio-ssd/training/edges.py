"""How sharp a model draws cubes and cars: the edges of its samples against those of the nearest render.

Nobody tells a sample its size, its place or its sun. So it is compared with a bank of renders of the same words, at
every shift. What the autoencoder makes of a true render is compared with the same bank, and the ratio of the two
F-scores says what the network alone loses.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from ..diffusion import Backbone
from ..metrics import gaussian_blur
from ..rendering import render_bchw
from ..toyworld import Attributes, build_scene, object_yaw_deg, orbit_camera, sample_view
from ..toyworld.captions import CUBE_SIDES, SIDE_DEG, SIDES, view_words
from ..toyworld.splat import to_cameras, to_gaussians
from ..toyworld.vocabulary import COLORS, GROUNDS, TIMES
from .scenes import render_with_masks

OBJECTS = ("cube", "car")
BANK_SEEDS = (11_000_001, 11_000_002)
"""Scenes of the bank: two suns."""
ELEVATIONS_DEG = (9.0, 18.0, 29.0)
RADII = tuple(4.3 * 1.08**power for power in range(7))
"""Distances of the bank's cameras, world units; sizes of the object that differ by 8 %."""
SECTOR_DEG = (-18.0, -9.0, 0.0, 9.0, 18.0)
"""Azimuths of the bank about the middle of a side that a caption names."""
STEP_DEG = 15.0
"""Between the azimuths of the bank where no caption names a side."""
EDGE_SIGMA, EDGE_SHARE, EDGE_PERCENTILE = 0.6, 0.25, 0.98
"""An edge is a crest of the gradient of the blurred image that reaches this share of the bank's gradients at this
percentile; blur in pixels."""
RENDERED_TOGETHER = 32
TOLERANCE, MARGIN, MAX_SHIFT = 1, 2, 16
"""Pixels: between edges that count as one; about the object; of the bank against the sample."""


class Case(NamedTuple):
    """A plain object as its caption says it, and the middle of the side that it is seen from, in degrees."""

    attributes: Attributes
    azimuth_deg: float

    @property
    def words(self) -> str:
        """What a caption says about the view."""
        return view_words(self.attributes.object, self.azimuth_deg, ELEVATIONS_DEG[1])


class Bank(NamedTuple):
    """Renders that a sample may look like.

    Attributes:
        edges: Of the object and about it.
        regions: The object and ``MARGIN`` pixels about it.
        threshold: Gradient of an edge.
    """

    edges: Bool[Tensor, "k h w"]
    regions: Bool[Tensor, "k h w"]
    threshold: float


def draw_cases(thing: str, count: int, rng: np.random.Generator) -> list[Case]:
    """Random plain scenes of an object, its sides in turn."""
    num_sides = len(CUBE_SIDES if thing == "cube" else SIDES)
    cases = []
    for place in range(count):
        words = (options[rng.integers(len(options))] for options in (COLORS, GROUNDS, TIMES))
        color, ground, time = words
        cases.append(Case(Attributes(thing, color, "plain", ground, time), SIDE_DEG * (place % num_sides)))
    return cases


def gradients(images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Horizontal and vertical part of the colour gradient of the blurred images, both >= 0; zero at the border."""
    smooth = gaussian_blur(images, EDGE_SIGMA)
    x, y = (torch.zeros_like(smooth) for _ in range(2))
    x[..., 1:-1] = (smooth[..., 2:] - smooth[..., :-2]) / 2
    y[..., 1:-1, :] = (smooth[..., 2:, :] - smooth[..., :-2, :]) / 2
    return x.square().sum(1).sqrt(), y.square().sum(1).sqrt()


def edge_maps(images: Float[Tensor, "b 3 h w"], threshold: float) -> Bool[Tensor, "b h w"]:
    """Pixels where the gradient reaches the threshold and is largest across its own direction, to the nearest axis."""
    x, y = gradients(images)
    size = torch.hypot(x, y)
    across_x = max_pool2d(size[:, None], (1, 3), 1, (0, 1))[:, 0]
    across_y = max_pool2d(size[:, None], (3, 1), 1, (1, 0))[:, 0]
    return (size >= threshold) & (size == torch.where(x >= y, across_x, across_y))


def grown(maps: Bool[Tensor, "b h w"], margin: int) -> Bool[Tensor, "b h w"]:
    """Pixels at most ``margin`` from a marked one, along rows, columns or both."""
    return max_pool2d(maps[:, None].float(), 2 * margin + 1, 1, margin)[:, 0] > 0


def make_bank(case: Case, size: int, *, has_side: bool) -> Bank:
    """Renders of a case from one side, or from all sides.

    Args:
        case: What is looked for.
        size: Side of the images, pixels.
        has_side: Whether the sample was told from which side it is seen.
    """
    period = 90.0 if case.attributes.object == "cube" else 360.0
    azimuths_deg = [case.azimuth_deg + turn for turn in SECTOR_DEG] if has_side else np.arange(0, period, STEP_DEG)
    images, masks = [], []
    for seed in BANK_SEEDS:
        scene, yaw_deg = build_scene(case.attributes, seed), object_yaw_deg(seed)
        cameras = [
            orbit_camera(yaw_deg + azimuth_deg, elevation_deg, radius)
            for azimuth_deg in azimuths_deg
            for elevation_deg in ELEVATIONS_DEG
            for radius in RADII
        ]
        for start in range(0, len(cameras), RENDERED_TOGETHER):
            pixels, is_object = render_with_masks(
                scene, to_cameras(cameras[start : start + RENDERED_TOGETHER], size, size)
            )
            images.append(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
            masks.append(torch.from_numpy(is_object))
    return bank_of(torch.cat(images), torch.cat(masks))


def bank_of(renders: Float[Tensor, "k 3 h w"], masks: Bool[Tensor, "k h w"]) -> Bank:
    """A bank of these renders, whose objects are where the masks are; an object in none has no edges."""
    regions = grown(masks, MARGIN)
    steepest = torch.hypot(*gradients(renders))[regions]
    threshold = EDGE_SHARE * float(steepest.quantile(EDGE_PERCENTILE)) if len(steepest) else 1.0
    return Bank(edge_maps(renders, threshold) & regions, regions, threshold)


def best_f_score(image: Float[Tensor, "3 h w"], bank: Bank, max_shift: int = MAX_SHIFT) -> float:
    """F-score in [0, 1] of an image's edges with those of the render, and the shift, that it is most like.

    Precision is the share of the image's edges within the object's region that lie on an edge of the render, recall
    the share of the render's edges that lie on one of the image; ``TOLERANCE`` pixels apart still counts.

    Args:
        image: In [0, 1].
        bank: Of the renders.
        max_shift: Largest shift, pixels; 0: the object must be where it is in a render.
    """
    edges = edge_maps(image[None], bank.threshold)
    in_region = _correlate(edges, bank.regions, max_shift)
    hits = _correlate(edges, grown(bank.edges, TOLERANCE) & bank.regions, max_shift)
    recalled = _correlate(grown(edges, TOLERANCE), bank.edges, max_shift)
    precision = hits / in_region.clamp(min=1)
    recall = recalled / bank.edges.sum((1, 2)).clamp(min=1)[:, None, None]
    scores = 2 * precision * recall / (precision + recall).clamp(min=1e-6)
    return float(scores.max())


def true_view(case: Case, seed: int, size: int) -> Float[Tensor, "3 h w"]:
    """A render of a case as the training data has them: a random camera of which its words are true."""
    rng = np.random.default_rng(seed)
    while True:
        view = sample_view(rng, is_wide=False)
        azimuth_deg = view.azimuth_deg - object_yaw_deg(seed)
        if view_words(case.attributes.object, azimuth_deg, view.elevation_deg) == case.words:
            scene = to_gaussians(build_scene(case.attributes, seed))
            return render_bchw(scene, to_cameras([view.camera], size, size), torch.zeros(3))[0]


@torch.no_grad()
def edge_figures(
    backbone: Backbone, samples: Float[Tensor, "b 3 h w"], cases: Sequence[Case], seed: int, *, has_side: bool
) -> dict[str, float]:
    """Mean F-scores of samples and of reconstructed renders of the same words, and their ratio.

    Args:
        backbone: Its autoencoder reconstructs.
        samples: One for each case.
        cases: What was asked for.
        seed: Of the first render; the next ones follow on.
        has_side: Whether the captions said from which side.
    """
    size, scores = samples.shape[-1], []
    for place, (case, sample) in enumerate(zip(cases, samples, strict=True)):
        bank = make_bank(case, size, has_side=has_side)
        render = true_view(case, seed + place, size)
        decoded = backbone.decode(backbone.encode(render[None]))[0]
        scores.append([best_f_score(image, bank) for image in (sample, decoded)])
    return as_figures(scores, "samples")


def as_figures(scores: Sequence[Sequence[float]], name: str) -> dict[str, float]:
    """Means of pairs of F-scores, of what ``name`` says and of reconstructions, and their ratio."""
    ours, reconstructed = np.mean(scores, axis=0)
    figures = {name: ours, "reconstructions": reconstructed, "ratio": ours / max(reconstructed, 1e-6)}
    return {name: round(float(value), 3) for name, value in figures.items()}


def _correlate(
    image: Bool[Tensor, "1 h w"], templates: Bool[Tensor, "k h w"], max_shift: int
) -> Float[Tensor, "k s s"]:
    """How many marked pixels of the image lie on marked ones of each template, at every shift up to ``max_shift``."""
    size = [2 * side for side in image.shape[1:]]
    spectra = (torch.fft.rfft2(each.float(), s=size) for each in (image, templates))
    moved, still = spectra
    counts = torch.fft.irfft2(moved * still.conj(), s=size).round()
    places = torch.arange(-max_shift, max_shift + 1)
    return counts[:, places % size[0]][:, :, places % size[1]]
