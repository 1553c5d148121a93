"""``--run evaluate``: figures of two splats that any tool may have made."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import toy_cameras, toy_parts
from threestudio.run import main
from threestudio_ssd.apps.evaluate import Evaluate
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.metrics import clip_direction_consistency, clip_scores
from threestudio_ssd.rendering import coverage, render_each
from threestudio_ssd.report.evaluate import SCRIPT_VIEWS, clip_model_for, evaluation_views
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
    for name, count in (("cameras", 6), ("all_round", 12)):
        save_cameras_json(toy_cameras(count, 64), folder / f"{name}.json")
    np.save(folder / "selection.npy", is_object.numpy())
    return folder


def run(scenes, out, *words, cameras=True):
    given = [str(scenes / "before.ply"), str(scenes / "after.splat")]
    given += [str(scenes / "cameras.json")] if cameras else []
    code = main(["--run", "evaluate", *given, "size=48", "num_views=4", f"out={out}", *words])
    return code, json.loads((out / "evaluate.json").read_text()) if code == 0 else None


def settings(scenes, **more):
    """What ``run`` is given, as the app reads it."""
    return Evaluate({"before": str(scenes / "before.ply"), "size": 48, "num_views": 4, **more}).cfg


def both_splats(scenes, cameras):
    """(c 3 h w) before and after the edit."""
    splats = (load_gaussians(scenes / name) for name in ("before.ply", "after.splat"))
    return [torch.stack(list(render_each(each, cameras, torch.zeros(3)))).permute(0, 3, 1, 2) for each in splats]


def test_two_files_and_cameras_give_a_report(scenes, tmp_path, capsys):
    code, figures = run(scenes, tmp_path, *PROMPTS, f"truth={scenes / 'after.splat'}")
    assert code == 0
    assert figures["num_views"] == 4
    assert figures["clip_directional_similarity"] > 0.2
    assert figures["protocol"] == "paired-views"
    assert 10 < figures["psnr_to_before"] < 40
    assert figures["psnr_to_truth"] == 100 > figures["psnr_to_truth_before"]
    assert np.asarray(Image.open(tmp_path / "views.png")).shape == (96, 4 * 48, 3)
    out = capsys.readouterr().out
    assert "| clip_directional_similarity |" in out
    assert "same camera for both pictures" in out
    assert out.endswith(f"{tmp_path}/evaluate.json\n")


def test_the_released_script_s_protocol_says_so(scenes, tmp_path, capsys):
    code, figures = run(scenes, tmp_path, *PROMPTS, "protocol=ssd-released-script")
    assert code == 0
    assert figures["protocol"] == "ssd-released-script"
    assert "reproduces the defects of the released metric script" in capsys.readouterr().out
    assert figures["note"].endswith("it does not measure the edit.")
    _, paired = run(scenes, tmp_path, *PROMPTS)
    assert abs(paired["clip_directional_similarity"] - figures["clip_directional_similarity"]) > 1e-3


def test_consistency_is_that_of_neighbouring_frames(scenes, tmp_path):
    """Frames a few degrees apart all around, not the poses the other figures are means over."""
    before = load_gaussians(scenes / "before.ply")
    for cameras in ("", str(scenes / "all_round.json")):
        _, views = evaluation_views(settings(scenes, cameras=cameras, target_prompt="a ball"), before)
        away = torch.nn.functional.normalize(views.video.centers - views.orbit.center, dim=1)
        angles = torch.rad2deg(torch.acos((away * away.roll(-1, 0)).sum(1).clamp(-1, 1)))
        assert len(angles) == 24
        assert angles.max() < 15.1
        assert angles.sum() > 270
        assert (views.video.widths == 48).all()
    _, figures = run(scenes, tmp_path, *PROMPTS, "path_frames=6")
    cfg = settings(scenes, cameras=str(scenes / "cameras.json"), target_prompt="a ball", path_frames=6)
    _, views = evaluation_views(cfg, before)
    expected = clip_direction_consistency(*both_splats(scenes, views.video))
    assert len(expected) == 5
    assert figures["clip_direction_consistency"] == pytest.approx(float(expected.mean()), abs=1e-4)


def test_a_nerfstudio_splat_is_judged_in_its_own_world(scenes, tmp_path):
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    camera = {"w": 64, "h": 64, "fl_x": 80.0, "fl_y": 80.0, "cx": 32.0, "cy": 32.0}
    applied = {"applied_transform": [[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 5]]}
    (tmp_path / "transforms.json").write_text(json.dumps(camera | applied | {"frames": [frame]}))
    shift = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -3]])
    training = {"transform": shift.tolist(), "scale": 0.5}
    (tmp_path / "training.json").write_text(json.dumps(training))
    centers = []
    keys = {"cameras": str(tmp_path / "transforms.json")}
    for more in ({}, {"world": "file"}, {"dataparser": str(tmp_path / "training.json")}):
        cfg = settings(scenes, **keys, **more)
        centers.append(evaluation_views(cfg, load_gaussians(cfg.before))[1].train.centers[0].tolist())
    assert centers[0] == pytest.approx([0, 5, 0], abs=1e-5)
    assert centers[1] == pytest.approx([0, 0, 0], abs=1e-5)
    assert centers[2] == pytest.approx([0, 2.5, -1.5], abs=1e-5)  # its transform starts from COLMAP's world


def test_an_orbit_stands_upright_about_the_axis_that_is_named(scenes):
    directions = []
    for up in ("+z", "-y"):
        cfg = settings(scenes, up=up)
        _, views = evaluation_views(cfg, load_gaussians(cfg.before))
        directions.append(views.train.centers - views.orbit.center)
    assert (directions[0][:, 2] > 0).all()
    assert (directions[1][:, 1] < 0).all()


def test_the_released_script_draws_twice_from_the_whole_capture(scenes, tmp_path):
    """Four views of all six, drawn for source and edit apart: with another seed they are others."""
    protocol = {"protocol": "ssd-released-script"}
    cfg = settings(scenes, cameras=str(scenes / "cameras.json"), target_prompt="a ball", **protocol)
    _, views = evaluation_views(cfg, load_gaussians(cfg.before))
    assert (len(views.train), len(views.video)) == (6, 0)
    images, measured = both_splats(scenes, views.train), []
    for seed in (0, 1):
        _, figures = run(scenes, tmp_path, *PROMPTS, "protocol=ssd-released-script", f"seed={seed}")
        expected = clip_scores(
            *images, *(text.split("=")[1] for text in PROMPTS), protocol="ssd-released-script", num_views=4,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        assert figures["num_views"] == 4
        assert figures["clip_similarity"] == pytest.approx(expected.similarity, abs=1e-4)
        assert figures["clip_directional_similarity"] == pytest.approx(expected.directional_similarity, abs=1e-4)
        measured.append(figures)
    assert abs(measured[0]["clip_similarity"] - measured[1]["clip_similarity"]) > 1e-3
    assert measured[0]["psnr_to_before"] == measured[1]["psnr_to_before"]
    _, views = evaluation_views(settings(scenes, target_prompt="a ball", **protocol), load_gaussians(cfg.before))
    assert len(views.train) == SCRIPT_VIEWS


def test_a_mask_gives_figures_inside_and_outside(scenes, tmp_path):
    """The object turned blue and nothing else; the background figures by hand."""
    _, figures = run(scenes, tmp_path, f"mask.saved={scenes / 'selection.npy'}", "structure_model=tiny-clip")
    before, is_object = load_gaussians(scenes / "before.ply"), torch.from_numpy(np.load(scenes / "selection.npy"))
    assert figures["num_selected"] == int(is_object.sum())
    cfg = settings(scenes, cameras=str(scenes / "cameras.json"))
    _, views = evaluation_views(cfg, before)
    source, edited = (stack.permute(0, 2, 3, 1).numpy() for stack in both_splats(scenes, views.train))
    shares = coverage(before, is_object, views.train).numpy()
    for where, is_there in (("inside", shares > 0.5), ("outside", shares < 0.02)):
        errors = [
            ((a.astype(np.float64) - b)[rows] ** 2).mean() for a, b, rows in zip(edited, source, is_there, strict=True)
        ]
        assert figures[f"mse_to_before_{where}"] == pytest.approx(np.mean(errors), rel=1e-3)
        psnrs = np.minimum(-10 * np.log10(np.maximum(errors, 1e-30)), 100)
        assert figures[f"psnr_to_before_{where}"] == pytest.approx(psnrs.mean(), rel=1e-3)
    assert figures["psnr_to_before_inside"] < figures["psnr_to_before"] < figures["psnr_to_before_outside"]
    assert figures["ssim_to_before_inside"] < figures["ssim_to_before_outside"]
    assert figures["tiny_distance_to_before_inside"] > figures["tiny_distance_to_before_outside"]
    assert figures["structure_model"] == "self-similarity distance on tiny-clip (not DINO ViT-B/8)"


def test_without_cameras_an_orbit_and_without_prompts_no_clip(scenes, tmp_path):
    code, figures = run(scenes, tmp_path, cameras=False)
    assert code == 0
    assert not any(key.startswith("clip") for key in figures)
    assert figures["psnr_to_before"] < 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: --run evaluate was given no splats; expected BEFORE AFTER [CAMERAS], or --config of a benchmark; "
         "write --run evaluate before.ply after.ply cameras.json, or --config configs/bench/toy.yaml\n"),
        (["a.ply"], "error: after is empty; expected a splat file; set after=scene.ply\n"),
        (["a.ply", "b.ply", "num_views=1"], "error: num_views is 1; expected at least 2; set num_views=20\n"),
        (["a.ply", "b.ply", "path_frames=1"], "error: path_frames is 1; expected at least 2; set path_frames=24\n"),
        (["a.ply", "b.ply", "mask.threshold=2"],
         "error: mask.threshold is 2.0; expected between 0 and 1; set mask.threshold=0.5\n"),
        (["a.ply", "b.ply", "target_prompt=a cat"], "error: one of source_prompt and target_prompt is empty; expected "
         'both captions; set source_prompt="a photo of ..." target_prompt="a photo of ..."\n'),
    ],
)  # fmt: skip
def test_mistakes(words, message, capsys):
    assert main(["--run", "evaluate", *words]) == 2
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("report", "given", "expected"),
    [
        (None, "auto", "tiny-clip"), ({"clip_model": "ViT-L/14"}, "auto", "ViT-L/14"),
        ({"psnr": 1}, "auto", "tiny-clip"),
        ({"clip_model": "ViT-L/14"}, "tiny-clip", "tiny-clip"), (None, "ViT-L/14", "ViT-L/14"),
    ],
)  # fmt: skip
def test_an_edit_is_measured_by_the_clip_of_its_own_report(report, given, expected, tmp_path):
    if report is not None:
        (tmp_path / "report.json").write_text(json.dumps(report))
    cfg = Evaluate({"after": str(tmp_path / "edited.ply"), "clip_model": given}).cfg
    assert clip_model_for(cfg) == expected
