"""Files of radiance fields: the same bytes again, and one line for each that is none."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.field_world import ball_field
from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.fields import is_field, load_field, save_field
from threestudio_ssd.files import sha256
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.scenes import load_scene, load_splat


@pytest.fixture
def saved(tmp_path):
    save_field(ball_field(resolution=9, sh_degree=2), tmp_path / "ball.field")
    return tmp_path / "ball.field"


def test_a_field_comes_back_to_the_bit_and_is_written_to_the_byte(saved, tmp_path):
    field, again = ball_field(resolution=9, sh_degree=2), load_field(saved)
    for name, values in field.parameters().items():
        assert torch.equal(values, getattr(again, name)), name
    assert torch.equal(field.means, again.means)
    save_field(again, tmp_path / "again.field")
    for name in ("field.json", "field.safetensors"):
        assert (tmp_path / "again.field" / name).read_bytes() == (saved / name).read_bytes()


def test_a_scene_is_what_its_file_says(saved):
    assert is_field(saved)
    assert is_field(saved / "field.json")
    assert load_scene(saved / "field.json").sh_degree == 2
    with pytest.raises(SceneFormatError, match="is a radiance field; expected a splat file"):
        load_splat(saved)


def broken(folder, **changes):
    document = json.loads((folder / "field.json").read_text())
    (folder / "field.json").write_text(json.dumps({**document, **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "nerf"}, "is not the document of a radiance field"),
        ({"version": 7}, "is of version 7"),
        ({"resolution": 100000}, "has the resolution 100000"),
        ({"resolution": "9"}, "has the resolution '9'"),
        ({"center": [0, 1]}, r"has the center \[0, 1\]"),
        ({"half": -1}, "has the half -1"),
        ({"half": None}, "has the half None"),
        ({"half": 10**400}, "has the half 1000"),
        ({"half": 1e300}, r"has the half 1e\+300, not a length from 1e-09 to 1e\+09"),
        ({"half": 1e-300}, "has the half 1e-300"),
        ({"center": [10**400, 0, 0]}, "not three numbers up to"),
        ({"version": True}, "is of version True"),
        ({"resolution": True}, "has the resolution True"),
        ({"nodes": 5}, "field.json says nodes 5, and it holds"),
        ({"nodes": None}, "has the nodes None"),
        ({"sh_degree": 3}, "field.json says sh_degree 3, and it holds 2"),
        ({"sha256": None}, "has the sha256 None, not a checksum"),
        ({"sha256": "0"}, "is not the file that field.json was written for"),
        ({"resolution": 5}, "a node is outside the lattice of 5 a side"),
    ],
)
def test_a_wrong_document_is_refused(saved, changes, said):
    with pytest.raises(SceneFormatError, match=said):
        load_field(broken(saved, **changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "sh0"}, "it holds nodes, raw_densities, shN"),
        (lambda t: t | {"nodes": t["nodes"].float()}, "torch.float32, not"),
        (lambda t: t | {"nodes": torch.cat([t["nodes"][:1], t["nodes"][:-1]])}, "a node is there twice"),
        (lambda t: t | {"nodes": -t["nodes"]}, "outside the lattice"),
        (lambda t: t | {"sh0": t["sh0"][1:]}, "sh0 is"),
        (lambda t: t | {"shN": t["shN"][:, :2].contiguous()}, "shN holds 2 coefficients"),
        (lambda t: t | {"raw_densities": t["raw_densities"] * torch.nan}, "not finite"),
        (lambda t: t | {"sh0": t["sh0"] * 0 + 1e38}, "sh0 holds values that are not finite, or beyond"),
    ],
)
def test_wrong_tensors_are_refused(saved, change, said):
    save_file(change(load_file(saved / "field.safetensors")), saved / "field.safetensors")
    with pytest.raises(SceneFormatError, match=said):
        load_field(broken(saved, sha256=sha256(saved / "field.safetensors")))


def test_a_file_that_is_cut_short_or_missing_is_refused(saved):
    content = (saved / "field.safetensors").read_bytes()
    (saved / "field.safetensors").write_bytes(content[:100])
    with pytest.raises(SceneFormatError, match=r"field.safetensors cannot be read"):
        load_field(broken(saved, sha256=sha256(saved / "field.safetensors")))
    (saved / "field.safetensors").unlink()
    with pytest.raises(SceneFormatError, match=r"field.safetensors cannot be read"):
        load_field(saved)
    with pytest.raises(SceneFormatError, match="field.json cannot be read .No such file"):
        load_field(saved.parent / "none.field")


def test_a_nerfacto_checkpoint_is_refused_by_name(tmp_path):
    pipeline = {"_model.field.mlp_base.params": torch.zeros(4), "_model.proposal_networks.0.aabb": torch.zeros(2, 3)}
    torch.save({"step": 3, "pipeline": pipeline}, tmp_path / "step-000000003.ckpt")
    with pytest.raises(SceneFormatError, match=r"is a radiance field of nerfstudio, such as nerfacto.*fit-nerf.yaml"):
        load_gaussians(tmp_path / "step-000000003.ckpt")
