"""``--run convert SRC DST``."""

import contextlib
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import threestudio
from threestudio.apps import start
from threestudio_ssd.apps.convert import Convert
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.gaussians.io import SceneFormatWarning, convert_gaussians, load_gaussians

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".splat", ".spz", ".sog"])
def test_every_format_can_be_written(suffix, tmp_path):
    loses_views = pytest.warns(SceneFormatWarning, match="no view-dependent colour")
    with loses_views if suffix == ".splat" else contextlib.nullcontext():
        convert_gaussians(GOLDEN / "sh3.ply", tmp_path / f"scene{suffix}")
    assert len(load_gaussians(tmp_path / f"scene{suffix}")) == 1000


def test_compressed_ply_is_put_in_spatial_order_and_its_error_is_that_of_other_programs(tmp_path):
    convert_gaussians(GOLDEN / "sh3.ply", tmp_path / "scene.compressed.ply")
    ours, truth = load_gaussians(tmp_path / "scene.compressed.ply"), load_gaussians(GOLDEN / "sh3.ply")
    assert torch.cdist(ours.means, truth.means).amin(dim=1).max() < 0.011
    theirs = load_gaussians(GOLDEN / "sh3.compressed.ply")
    mean_of = [torch.cdist(scene.means, truth.means).amin(dim=1).mean() for scene in (ours, theirs)]
    assert mean_of[0] < 1.2 * mean_of[1]
    convert_gaussians(GOLDEN / "sh3.compressed.ply", tmp_path / "again.compressed.ply")
    assert torch.equal(load_gaussians(tmp_path / "again.compressed.ply").means, theirs.means)


def test_half_turn(tmp_path):
    convert_gaussians(GOLDEN / "sh3_v4_declared_rdf.spz", tmp_path / "upright.ply", half_turn=True)
    upright, truth = load_gaussians(tmp_path / "upright.ply"), load_gaussians(GOLDEN / "sh3.ply")
    assert torch.allclose(upright.means, truth.means, atol=2e-4)


def test_the_app(tmp_path):
    assert threestudio.find("app-convert") is Convert
    out = tmp_path / "scene.spz"
    assert start("convert", None, [str(GOLDEN / "sh2_40.ply"), str(out)]) == 0
    assert load_gaussians(out).sh_degree == 2
    assert start("convert", None, [f"src={out}", f"dst={tmp_path / 'back.ply'}"]) == 0
    assert len(load_gaussians(tmp_path / "back.ply")) == 40


def test_a_suffix_that_cannot_be_written_is_refused_before_a_field_is_fitted(tmp_path, monkeypatch):
    from threestudio_ssd.edits import field_splat

    monkeypatch.setattr(field_splat, "load_visible", lambda path: pytest.fail("it was read"))
    for name, said in {
        "a.xyz": "choose another suffix",
        "a.field": "launch.py --config configs/fit-nerf-splat",
    }.items():
        with pytest.raises(SceneFormatError, match=f"unknown suffix .*{said}"):
            field_splat.convert_field("any.field", tmp_path / name, half_turn=False, spz_version=None)


def test_messages():
    with pytest.raises(ConfigError) as error:
        Convert(OmegaConf.create({"src": "a.ply"}))(None)
    assert str(error.value) == (
        "--run convert was given no dst; expected the file to read and the file to write; "
        "launch.py --run convert scene.ply scene.spz"
    )
