"""Whole runs of toy edits: a judge that tells right from wrong."""

from threestudio_ssd.benchmarks.toy.single import as_table, judge
from threestudio_ssd.toyworld import build_scene
from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.splat import to_gaussians


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
    assert abs(right["slope"] - 1) < 1e-3
    row = right | {"source_prompt": "a", "target_prompt": "b", "seconds": 1.0}
    assert "| a → b | 1.00 |" in as_table([row])
    other = row | {"success": 0.0, "target_prompt": "b"}
    assert "| a → b | 1.00, 0.00 |" in as_table([row, other])
