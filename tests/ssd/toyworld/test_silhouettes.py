"""The shape of an edited object against the truth's."""

import pytest
import torch

from threestudio_ssd.toyworld import PART_OBJECT, build_scene
from threestudio_ssd.toyworld.edits import EDITS, SHAPE_EDITS, toy_edit
from threestudio_ssd.toyworld.silhouettes import shape_figures
from threestudio_ssd.toyworld.splat import to_gaussians
from threestudio_ssd.toyworld.truth import shots, turned_truth
from threestudio_ssd.toyworld.views import held_out_orbit

VIEWS = held_out_orbit(64, 4)


@pytest.mark.parametrize("name", ["ball-cube", "donut-cone"])
def test_the_truth_has_the_true_shape_and_the_source_has_not(name):
    edit = toy_edit(name)
    truth = shape_figures(to_gaussians(build_scene(edit.target, 3)), edit, 3, VIEWS)
    assert truth == {"shape_iou": 1.0, "boundary_f": 1.0}
    source = shape_figures(to_gaussians(build_scene(edit.source, 3)), edit, 3, VIEWS)
    assert source["shape_iou"] < 0.87
    assert source["boundary_f"] < 0.8


def test_an_object_that_is_gone_has_no_shape():
    edit = toy_edit("ball-cube")
    scene = build_scene(edit.target, 3)
    bare = to_gaussians(scene).select(torch.from_numpy(scene.parts != PART_OBJECT))
    assert shape_figures(bare, edit, 3, VIEWS)["shape_iou"] == 0


def test_changes_of_shape_change_the_object_alone_and_are_none_of_the_others():
    assert not set(SHAPE_EDITS) & set(EDITS)
    assert len(SHAPE_EDITS) >= 12
    assert {toy_edit(name).attribute for name in SHAPE_EDITS} == {"object"}


@pytest.mark.parametrize(
    ("name", "turn_deg"), [("ball-cube", 85.0), ("ball-car", 290.0), ("car-house", 210.0), ("donut-cone", 0.0)]
)
def test_a_new_object_may_face_any_way(name, turn_deg):
    edit = toy_edit(name)
    result = to_gaussians(build_scene(edit.target, 3, turn_deg=turn_deg))
    truth = turned_truth(shots(result, VIEWS), edit, 3, VIEWS)
    assert truth.turn_deg == turn_deg
    assert torch.equal(truth.target, shots(result, VIEWS))
    assert shape_figures(result, edit, 3, VIEWS, truth.turn_deg) == {"shape_iou": 1.0, "boundary_f": 1.0}


def test_an_object_that_stays_faces_as_it_did():
    edit = toy_edit("red-car")
    turned = shots(to_gaussians(build_scene(edit.target, 3, turn_deg=90)), VIEWS)
    assert turned_truth(turned, edit, 3, VIEWS).turn_deg == 0
