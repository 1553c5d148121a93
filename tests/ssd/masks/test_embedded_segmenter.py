"""Words to Gaussians on the embedded world: the shipped segmenter, traced, against the true object."""

import pytest
import torch

from threestudio_ssd.masks import MaskConfig, find_selection
from threestudio_ssd.rendering import coverage
from threestudio_ssd.toyworld import PART_OBJECT, Attributes, build_scene, orbit_camera
from threestudio_ssd.toyworld.splat import to_cameras, to_gaussians

SEED = 10_000_123
"""Of scenes that no model was trained on."""
CASES = {
    "the red ball": Attributes("ball", "red", "plain", "grass", "day"),
    "the mushroom": Attributes("mushroom", "yellow", "dotted", "snow", "day"),
    "the blue house": Attributes("house", "blue", "plain", "sand", "day"),
    "the object": Attributes("car", "green", "striped", "sand", "sunset"),
}


@pytest.mark.parametrize("text", CASES)
def test_the_object_is_selected_by_words(text):
    scene = build_scene(CASES[text], SEED)
    gaussians, is_object = to_gaussians(scene), torch.from_numpy(scene.parts == PART_OBJECT)
    cameras, others = (
        to_cameras([orbit_camera(azimuth + shift, 25) for azimuth in range(0, 360, 45)], 64, 64) for shift in (0, 20)
    )
    mask = MaskConfig(text=text, segmenter="data/tiny-seg")
    is_selected = find_selection(mask, gaussians, cameras, cameras, torch.zeros(3)).is_selected
    selected, true = (coverage(gaussians, rows, others) > 0.5 for rows in (is_selected, is_object))
    assert (selected & true).sum() / (selected | true).sum() > 0.93
