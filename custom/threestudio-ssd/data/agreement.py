"""Whether a scene lies where its capture says: what the cameras see of it, and its renders beside the photographs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..errors import ConfigError
from ..rendering import render
from ..scenes import Scene

NUM_VIEWS, SIDE = 4, 96
"""Views that are compared, and the side of their squares, pixels."""
LEAST_SEEN = 0.005
"""Share of its images that a scene covers at least in the views of its own capture."""
GOOD_PSNR, GAIN = 20.0, 1.0
"""Renders that come nearer to their photographs than the first, dB, fit; others fit if they are nearer to their own
photographs than to those of other views by the second."""
LEAD, LEAST_PSNR, LEAST_COVERED = 3.0, 14.0, 0.05
"""Other axes fit if they bring renders so much nearer, dB, at least to the second, and cover a share of the images."""


class Fit(NamedTuple):
    """How renders fit photographs.

    Attributes:
        psnr: Of the pixels that the scene covers, dB, mean over views.
        others: The same against the photographs of other views.
        covered: Share of the images that the scene covers.
    """

    psnr: float
    others: float
    covered: float


def _turn(x: float, y: float, z: float) -> Tensor:
    return torch.diag(torch.tensor([x, y, z, 1.0]))


_QUARTER = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
CAMERA_AXES: Mapping[str, Tensor] = {
    "OpenGL's camera axes, y up and z backwards, in place of y down and z forward": _turn(1, -1, -1),
    "images turned upside down, x and y negated": _turn(-1, -1, 1),
    "cameras that look the other way, x and z negated": _turn(-1, 1, -1),
}
WORLD_AXES: Mapping[str, Tensor] = {
    "a world turned half round its x axis, y and z negated": _turn(1, -1, -1),
    "a world turned half round its y axis, x and z negated": _turn(-1, 1, -1),
    "a world turned half round its z axis, x and y negated": _turn(-1, -1, 1),
    "a world whose y axis is the scene's z axis": _QUARTER,
    "a world whose z axis is the scene's y axis": _QUARTER.T,
}
INVERTED = "poses from the camera to the world in place of the other way round"


class Agreement(NamedTuple):
    """What some views of a capture say of a scene.

    Attributes:
        covered: Share of their images that the scene covers.
        num_photographs: Views of the whole capture whose photograph is there.
        fit: How renders fit the photographs, if there are any.
        problem: Why scene and capture do not belong together, if they do not: the cameras hardly see the scene, or
            renders are not what the photographs show; with the PSNR, and the axes that would fit if some do.
    """

    covered: float
    num_photographs: int
    fit: Fit | None
    problem: ConfigError | None


def check_capture(gaussians: Scene, capture: Cameras, name: str) -> None:
    """Stop before any work where a scene and its capture do not belong together.

    Args:
        gaussians: The scene.
        capture: Its cameras, perhaps with photographs.
        name: What the cameras were given as.

    Raises:
        ConfigError: The problem of their ``agreement``.
    """
    problem = agreement(gaussians, capture, name).problem
    if problem is not None:
        raise problem


def agreement(gaussians: Scene, capture: Cameras, name: str) -> Agreement:
    """Compare a scene with its capture; arguments as for ``check_capture``."""
    pictured = [row for row, path in enumerate(capture.image_paths) if path is not None and path.is_file()]
    rows = torch.tensor(pictured or range(len(capture)))
    cameras = capture[rows[torch.linspace(0, len(rows) - 1, min(NUM_VIEWS, len(rows))).round().long()]]
    cameras = cameras.filling(SIDE, SIDE)
    covered = float(_renders(gaussians, cameras)[1].mean())
    fit, problem = _compare_photographs(gaussians, cameras, name) if pictured else (None, None)
    if problem is None and covered < LEAST_SEEN:
        problem = ConfigError(
            what=f"cameras {name} hardly see the scene: it covers {covered:.2%} of their images",
            expected="the cameras of the capture that the scene was made of",
            fix="set cameras to that capture, or leave it empty for an orbit; data.check_capture=false goes on",
        )
    return Agreement(covered, len(pictured), fit, problem)


def _compare_photographs(gaussians: Scene, cameras: Cameras, name: str) -> tuple[Fit, ConfigError | None]:
    photographs = torch.stack([cameras.load_image(row) for row in range(len(cameras))])
    inside = torch.stack([cameras.inside_photograph(row) for row in range(len(cameras))])
    as_given = fit_of(gaussians, cameras, photographs, inside)
    if as_given.psnr >= GOOD_PSNR:
        return as_given, None
    axes, best = _best_axes(gaussians, cameras, photographs, inside)
    is_led = best.psnr > max(as_given.psnr + LEAD, LEAST_PSNR)
    is_mixed = as_given.covered >= LEAST_SEEN and len(cameras) > 1 and as_given.psnr < as_given.others + GAIN
    if not is_led and not is_mixed:
        return as_given, None
    fix = "take the cameras that the scene was trained with; data.check_capture=false goes on all the same"
    if is_led:
        fix = f"{axes} would fit, with {best.psnr:.1f} dB: export or convert the cameras so; "
        fix += "data.check_capture=false goes on all the same"
    return as_given, ConfigError(
        what=f"renders from cameras {name} are not what their photographs show: {as_given.psnr:.1f} dB PSNR, and "
        f"{as_given.others:.1f} dB against those of other views",
        expected="poses and a scene of one world",
        fix=fix,
    )


def fit_of(
    gaussians: Scene, cameras: Cameras, photographs: Float[Tensor, "c h w 3"], inside: Float[Tensor, "c h w"]
) -> Fit:
    """How renders fit photographs where the scene covers them, whatever is behind it.

    Args:
        gaussians: The scene.
        cameras: (c) of one size.
        photographs: What each shows, [0, 1].
        inside: How much of each pixel the photograph shows, [0, 1].
    """
    images, alphas = _renders(gaussians, cameras)
    weights = alphas * inside.to(alphas)[..., None]
    photographs = photographs.to(images)
    psnrs = torch.stack([
        _psnr((images - alphas * photographs.roll(shift, 0)) * inside.to(images)[..., None], weights)
        for shift in range(len(cameras))
    ])  # fmt: skip
    others = float(psnrs[1:].mean()) if len(psnrs) > 1 else float("-inf")
    return Fit(float(psnrs[0].mean()), others, float(alphas.mean()))


def _best_axes(gaussians: Scene, cameras: Cameras, photographs: Tensor, inside: Tensor) -> tuple[str, Fit]:
    """The axes under which renders fit best, of those that people mix up."""
    viewmats = cameras.viewmats
    turned = {name: turn @ viewmats for name, turn in CAMERA_AXES.items()}
    turned |= {name: viewmats @ turn for name, turn in WORLD_AXES.items()}
    turned[INVERTED] = torch.linalg.inv(viewmats.double()).float()
    fits = {
        name: fit_of(gaussians, replace(cameras, viewmats=poses), photographs, inside) for name, poses in turned.items()
    }
    fits = {name: fit for name, fit in fits.items() if fit.covered >= LEAST_COVERED}
    best = max(fits, key=lambda name: fits[name].psnr, default="")
    return best, fits.get(best, Fit(float("-inf"), float("-inf"), 0.0))


def _psnr(errors: Tensor, weights: Tensor) -> Tensor:
    """(c) dB; where nothing is covered, 0."""
    squares, whole = errors.square().sum((1, 2, 3)), 3 * weights.square().sum((1, 2, 3))
    return torch.where(whole > 1, -10 * torch.log10((squares / whole.clamp_min(1)).clamp_min(1e-6)), 0.0)


@torch.no_grad()
def _renders(gaussians: Scene, cameras: Cameras) -> tuple[Float[Tensor, "c h w 3"], Float[Tensor, "c h w 1"]]:
    """On black, and how much of each pixel the scene covers."""
    background = torch.zeros(3, device=gaussians.device)
    pairs = [render(gaussians, cameras[row].to(gaussians.device), background)[:2] for row in range(len(cameras))]
    images, alphas = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return images, alphas.reshape(*images.shape[:3], 1)
