"""Mip-Splatting's smoothing filter: applied on reading, kept on writing, and antialiased when drawn."""

import numpy as np
import pytest
import torch

from tests.edit_world import toy_cameras
from threestudio_ssd.gaussians import load_gaussians, save_gaussians
from threestudio_ssd.rasterizers import rasterization
from threestudio_ssd.rendering import render

from .truth import GOLDEN


@pytest.fixture(params=["float", "double"])
def mip_file(request, tmp_path):
    """A PLY with the filter's column at the end of each row, and its stored values."""
    from plyfile import PlyData, PlyElement

    table = PlyData.read(GOLDEN / "sh1_40.ply")["vertex"].data
    kind = "f4" if request.param == "float" else "f8"
    rows = np.empty(40, [*table.dtype.descr, ("filter_3D", kind)])
    for name in table.dtype.names:
        rows[name] = table[name]
    rows["filter_3D"] = np.linspace(0, 0.5, 40)
    PlyData([PlyElement.describe(rows, "vertex")]).write(tmp_path / "mip.ply")
    return tmp_path / "mip.ply", rows


def test_sizes_grow_by_the_filter_and_opacities_fall(mip_file):
    path, rows = mip_file
    scene = load_gaussians(path)
    squares = np.exp(2 * np.stack([rows[f"scale_{axis}"] for axis in range(3)], axis=1).astype(np.float64))
    blurred = squares + rows["filter_3D"].astype(np.float64)[:, None] ** 2
    np.testing.assert_allclose(scene.scales.numpy() ** 2, blurred, rtol=1e-5)
    opacities = 1 / (1 + np.exp(-rows["opacity"].astype(np.float64)))
    expected = opacities * np.sqrt(squares.prod(axis=1) / blurred.prod(axis=1))
    np.testing.assert_allclose(scene.opacities.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert scene.is_antialiased


def test_rows_keep_their_bytes_and_edited_ones_are_drawn_as_they_are(mip_file, tmp_path):
    from plyfile import PlyData

    path, rows = mip_file
    scene = load_gaussians(path)
    save_gaussians(scene, tmp_path / "same.ply")
    assert (tmp_path / "same.ply").read_bytes() == path.read_bytes()
    edited = scene.clone()
    edited.log_scales[7] -= 1
    edited.sh0[9] += 1
    edited = edited.append(edited.select([3]).replace(means=edited.means[3:4] + 1))
    save_gaussians(edited, tmp_path / "edited.ply")
    table = PlyData.read(tmp_path / "edited.ply")["vertex"].data
    untouched = [row for row in range(40) if row not in (7, 9)]
    assert table[:40][untouched].tobytes() == rows[untouched].tobytes()
    assert table["filter_3D"][7] == 0
    assert table["filter_3D"][9] == rows["filter_3D"][9]
    again = load_gaussians(tmp_path / "edited.ply")
    assert torch.equal(again.log_scales, edited.log_scales)
    assert torch.equal(again.logit_opacities, edited.logit_opacities)


def test_antialiased_splats_are_drawn_so():
    scene = load_gaussians(GOLDEN / "sh1_40.ply")
    camera = toy_cameras(1, 32)
    scene.log_scales -= 3  # smaller than a pixel
    plain = render(scene, camera, torch.zeros(3))[0]
    scene.is_antialiased = True
    drawn = render(scene, camera, torch.zeros(3))[0]
    direct = rasterization(
        scene.means, scene.raw_quats, scene.scales, scene.opacities, scene.sh, camera.viewmats, camera.Ks, 32, 32,
        sh_degree=1, backgrounds=torch.zeros(1, 3), rasterize_mode="antialiased",
    )[0]  # fmt: skip
    assert torch.equal(drawn, direct)
    assert (plain - drawn).abs().max() > 0.01
