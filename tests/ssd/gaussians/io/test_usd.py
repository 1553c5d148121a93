"""OpenUSD: what is written fits the schema, and what other programs write is read."""

import sys

import numpy as np
import pytest
import torch

from threestudio_ssd.errors import MissingPackageError, SceneFormatError
from threestudio_ssd.gaussians import load_gaussians, rotated, save_gaussians

from .truth import GOLDEN, errors, true_scene

pxr = pytest.importorskip("pxr.UsdVol", reason="usd-core is not installed")


@pytest.fixture
def scene():
    return true_scene().select(slice(0, 50))


def test_the_prim_fits_the_schema(scene, tmp_path):
    from pxr import Usd, UsdGeom, UsdVol

    save_gaussians(scene, tmp_path / "a.usdz")
    stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
    prim = stage.GetDefaultPrim()
    splat = UsdVol.ParticleField3DGaussianSplat(prim)
    schema = Usd.SchemaRegistry().FindConcretePrimDefinition("ParticleField3DGaussianSplat")
    written = [each for each in prim.GetAuthoredAttributes() if not each.GetName().startswith("xformOp")]
    assert len(written) >= 9
    for attribute in written:
        definition = schema.GetAttributeDefinition(attribute.GetName())
        assert definition, attribute.GetName()
        assert definition.GetTypeName() == attribute.GetTypeName()
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    np.testing.assert_array_equal(np.array(splat.GetPositionsAttr().Get()), scene.means)
    np.testing.assert_allclose(np.array(splat.GetScalesAttr().Get()), scene.scales, rtol=1e-6)
    first = splat.GetOrientationsAttr().Get()[0]
    np.testing.assert_allclose([first.GetReal(), *first.GetImaginary()], scene.quats[0], atol=1e-6)
    low, high = np.array(splat.GetExtentAttr().Get())
    assert (low < scene.means.min(dim=0).values.numpy()).all()
    assert (high > scene.means.max(dim=0).values.numpy()).all()


def test_half_precision_and_transforms_are_read(scene, tmp_path):
    from pxr import Gf, Sdf, Usd, UsdGeom, UsdVol, Vt

    stage = Usd.Stage.CreateNew(str(tmp_path / "h.usda"))
    parent = UsdGeom.Xform.Define(stage, Sdf.Path("/world"))
    parent.AddRotateXOp().Set(90.0)
    splat = UsdVol.ParticleField3DGaussianSplat.Define(stage, Sdf.Path("/world/splat"))
    splat.CreatePositionshAttr(Vt.Vec3hArray.FromNumpy(scene.means.numpy().astype(np.float16)))
    splat.CreateScaleshAttr(Vt.Vec3hArray.FromNumpy(scene.scales.numpy().astype(np.float16)))
    splat.CreateOpacitieshAttr(Vt.HalfArray.FromNumpy(scene.opacities.numpy().astype(np.float16)))
    splat.CreateOrientationshAttr(Vt.QuathArray([Gf.Quath(*map(float, quat)) for quat in scene.quats]))
    splat.CreateRadianceSphericalHarmonicsDegreeAttr(3)
    sh = scene.sh.reshape(-1, 3).numpy().astype(np.float16)
    splat.CreateRadianceSphericalHarmonicsCoefficientshAttr(Vt.Vec3hArray.FromNumpy(sh))
    stage.GetRootLayer().Save()
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    difference = errors(load_gaussians(tmp_path / "h.usda"), rotated(scene, turn))
    assert difference["position"] < 0.01
    assert difference["log_scale"] < 0.001
    assert difference["rotation_degrees"] < 0.1
    assert difference["sh_rest"] < 0.002


@pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")
def test_nvidia_s_converter_and_this_one_agree(tmp_path, monkeypatch):
    """It turns a PLY into USD: the order of coefficients, of rotations, and every unit."""
    converter = pytest.importorskip("usd_convert_gsplat.cli", reason="usd-convert-gsplat is not installed")
    arguments = ["usd-convert-gsplat", "-i", str(GOLDEN / "sh3.ply"), "-o", str(tmp_path / "theirs.usdz")]
    monkeypatch.setattr(sys, "argv", arguments)
    converter.main()
    theirs = load_gaussians(tmp_path / "theirs.usdz")
    difference = errors(theirs, true_scene())
    assert difference["position"] < 1e-6
    assert difference["log_scale"] < 1e-6
    assert difference["rotation_degrees"] < 1e-3
    assert difference["sh_rest"] == 0
    assert difference["opacity_0_1"] < 1e-6


def test_what_cannot_be_read_is_said(scene, tmp_path):
    save_gaussians(scene, tmp_path / "a.usda")
    text = (tmp_path / "a.usda").read_text()
    broken = {
        "none": (text.replace("ParticleField3DGaussianSplat", "Points"), "holds 0 prims"),
        "degree": (text.replace("sphericalHarmonicsDegree = 3", "sphericalHarmonicsDegree = 2"), "800 coefficients"),
        "words": (text.replace("positions = [", "positions = [("), "cannot be read"),
        "elsewhere": (text.replace('def ParticleField3DGaussianSplat "splat" (',
                                   'def ParticleField3DGaussianSplat "splat" (\n    references = @/etc/passwd@'),
                      "refers to /etc/passwd"),
    }  # fmt: skip
    for name, (changed, words) in broken.items():
        assert changed != text, name
        (tmp_path / f"{name}.usda").write_text(changed)
        with pytest.raises(SceneFormatError, match=words):
            load_gaussians(tmp_path / f"{name}.usda")


def test_the_package_is_named_when_it_is_missing(scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(MissingPackageError, match="pip install usd-core"):
        save_gaussians(scene, tmp_path / "a.usdc")
    assert not (tmp_path / "a.usdc").exists()
