"""A splat that looks like a radiance field, so that every viewer opens it: its nodes as Gaussians, then a fit."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras, orbit_cameras
from ..data.views import GOLDEN_TURN_DEG
from ..fields import RadianceField, field_as_gaussians
from ..gaussians import Gaussians, half_turn_x
from ..gaussians.io import check_writable, save_gaussians
from ..latents import load_visible
from ..rendering import render_each
from .editable_gaussians import EditableGaussians
from .gaussian_edit import GaussianEdit, Movement, SceneUnderEdit
from .growth import Growth, GrowthConfig
from .objectives import Photometric

RATES = {
    "means": 0.0, "log_scales": 0.02, "raw_quats": 0.0, "logit_opacities": 0.05, "sh0": 0.02, "shN": 0.001,
}  # fmt: skip
"""Adam's rates at the start: nodes are where they belong, sizes and opacities are what is rough."""
LAST_SHARE = 0.1
"""What rates fall to."""
LAMBDA_SSIM = 0.2
CUBE = 0.28
"""Half the side of the cube around a scene, in distances of its cameras."""
STEPS = 300
"""Of the fit, as a rule."""
MOST_VIEWS = 48
"""Views that are rendered for the fit."""


def views_around(field: RadianceField) -> Cameras:
    """Views of the scene in a field's cube, from all sides, above and a little below.

    Args:
        field: Its cameras are taken to have stood as far away as ``fit-nerf.yaml`` takes them.
    """
    azimuths = torch.arange(MOST_VIEWS) * GOLDEN_TURN_DEG % 360
    elevations = torch.linspace(-10.0, 60.0, MOST_VIEWS)
    center, up = field.lattice.center.cpu(), torch.tensor([0.0, 0.0, 1.0])
    return orbit_cameras(center, field.lattice.half / CUBE, elevations, azimuths, 45.0, 128, 128, up=up)


def splat_of(
    field: RadianceField, cameras: Cameras, background: Float[Tensor, "3"], num_steps: int, seed: int = 0
) -> Gaussians:
    """Gaussians at the nodes of a field, fitted to its renders.

    Args:
        field: Where it is rendered.
        cameras: Views of one size.
        background: Behind the field.
        num_steps: Of the fit, a view each; 0: Gaussians as they are made of the nodes.
        seed: Decides the order of views.
    """
    start = field_as_gaussians(field)
    if num_steps == 0:
        return start
    count = min(MOST_VIEWS, len(cameras))
    views = cameras[torch.linspace(0, len(cameras) - 1, count).round().long()].to(field.device)
    targets = list(render_each(field, views, background))
    editable = EditableGaussians(start, torch.ones(len(start), dtype=torch.bool, device=field.device))
    growth = Growth(GrowthConfig(), editable, extent=1.0, num_steps=num_steps, seed=seed)
    rates = {name: [0, rate, LAST_SHARE * rate, num_steps] if rate else 0.0 for name, rate in RATES.items()}
    edit = GaussianEdit(
        [SceneUnderEdit(editable, views, seed, growth)], Photometric(targets, LAMBDA_SSIM), Movement(rates),
        num_steps=num_steps, background=background,
    )  # fmt: skip
    edit.prepare()
    with torch.enable_grad():  # results are written where nothing else needs it
        edit.make_steps()
    return editable.result()


def convert_field(src: str | Path, dst: str | Path, *, half_turn: bool, spz_version: int | None) -> Gaussians:
    """Read a field and write a splat of it, fitted in views from all around.

    Args:
        src: Folder of the field.
        dst: The splat; the suffix decides the format.
        half_turn: Whether to negate y and z.
        spz_version: As for ``save_gaussians``.

    Returns:
        What was written.

    Raises:
        SceneFormatError: If the field or the suffix cannot be used.
    """
    check_writable(dst)
    field = load_visible(src)
    assert isinstance(field, RadianceField)
    gaussians = splat_of(field, views_around(field), torch.zeros(3), STEPS)
    gaussians = half_turn_x(gaussians) if half_turn else gaussians
    save_gaussians(gaussians, dst, spz_version=spz_version)
    return gaussians
