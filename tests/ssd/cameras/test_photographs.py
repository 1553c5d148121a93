"""Splat, cameras and pictures of one capture belong together: the splat drawn through the cameras is the pictures."""

import math
from pathlib import Path

import pytest
import torch

from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.gaussians import load_gaussians
from threestudio_ssd.rendering import render_each

PLANT = Path(__file__).parents[3] / "data" / "plant"


@pytest.mark.parametrize("view", [0, 5])
def test_the_plant_drawn_through_blender_cameras_is_its_pictures(view):
    gaussians, cameras = load_gaussians(PLANT / "plant.ply"), load_cameras(PLANT / "blender_views")[view]
    (image,) = render_each(gaussians, cameras, torch.ones(3))
    error = float((image - cameras.load_image(0)).square().mean())
    assert -10 * math.log10(error) > 45
