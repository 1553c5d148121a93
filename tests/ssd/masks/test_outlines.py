"""Lines in views: they lie where renders show the same points, in front of the camera only, and carry their keys."""

import math

import pytest
import torch
from omegaconf import OmegaConf

from threestudio_ssd.cameras import orbit_cameras
from threestudio_ssd.edits.photometric import gaussians_from_points
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.masks.outlines import (
    box_outline,
    core_of,
    mask_outlines,
    named_outlines,
    sphere_outline,
    tick_distance,
    with_lines,
)
from threestudio_ssd.rendering import render

BOX_KEY = [-0.5, -0.4, 0.1, 0.6, 0.3, 0.9]
BLACK = torch.zeros(3)


def camera(size: int = 200, azimuth: float = 30.0):
    return orbit_cameras([0.0, 0, 0.5], 3.0, 25.0, azimuth, 45.0, size, size, up="+z")


def drawn_pixels(view, core, outlines):
    """(k 2) columns and rows of the pixels that outlines change, and the image."""
    without, image = (with_lines(torch.zeros(200, 200, 3), view, core, each) for each in ((), outlines))
    rows, columns = (image != without).any(-1).nonzero().T
    return torch.stack([columns, rows], dim=1)


@pytest.mark.parametrize("azimuth", [0.0, 77.0, 200.0])
def test_the_corners_of_a_box_are_where_a_render_shows_them(azimuth):
    low, high = torch.tensor(BOX_KEY).view(2, 3)
    corners = torch.stack([torch.where(torch.tensor([i & 1, i & 2, i & 4]) > 0, high, low) for i in range(8)])
    dots = gaussians_from_points(corners, torch.ones(8, 3), 0, 0.99)
    dots = dots.replace(log_scales=torch.full((8, 3), math.log(0.01)))
    shown, view = render(dots, camera(azimuth=azimuth), BLACK)[0][0], camera(azimuth=azimuth)
    box = box_outline("b", BOX_KEY)
    drawn = drawn_pixels(view, core_of(None, [box]), [box])
    bright = (shown.amax(-1) > 0.3).nonzero().flip(1)
    assert len(bright) >= 8
    distances = (bright[:, None] - drawn[None]).double().norm(dim=-1).amin(1)
    assert float(distances.max()) < 2.5
    # and nothing is drawn beyond the box that they span: all of it lies inside their hull, but for the label above
    low_pixel, high_pixel = bright.amin(0), bright.amax(0)
    assert (drawn >= low_pixel - torch.tensor([3, 20])).all()
    assert (drawn[:, 1] <= high_pixel[1] + 3).all()


def test_a_sphere_is_drawn_around_its_middle():
    view, sphere = camera(), sphere_outline("mask.sphere", [0.0, 0.0, 0.5, 0.4])
    drawn = drawn_pixels(view, core_of(None, [sphere]), [sphere])
    radii = (drawn - 99.5).double().norm(dim=1)
    limb = float(view.Ks[0, 0, 0]) * 0.4 / math.sqrt(3.0**2 - 0.4**2)
    assert float(radii[drawn[:, 1] > 100].max()) < limb + 1.5
    assert float(radii.max()) > limb - 4


def test_what_is_behind_the_camera_is_not_drawn_and_what_reaches_there_is_cut_off():
    view, blank = camera(), torch.zeros(200, 200, 3)
    behind = box_outline("mask.box", [*(10 * view.centers[0] - 0.1).tolist(), *(10 * view.centers[0] + 0.1).tolist()])
    core = torch.tensor([[-0.5, -0.5, 0], [0.5, 0.5, 1]], dtype=torch.float64)
    assert torch.equal(with_lines(blank, view, core, [behind]), with_lines(blank, view, core))
    through = box_outline("mask.box", [-20, -0.2, 0.3, 20, 0.2, 0.7])
    drawn = drawn_pixels(camera(azimuth=90.0), core, [through])
    assert len(drawn) > 50


def test_pixels_that_no_line_touches_stay_as_they_are():
    image = torch.rand(200, 200, 3)
    core = torch.tensor([[-0.5, -0.5, 0], [0.5, 0.5, 1]], dtype=torch.float64)
    drawn = with_lines(image, camera(), core)
    is_same = (drawn == image).all(-1)
    assert 0.8 < float(is_same.float().mean()) < 0.999
    assert drawn.dtype == image.dtype


def test_every_box_and_sphere_of_the_keys_is_found_with_its_key():
    system = OmegaConf.create({
        "mask": {
            "box": BOX_KEY, "sphere": None,
            "any_of": [{"sphere": [0, 0, 1, 2]}, {"any_of": [{"box": BOX_KEY}], "text": "a chair"}],
            "none_of": [{"box": [0, 0, 0, 1, 1, 1]}],
        },
        "region": None, "box": [0, 0, 0, 2, 2, 2],
    })  # fmt: skip
    assert [outline.text for outline in named_outlines(system)] == [
        "mask.box=[-0.5,-0.4,0.1,0.6,0.3,0.9]", "mask.any_of[0].sphere=[0,0,1,2]",
        "mask.any_of[1].any_of[0].box=[-0.5,-0.4,0.1,0.6,0.3,0.9]", "mask.none_of[0].box=[0,0,0,1,1,1]",
        "box=[0,0,0,2,2,2]",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"mask\.none_of\[0\]\.box is"):
        mask_outlines({"none_of": [{"box": [1, 2]}]})


@pytest.mark.parametrize(("length", "step"), [(1.0, 0.2), (4.9, 0.5), (5.0, 1.0), (23.0, 2.0), (0.03, 0.005)])
def test_ticks_are_at_round_numbers(length, step):
    assert tick_distance(length) == pytest.approx(step)


def test_axes_reach_around_the_selection_and_the_outlines():
    core = core_of(torch.rand(1000, 3), [box_outline("box", [2, 2, 2, 3, 3, 3])])
    assert core[1].tolist() == [3, 3, 3]
    assert (core[0] < 0.05).all()
