"""``--run evaluate``: figures of two splats that any tool may have made."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.edit_world import toy_cameras, toy_parts
from threestudio.run import main
from threestudio_ssd.gaussians.io import save_gaussians
from threestudio_ssd.toyworld.splat import save_cameras_json

PROMPTS = ["source_prompt=a photo of a red ball on grass", "target_prompt=a photo of a blue ball on grass"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A thinned toy scene, the same with its object blue, and cameras around it."""
    folder = tmp_path_factory.mktemp("scenes")
    gaussians, is_object = toy_parts(keep_every=4)
    sh0 = gaussians.sh0.clone()
    sh0[is_object] = sh0[is_object].flip(-1)
    save_gaussians(gaussians, folder / "before.ply")
    save_gaussians(gaussians.replace(sh0=sh0), folder / "after.splat")
    save_cameras_json(toy_cameras(6, 64), folder / "cameras.json")
    return folder


def run(scenes, out, *words, cameras=True):
    given = [str(scenes / "before.ply"), str(scenes / "after.splat")]
    given += [str(scenes / "cameras.json")] if cameras else []
    code = main(["--run", "evaluate", *given, "size=48", "num_views=4", f"out={out}", *words])
    return code, json.loads((out / "evaluate.json").read_text()) if code == 0 else None


def test_two_files_and_cameras_give_a_report(scenes, tmp_path, capsys):
    code, found = run(scenes, tmp_path, *PROMPTS, f"truth={scenes / 'after.splat'}")
    assert code == 0
    assert found["num_views"] == 4
    assert found["clip_directional_similarity"] > 0.2
    assert found["protocol"] == "paired-views"
    assert 10 < found["psnr_to_before"] < 40
    assert found["psnr_to_truth"] == 100 > found["psnr_to_truth_before"]
    assert np.asarray(Image.open(tmp_path / "views.png")).shape == (96, 4 * 48, 3)
    out = capsys.readouterr().out
    assert "| clip_directional_similarity |" in out
    assert "same camera for both pictures" in out
    assert out.endswith(f"{tmp_path}/evaluate.json\n")


def test_the_released_script_s_protocol_says_so(scenes, tmp_path, capsys):
    code, found = run(scenes, tmp_path, *PROMPTS, "protocol=ssd-released-script")
    assert code == 0
    assert found["protocol"] == "ssd-released-script"
    assert "reproduces the defects of the released metric script" in capsys.readouterr().out
    assert found["note"].endswith("it does not measure the edit.")
    _, paired = run(scenes, tmp_path, *PROMPTS)
    assert abs(paired["clip_directional_similarity"] - found["clip_directional_similarity"]) > 1e-3


def test_without_cameras_an_orbit_and_without_prompts_no_clip(scenes, tmp_path):
    code, found = run(scenes, tmp_path, cameras=False)
    assert code == 0
    assert not any(key.startswith("clip") for key in found)
    assert found["psnr_to_before"] < 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: --run evaluate was given no splats; expected BEFORE AFTER [CAMERAS], or --config of a benchmark; "
         "write --run evaluate before.ply after.ply cameras.json, or --config configs/bench/toy.yaml\n"),
        (["a.ply"], "error: after is empty; expected a splat file; set after=scene.ply\n"),
        (["a.ply", "b.ply", "num_views=1"], "error: num_views is 1; expected at least 2; set num_views=20\n"),
        (["a.ply", "b.ply", "target_prompt=a cat"], "error: one of source_prompt and target_prompt is empty; expected "
         'both captions; set source_prompt="a photo of ..." target_prompt="a photo of ..."\n'),
    ],
)  # fmt: skip
def test_mistakes(words, message, capsys):
    assert main(["--run", "evaluate", *words]) == 2
    assert capsys.readouterr().err == message
