"""Files written here open in other programs."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from threestudio_ssd.gaussians import half_turn_x, load_gaussians, save_gaussians

from .truth import GOLDEN, errors, true_scene

SPLAT_TRANSFORM = os.environ.get("SPLAT_TRANSFORM") or shutil.which("splat-transform")


def test_plain_ply_opens_in_plyfile(tmp_path):
    import plyfile

    save_gaussians(true_scene(), tmp_path / "scene.ply")
    table = plyfile.PlyData.read(tmp_path / "scene.ply")["vertex"].data
    with np.load(GOLDEN / "truth_sh3.npz") as truth:
        assert np.array_equal(np.stack([table[axis] for axis in "xyz"], axis=1), truth["means"])
        rest = np.stack([table[f"f_rest_{i}"] for i in range(45)], axis=1)
        assert np.array_equal(rest.reshape(-1, 3, 15).transpose(0, 2, 1), truth["shN"])
        assert np.array_equal(np.stack([table[f"rot_{i}"] for i in range(4)], axis=1), truth["quats_wxyz"])
        assert np.array_equal(table["opacity"], truth["opacity_logits"])
    assert len(table.dtype.names) == 62


@pytest.mark.skipif(SPLAT_TRANSFORM is None, reason="needs splat-transform: npm install -g @playcanvas/splat-transform")
@pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")
@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".splat", ".spz", ".sog"])
def test_supersplat_reads_the_same_scene(suffix, tmp_path):
    path, back = tmp_path / f"scene{suffix}", tmp_path / "back.ply"
    save_gaussians(true_scene(), path)
    subprocess.run([SPLAT_TRANSFORM, "-w", path, back], check=True, capture_output=True, timeout=300)
    found = load_gaussians(back)
    if suffix == ".spz" and errors(found, load_gaussians(path))["position"] > 1:
        found = half_turn_x(found)  # version 2.7 takes SPZ to be in RUB axes and turns it; here it is read as it stands
    found = errors(found, load_gaussians(path))
    bounds = {
        "position": 1e-5,
        "rotation_degrees": 0.05,
        "log_scale": 1e-5,
        "opacity_0_1": 1e-4,
        "rgb_clipped_0_1": 1e-5,
    }
    if suffix == ".splat":  # it reads rotation bytes about 127.5, here they are read about 128
        bounds["rotation_degrees"] = 1.0
    for key, bound in bounds.items():
        assert found[key] <= bound, key
    assert found["sh_rest"] <= 1e-5
