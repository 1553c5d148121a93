"""Edits with known outcome: the list, and a judge that tells right from wrong."""

import pytest

from threestudio_ssd.apps.make_toy_scene import write_scene
from threestudio_ssd.apps.toy_edits import EDITS, as_table, judge, toy_edit
from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.toyworld import Attributes, build_scene
from threestudio_ssd.toyworld.splat import to_gaussians


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_changes_one_attribute_or_none(name):
    edit = toy_edit(name)
    different = [a for a, b in zip(edit.source, edit.target, strict=True) if a != b]
    assert len(different) == (0 if edit.attribute == "null" else 1)
    assert edit.has_mask == (edit.attribute in ("object", "color", "pattern"))


def test_the_list_covers_every_kind_of_edit():
    kinds = [toy_edit(name).attribute for name in EDITS]
    assert len(EDITS) >= 24
    assert all(kinds.count(kind) >= 3 for kind in ("color", "pattern", "object", "ground", "time", "null"))
    assert len({toy_edit(name) for name in EDITS}) == len(EDITS)
    with pytest.raises(ConfigError, match="there is no toy edit 'blue-bal'"):
        toy_edit("blue-bal")


def test_the_judge_prefers_the_truth(tmp_path):
    edit = toy_edit("blue-ball")
    truth, source = (to_gaussians(build_scene(a, 3)) for a in (edit.target, edit.source))
    right = judge(edit, truth, tmp_path, 3)
    wrong = judge(edit, source, tmp_path, 3)
    assert right["success"] == 1
    assert wrong["success"] == 0
    assert right["psnr_truth_after"] > 60 > wrong["psnr_truth_after"]
    assert wrong["outside_psnr"] == 100
    assert (tmp_path / "strip.png").exists()
    row = right | {"source_prompt": "a", "target_prompt": "b", "seconds": 1.0}
    assert "| a → b | 1.00 |" in as_table([row])


def test_an_embedded_scene_can_be_read_back(tmp_path):
    write_scene(tmp_path, Attributes(), 3)
    gaussians, cameras = load_gaussians(tmp_path / "scene.ply"), load_cameras(tmp_path / "cameras.json")
    assert len(gaussians) == len(build_scene(Attributes(), 3).means)
    assert len(cameras) == 96
    assert {path.stem for path in (tmp_path / "masks").iterdir()} <= set(cameras.names)
