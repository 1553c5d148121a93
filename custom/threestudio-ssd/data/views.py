"""Which cameras a run renders: a pool of training views drawn once, held-out views, and a path for the video."""

from dataclasses import dataclass

import torch

from ..cameras import Cameras, Orbit, orbit_cameras
from ..cameras.orbit import orbit_frame, up_of_cameras
from ..seeds import Stream, generator

GOLDEN_TURN_DEG = 180 * (3 - 5**0.5)
MIN_ORBIT_VIEWS, LARGEST_GAP_DEG = 8, 75.0
"""A capture goes all the way round with at least so many views and no larger gap in azimuth."""


@dataclass(frozen=True)
class OrbitRange:
    """Where orbit cameras may stand.

    Attributes:
        elevation_deg: Lowest and highest elevation, degrees.
        radius_scale: Nearest and farthest distance, in units of the orbit's radius.
        fov_y_deg: Vertical opening angle, degrees.
    """

    elevation_deg: tuple[float, float]
    radius_scale: tuple[float, float]
    fov_y_deg: float


@dataclass(frozen=True)
class SceneViews:
    """All cameras of a run.

    Attributes:
        train: Training views, at the size they are rendered at.
        test: Held-out views of the report.
        video: A path; empty for no video.
        orbit: The orbit around the scene.
        size: Width and height of the pictures that the diffusion model gets, pixels.
        extent: ``cameras_extent`` of the cameras that training views are drawn from, world units: all of a capture's,
            or the orbit's training views.
    """

    train: Cameras
    test: Cameras
    video: Cameras
    orbit: Orbit
    size: tuple[int, int]
    extent: float


def random_orbit(orbit: Orbit, where: OrbitRange, count: int, size: tuple[int, int], seed: int) -> Cameras:
    """Training views all around: azimuths evenly spread, in random order of elevation and distance.

    Args:
        orbit: Centre, radius, up.
        where: Ranges.
        count: How many.
        size: Width and height, pixels.
        seed: The same views for the same seed.
    """
    draws = generator(seed, 0, Stream.VIEW_POOL)
    low, high = where.elevation_deg
    near, far = where.radius_scale
    shares = (torch.arange(count) + torch.rand(count, generator=draws)) / count
    elevations = low + (high - low) * shares[torch.randperm(count, generator=draws)]
    shares = (torch.arange(count) + torch.rand(count, generator=draws)) / count
    radii = orbit.radius * (near + (far - near) * shares[torch.randperm(count, generator=draws)])
    azimuths = torch.arange(count) * GOLDEN_TURN_DEG % 360
    return orbit_cameras(orbit.center, radii, elevations, azimuths, where.fov_y_deg, *size, up=orbit.up)


def even_orbit(orbit: Orbit, where: OrbitRange, count: int, size: tuple[int, int]) -> Cameras:
    """Held-out views: one turn at even steps, half a step off, elevation swinging through the middle of the range."""
    azimuths = (torch.arange(count) + 0.5) / count * 360
    low, high = where.elevation_deg
    swing = torch.tensor([0.35, 0.65]).repeat(count)[:count]
    radius = orbit.radius * sum(where.radius_scale) / 2
    elevations = low + (high - low) * swing
    return orbit_cameras(orbit.center, radius, elevations, azimuths, where.fov_y_deg, *size, up=orbit.up)


def turntable(orbit: Orbit, where: OrbitRange, count: int, size: tuple[int, int]) -> Cameras:
    """Camera path of the video: one full turn at the middle of the range."""
    azimuths = torch.arange(count) / count * 360
    low, high = where.elevation_deg
    radius = orbit.radius * sum(where.radius_scale) / 2
    return orbit_cameras(orbit.center, radius, (low + high) / 2, azimuths, where.fov_y_deg, *size, up=orbit.up)


def capture_orbit(cameras: Cameras) -> tuple[Orbit, OrbitRange] | None:
    """The orbit a capture was taken on, if it goes all the way round something; else None.

    The centre is the point nearest to all optical axes, the radius the median distance from it; elevations and
    distances are those between the capture's 10 % and 90 % quantiles.
    """
    centers, forwards = cameras.centers.double(), cameras.forwards.double()
    across = torch.eye(3, dtype=torch.float64) - forwards[:, :, None] * forwards[:, None, :]
    center = torch.linalg.lstsq(across.sum(0), (across @ centers[:, :, None]).sum(0)).solution[:, 0]
    up = up_of_cameras(cameras)
    if len(cameras) < MIN_ORBIT_VIEWS or up is None:
        return None
    away = centers - center
    distances = away.norm(dim=1)
    east, north, up = orbit_frame(up)
    azimuths = torch.atan2(away @ east, away @ north).rad2deg().sort().values
    gaps = torch.cat([azimuths.diff(), azimuths[:1] + 360 - azimuths[-1:]])
    if gaps.max() > LARGEST_GAP_DEG:
        return None
    elevations = torch.asin((away @ up) / distances).rad2deg()
    low, high = elevations.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
    near, far = (distances / distances.median()).quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
    fov_y_deg = float(2 * torch.atan(cameras.heights / 2 / cameras.Ks[:, 1, 1]).rad2deg().median())
    extent = (2 * distances.median()).float().expand(3)
    orbit = Orbit(center.float(), float(distances.median()), up.float(), extent)
    return orbit, OrbitRange((low, high), (near, far), fov_y_deg)


def spread_subset(cameras: Cameras, count: int, seed: int | None = None) -> Cameras:
    """At most ``count`` cameras: evenly spaced in the capture's order, or a random draw with ``seed``."""
    if len(cameras) <= count:
        return cameras
    if seed is None:
        return cameras[torch.linspace(0, len(cameras) - 1, count).round().long()]
    draws = generator(seed, 0, Stream.VIEW_POOL)
    return cameras[torch.randperm(len(cameras), generator=draws)[:count].sort().values]


def view_order(num_views: int, step: int, batch_size: int, seed: int) -> torch.Tensor:
    """Which views step ``step`` shows: without replacement, shuffled anew each round; a pure function of the step.

    Returns:
        (batch_size) int64, each below ``num_views``.
    """
    places = torch.arange(step * batch_size, (step + 1) * batch_size)
    picked = []
    for place in places.tolist():
        order = torch.randperm(num_views, generator=generator(seed, place // num_views, Stream.VIEW_ORDER))
        picked.append(order[place % num_views])
    return torch.stack(picked)
