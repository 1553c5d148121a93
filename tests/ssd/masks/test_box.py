"""Selection by a box, by a sphere."""

import pytest
import torch

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.masks import in_box, in_sphere

MEANS = torch.tensor([[0.0, 0, 0], [1, 2, 3], [1, 2, 3.001], [-1, -2, -3], [0.5, -2.5, 0]])


def test_centres_inside_and_on_the_faces_are_in():
    assert in_box(MEANS, [-1, -2, -3, 1, 2, 3]).tolist() == [True, True, False, True, False]


def test_every_axis_bounds():
    for axis in range(3):
        for sign in (-1, 1):
            point = torch.zeros(1, 3)
            point[0, axis] = sign * 1.5
            assert not in_box(point, [-1, -1, -1, 1, 1, 1]).any()


@pytest.mark.parametrize(
    "box",
    [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 1, 1], [0, 0, 2, 1, 1, 2], [0, 0, 0, 1, float("nan"), 1]],
)
def test_boxes_that_hold_nothing_are_refused(box):
    with pytest.raises(ConfigError) as error:
        in_box(MEANS, box)
    assert error.value.what == f"mask.box is {box}"
    assert error.value.fix == "set mask.box=[-1,-1,0,1,1,2]"


def test_centres_within_the_radius_are_in():
    assert in_sphere(MEANS, [1, 2, 2, 1.0]).tolist() == [False, True, False, False, False]
    assert in_sphere(MEANS, [0, 0, 0, 4.0]).tolist() == [True] * 5


@pytest.mark.parametrize("sphere", [[0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1], [0, 0, 0, float("nan")], [0, 0, 0, 1, 1]])
def test_spheres_that_hold_nothing_are_refused(sphere):
    with pytest.raises(ConfigError) as error:
        in_sphere(MEANS, sphere)
    assert error.value.what == f"mask.sphere is {sphere}"
    assert error.value.fix == "set mask.sphere=[0,0,1,1.5]"
