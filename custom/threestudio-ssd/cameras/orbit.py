"""Cameras for a splat that came without any: an orbit around what is there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError
from .cameras import Cameras

Number = int | float
DEFAULT_FOV_Y_DEG = 40.0
USUAL_UP = "-y"
"""Up in most splats: COLMAP's y points down, and most trainers keep its world."""
GROUND_SLAB = 0.06
"""Thickness of the slab searched for a ground, as a share of the scene's extent along the axis."""
GROUND_SHARE = 0.35
"""Share of all opacity that must lie in the slab to be called a ground."""
INNER_QUANTILES = (0.02, 0.98)
"""Opacity-weighted quantiles per axis between which the scene is taken to lie; floaters stay outside."""
MIN_ONE_WAY = 0.3
"""Length of the mean of the cameras' own ups from which on they say where up is."""
MAX_ROLL, MIN_LEVEL = 0.2, 0.8
"""Cameras are level where their rights vary so much less along up than in the horizontal direction in which they vary
least, and where up is within an acute angle of their mean, of this cosine."""


@dataclass(frozen=True, eq=False)
class Orbit:
    """The circle cameras move on.

    Attributes:
        center: (3) what they look at, world.
        radius: Distance of the cameras from it, world units, > 0.
        up: (3) unit vector that points upwards in the world.
        extent: (3) size of the scene between its inner quantiles, world units.
    """

    center: Float[Tensor, "3"]
    radius: float
    up: Float[Tensor, "3"]
    extent: Float[Tensor, "3"]


def parse_axis(axis: str | Sequence[Number] | Tensor, *, key: str = "up") -> Float[Tensor, "3"]:
    """A unit vector from ``"+x" .. "-z"`` or three numbers, float64.

    Raises:
        ConfigError: If it is neither, or of length zero.
    """
    if isinstance(axis, str):
        name = axis.strip().lower()
        sign, letter = (-1.0 if name.startswith("-") else 1.0), name.lstrip("+-")
        if len(letter) == 1 and letter in "xyz" and len(name) <= 2:
            return sign * torch.eye(3, dtype=torch.float64)["xyz".index(letter)] + 0.0  # no -0
    else:
        vector = torch.as_tensor(axis, dtype=torch.float64).cpu()
        if vector.shape == (3,) and torch.isfinite(vector).all() and vector.norm() > 0:
            return vector / vector.norm()
    raise ConfigError(
        what=f"{key} is {axis!r}",
        expected="one of +x -x +y -y +z -z, or three numbers that are not all zero",
        fix=f"set {key}=-y, which is right for most splats",
    )


def look_at(
    eye: Float[Tensor, "*#c 3"], target: Float[Tensor, "*#c 3"], up: Float[Tensor, "*#c 3"]
) -> Float[Tensor, "*c 4 4"]:
    """World-to-camera matrices (OpenCV axes) of cameras at ``eye`` that look at ``target``, float64.

    Args:
        eye: Camera centres.
        target: Points in the middle of the image; not equal to the eye.
        up: Directions that point upwards in the image; need be neither unit nor perpendicular. A camera that looks
            along it takes the image's top from another axis.
    """
    eye, target, up = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=torch.float64) for v in (eye, target, up)))
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    up = torch.nn.functional.normalize(up, dim=-1)
    spare = torch.eye(3, dtype=torch.float64)[up.abs().argmin(dim=-1)]
    is_parallel = (forward * up).sum(-1, keepdim=True).abs() > 1 - 1e-9
    up = torch.where(is_parallel, spare, up)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=-2)
    viewmats = torch.zeros(*eye.shape[:-1], 4, 4, dtype=torch.float64)
    viewmats[..., :3, :3] = rotation
    viewmats[..., :3, 3] = -(rotation @ eye[..., None])[..., 0]
    viewmats[..., 3, 3] = 1.0
    return viewmats


def orbit_frame(
    up: str | Sequence[Number] | Tensor,
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"], Float[Tensor, "3"]]:
    """East, north and up of an orbit, float64: east is +x (+z where up is along x), north is what azimuth 0 sees.

    For up = -y (COLMAP) north is +z, for up = +z (Blender) it is +y.
    """
    up = parse_axis(up)
    across = torch.eye(3, dtype=torch.float64)[0 if up[0].abs() < 0.9 else 2]
    east = torch.nn.functional.normalize(across - (across @ up) * up, dim=0)
    return east, torch.linalg.cross(up, east), up


def orbit_cameras(
    center: Float[Tensor, "3"] | Sequence[Number],
    radius: Number | Sequence[Number] | Tensor,
    elevations_deg: Number | Sequence[Number] | Tensor,
    azimuths_deg: Number | Sequence[Number] | Tensor,
    fov_y_deg: Number,
    width: int,
    height: int,
    up: str | Sequence[Number] | Tensor = USUAL_UP,
) -> Cameras:
    """Cameras on a sphere around a point, looking at it.

    Args:
        center: What they look at, world.
        radius: Distance from it, world units.
        elevations_deg: Degrees above the horizon, -90..90.
        azimuths_deg: Degrees, counter-clockwise seen from above; 0 looks north (see ``orbit_frame``), 90 stands in the
            east. Radius, elevations and azimuths broadcast: one number or one per camera.
        fov_y_deg: Vertical opening angle, degrees, 0..180.
        width: Pixels.
        height: Pixels; pixels are square.
        up: World direction that points upwards.
    """
    center = torch.as_tensor(center, dtype=torch.float64).cpu()
    numbers = [torch.as_tensor(v, dtype=torch.float64).cpu() for v in (radius, elevations_deg, azimuths_deg)]
    radii, elevations, azimuths = torch.broadcast_tensors(*map(torch.atleast_1d, numbers))
    east, north, up = orbit_frame(up)
    elevations, azimuths = elevations.deg2rad()[:, None], azimuths.deg2rad()[:, None]
    outward = elevations.cos() * (azimuths.sin() * east - azimuths.cos() * north) + elevations.sin() * up
    # Straight above, "up" is undefined in the image; the tangent that points away from the horizon is not.
    top = -elevations.sin() * (azimuths.sin() * east - azimuths.cos() * north) + elevations.cos() * up
    viewmats = look_at(center + radii[:, None] * outward, center.expand(len(radii), 3), top)
    focal = 0.5 * height / math.tan(math.radians(fov_y_deg) / 2)
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]], dtype=torch.float64)
    count = len(radii)
    widths, heights = torch.full((count,), width), torch.full((count,), height)
    names = [f"orbit_{i:03d}" for i in range(count)]
    return Cameras(viewmats, K.expand(count, 3, 3).clone(), widths, heights, names)


def fit_orbit(
    means: Float[Tensor, "n 3"],
    opacities: Float[Tensor, "n"],
    *,
    up: str | Sequence[Number] | Tensor | None = None,
    stated_up: str | None = None,
    center: Sequence[Number] | Tensor | None = None,
    radius: Number | None = None,
    cameras: Cameras | None = None,
    fov_y_deg: Number = DEFAULT_FOV_Y_DEG,
    margin: Number = 1.0,
) -> Orbit:
    """An orbit from which all of a scene is seen.

    Up comes, in this order, from ``up``, from how ``cameras`` are held, from ``stated_up``, from a flat
    ground with most of the scene on one side of it, or is -y. The centre is the middle of the box between
    opacity-weighted quantiles, so that floaters do not count. The radius lets the sphere around that box fit the
    opening angle.

    Args:
        means: Centres, world.
        opacities: In [0, 1]; weights.
        up: ``"+x" .. "-z"`` or a vector.
        stated_up: What the scene's file says; -y counts no more than silence, since that is written without looking.
        center: World point to look at.
        radius: Distance, world units, > 0.
        cameras: Cameras of the capture.
        fov_y_deg: Opening angle that has to hold the scene, degrees.
        margin: Factor on the radius.

    Raises:
        ConfigError: If ``up``, ``center`` or ``radius`` cannot be used, or nothing in the scene is visible.
    """
    means, weights = means.detach().cpu().double(), opacities.detach().cpu().double()
    is_used = torch.isfinite(means).all(dim=1) & (weights > 1 / 255)
    means, weights = means[is_used], weights[is_used]
    if not len(means):
        raise ConfigError(
            what=f"no Gaussian of {len(opacities)} is visible (opacity above 1/255)",
            expected="a scene with something in it",
            fix="check the splat file, or give cameras",
        )
    low, high = (weighted_quantiles(means, weights, share) for share in INNER_QUANTILES)
    extent = (high - low).clamp_min(1e-9)
    if center is None:
        middle = (low + high) / 2
    else:
        middle = torch.as_tensor(center, dtype=torch.float64).cpu()
        if middle.shape != (3,) or not torch.isfinite(middle).all():
            raise ConfigError(what=f"center is {center!r}", expected="three numbers", fix="set center=[0,0,0]")
    if radius is None:
        radius = margin * float(extent.norm()) / 2 / math.sin(math.radians(fov_y_deg) / 2)
    elif not radius > 0:
        raise ConfigError(what=f"radius is {radius}", expected="a number above 0", fix="leave radius out to fit it")
    axis = parse_axis(up) if up is not None else up_of_scene(means, weights, cameras, stated_up)[0]
    return Orbit(middle.float(), float(radius), axis.float(), extent.float())


def up_of_scene(
    means: Float[Tensor, "n 3"],
    weights: Float[Tensor, "n"],
    cameras: Cameras | None = None,
    stated_up: str | None = None,
) -> tuple[Float[Tensor, "3"], str]:
    """The direction that points upwards, float64, and how it was found, in words.

    Args:
        means: Centres, float64.
        weights: Opacities.
        cameras: Cameras of the capture, if there are any.
        stated_up: As for ``fit_orbit``.
    """
    held = None if cameras is None else up_of_cameras(cameras)
    if held is not None:
        return held, "as the cameras are held"
    if stated_up not in (None, USUAL_UP):
        return parse_axis(stated_up), "the file says so"
    axis, share = find_up(means, weights)
    how = f"a flat ground holds {share:.0%} of the opacity" if share else "as in most splats: no flat ground stands out"
    return parse_axis(axis), how


def up_of_cameras(cameras: Cameras) -> Float[Tensor, "3"] | None:
    """The direction that points upwards, float64, as cameras are held; None if they are held every way.

    The right of a level camera is horizontal wherever it looks, so up is what all of these are most nearly
    perpendicular to. Where they look one way, or are not level, it is the mean of their own directions, which leans
    towards where most of them are.
    """
    ups, rights = cameras.ups.double().cpu(), cameras.viewmats[:, 0, :3].double().cpu()
    if not len(cameras) or ups.mean(dim=0).norm() < MIN_ONE_WAY:
        return None
    mean = parse_axis(ups.mean(dim=0))
    spreads, axes = torch.linalg.eigh(rights.T @ rights / len(rights))
    upright = axes[:, 0] * (axes[:, 0] @ mean).sign()
    is_level = spreads[0] < MAX_ROLL * spreads[1] and upright @ mean > MIN_LEVEL
    return upright if is_level else mean


def find_up(means: Float[Tensor, "n 3"], weights: Float[Tensor, "n"]) -> tuple[str, float]:
    """The axis of a flat ground with the rest of the scene on one side of it, and the share of all opacity in it.

    Where none stands out, ``"-y"`` and 0.

    Args:
        means: Centres, float64.
        weights: Opacities.
    """
    best, best_share, in_ground = USUAL_UP, GROUND_SHARE, 0.0
    low, high = (weighted_quantiles(means, weights, share) for share in (0.005, 0.995))
    for axis, letter in enumerate("xyz"):
        slab = GROUND_SLAB * float(high[axis] - low[axis])
        for sign in (-1, 1):
            ground = low[axis] if sign > 0 else -high[axis]
            depth = sign * means[:, axis] - ground
            share = float(weights[depth < slab].sum() / weights.sum())
            usual = 0.1 if f"{'+' if sign > 0 else '-'}{letter}" == USUAL_UP else 0.0
            if share + usual > best_share:
                best, best_share, in_ground = f"{'+' if sign > 0 else '-'}{letter}", share + usual, share
    return best, in_ground


def weighted_quantiles(values: Float[Tensor, "n d"], weights: Float[Tensor, "n"], share: float) -> Float[Tensor, "d"]:
    """Per column, the value below which this share (0..1) of the weight lies."""
    ordered, order = values.sort(dim=0)
    totals = weights[order].cumsum(dim=0)
    places = torch.searchsorted(totals.T.contiguous(), share * totals[-1:].T.contiguous())[:, 0]
    return ordered.gather(0, places.clamp_max(len(values) - 1)[None])[0]
