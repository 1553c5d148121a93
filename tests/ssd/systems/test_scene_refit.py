"""A whole change of shape through Lightning, with an editor that knows the truth: what it makes, keeps and refuses."""

import json
import math
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import QUIET, REPOSITORY, object_masks, toy_cameras, toy_parts, vertex_rows
from tests.oracle import SIZE, Oracle, toy_truth
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data import ViewPlan
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.editors import EDITORS
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.masks import load_selection
from threestudio_ssd.metrics.lpips import Lpips, linear_weights
from threestudio_ssd.refits.editing import ViewEditing
from threestudio_ssd.refits.placement import seen_size
from threestudio_ssd.refits.scene_refit import SceneRefit
from threestudio_ssd.rendering import render_bchw
from threestudio_ssd.report.edit_report import verdicts_of
from threestudio_ssd.systems.scene_refit import SceneRefitSystem
from threestudio_ssd.toyworld.silhouettes import silhouettes
from threestudio_ssd.toyworld.splat import save_cameras_json

STEPS = 12
LAST = "{strength: 0.3, steps: 8, carve: renders, resize: true, recenter: true, relight: true}"
ROUNDS = f"[{{strength: 0.9, steps: 4, carve: views}}, {LAST}]"


def truth():
    return toy_truth("red plain cone grass day")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The world on disk, with the oracle among the editors."""
    folder = tmp_path_factory.mktemp("place")
    scene, is_object = toy_parts(keep_every=1)
    cameras = toy_cameras(16, SIZE)
    save_gaussians(scene, folder / "scene.ply")
    save_cameras_json(cameras, folder / "cameras.json")
    (folder / "masks").mkdir()
    for name, mask in zip(cameras.names, object_masks(scene, is_object, cameras), strict=True):
        Image.fromarray((mask.numpy() * 255).astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    EDITORS["oracle"] = Oracle
    yield folder
    del EDITORS["oracle"]


def experiment(folder, out, **more):
    words = {
        "scene": folder / "scene.ply", "cameras": folder / "cameras.json", "mask.picture": folder / "masks",
        "source_prompt": "a red ball", "target_prompt": "a red cone", "exp_root_dir": out, "use_timestamp": "false",
        "trainer.accelerator": "cpu", "steps": STEPS, "system.editing.editor.name": "oracle", "tag": "run",
        "data.num_train_views": 12, "data.num_test_views": 2, "data.test_size": 32, "data.video_frames": 2,
        "data.crop": "none", "system.preview_every": 6, "system.carve.spacing": 0.06, "system.carve.fine_spacing": 0.06,
        "system.rounds": ROUNDS,
        "system.clip_model": "tiny-clip", **QUIET, **more,
    }  # fmt: skip
    path = REPOSITORY / "configs" / "idu-gs.yaml"
    return complete(load_config(path, cli_args=[f"{key}={value}" for key, value in words.items()]))


def refit(folder, out, *stages, expected=0, **more):
    assert run_experiment(experiment(folder, out, **more), list(stages)) == expected
    return out / "idu-gs" / "run"


@pytest.fixture(scope="module")
def refitted(place, tmp_path_factory):
    return refit(place, tmp_path_factory.mktemp("refitted"), "train", "test", "export")


def test_the_new_object_has_the_shape_that_the_views_show(place, refitted):
    target, is_object = truth()
    views = toy_cameras(10, 64)[1::3]
    behind = render_bchw(target.select(~is_object), views, torch.zeros(3))
    shapes = [
        silhouettes(render_bchw(scene, views, torch.zeros(3)), behind)
        for scene in (load_gaussians(place / "scene.ply"), load_gaussians(refitted / "save" / "edited.ply"), target)
    ]
    before, after = (float((shape & shapes[2]).sum() / (shape | shapes[2]).sum()) for shape in shapes[:2])
    assert before < 0.65
    assert after > 0.8


def test_what_is_not_selected_keeps_its_bytes_and_the_selection_is_gone(place, refitted):
    before, after = vertex_rows(place / "scene.ply"), vertex_rows(refitted / "save" / "edited.ply")
    is_selected = load_selection(refitted / "save" / "selection.npy", len(before))
    kept = [row for row, gone in zip(before, is_selected, strict=True) if not gone]
    assert after[: len(kept)] == kept
    is_new = np.load(refitted / "save" / "edited_selection.npy")
    report = json.loads((refitted / "save" / "report.json").read_text())
    assert is_new.sum() <= len(after) - len(kept)
    assert len(is_new) == len(after) == report["num_gaussians_after"]
    assert report["num_selected"] == int(is_selected.sum()), "those of the source, without what took their place"
    assert not is_new[: len(kept)].any()
    assert report["psnr_outside"] > 40
    assert report["editor"] == "Oracle"
    assert report["verdicts"] == verdicts_of(report)


def test_the_run_folder_shows_the_edited_views(refitted):
    for name in ("grid.png", "before_after.mp4", "report.html", "mask/view_000.png", "progress/step-00006.png"):
        assert (refitted / "save" / name).exists(), name
    for number in (0, 1):
        files = sorted((refitted / "save" / "views" / f"round-{number}").glob("*.png"))
        assert len(files) == 12
        assert Image.open(files[0]).size == (SIZE, SIZE)


@pytest.mark.parametrize("halt", [2, 4, 7])
def test_resuming_in_a_round_or_between_two_gives_the_same_bytes(place, refitted, tmp_path, halt):
    refit(place, tmp_path, "train", **{"trainer.max_steps": halt})
    checkpoint = torch.load(tmp_path / "idu-gs" / "run" / "ckpts" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == halt
    run = refit(place, tmp_path, "train", "export", resume="auto")
    assert (run / "save" / "edited.ply").read_bytes() == (refitted / "save" / "edited.ply").read_bytes()


def test_an_object_ends_the_round_that_resized_it_in_that_size(place, tmp_path):
    cfg = experiment(place, tmp_path)
    job = SceneRefit(cfg.system)
    job.open(ViewPlan(cfg.data))
    edit, moving = job.edit, job.edit.editable.selected
    edit.prepare()
    optimizers, seen = edit.make_optimizers(), []
    for step in range(STEPS):
        if step in (3, STEPS - 1):
            with torch.no_grad():
                moving["means"].copy_(0.8 * moving["means"])
            fitted = seen_size(edit.carver, edit.editable.current().detach())
        edit.step(step, optimizers)
        seen.append(seen_size(edit.carver, edit.editable.current().detach()))
        assert bool(edit.sizes) == (step >= 4), "only the second round resizes"
    assert seen[3] < 0.9 * seen[2]
    wanted, carved = edit.sizes
    assert seen[-1] == pytest.approx(wanted * math.sqrt(fitted / carved), rel=0.02)
    assert seen[-1] > 1.05 * fitted


@pytest.mark.parametrize(("of", "turn_deg"), [("cone", 15.0), ("car", 0.0)])
def test_only_views_whose_words_say_a_side_are_turned(place, tmp_path, of, turn_deg):
    cfg = experiment(place, tmp_path, **{"system.view_words.sides": f"[{{of: [{of}], say: [front, back]}}]"})
    job = SceneRefit(cfg.system)
    job.open(ViewPlan(cfg.data))
    assert job.edit.carver.turn_deg == turn_deg


def test_shape_rates_of_0_leave_what_was_carved_and_fit_its_colors_alone(place, tmp_path):
    made = []
    for steps in (2, 12):
        rounds = "[{strength: 0.9, steps: 1, carve: views, shape_rates: 0}]"
        run = refit(place, tmp_path / str(steps), "train", "export", **{"system.rounds": rounds, "steps": steps})
        made.append(load_gaussians(run / "save" / "edited.ply"))
    few, many = (each.parameters() for each in made)
    for name in ("means", "log_scales", "raw_quats", "logit_opacities"):
        assert torch.equal(few[name], many[name]), name
    assert not torch.equal(few["sh0"], many["sh0"])


def test_views_are_edited_a_few_at_a_time_as_instruct_nerf2nerf_does(place, tmp_path):
    rate = {"system.edit_rate": 2, "system.edit_count": 5, "system.rounds": "[{strength: 0.9, steps: 1}]"}
    run = refit(place, tmp_path, "train", "export", **rate)
    assert [len(list((run / "save" / "views" / f"round-{n}").glob("*.png"))) for n in (0, 1, 2)] == [12, 12, 6]
    before, after = vertex_rows(place / "scene.ply"), vertex_rows(run / "save" / "edited.ply")
    is_selected = load_selection(run / "save" / "selection.npy", len(before))
    changed = np.array([a != b for a, b in zip(before, after, strict=True)])
    assert len(after) == len(before)
    assert not (changed & ~is_selected.numpy()).any()
    assert changed[is_selected.numpy()].mean() > 0.9


def test_a_hole_where_the_object_stood_is_closed_with_new_gaussians_alone(place, tmp_path):
    whole = load_gaussians(place / "scene.ply")
    under = (whole.means[:, :2].norm(dim=1) < 0.6) & (whole.means[:, 2] < 0.05)
    save_gaussians(whole.select(~under), tmp_path / "holed.ply")
    run = refit(place, tmp_path, "train", "export", scene=tmp_path / "holed.ply", steps=2)
    before, after = vertex_rows(tmp_path / "holed.ply"), vertex_rows(run / "save" / "edited.ply")
    is_selected = load_selection(run / "save" / "selection.npy", len(before))
    kept = [row for row, gone in zip(before, is_selected, strict=True) if not gone]
    assert after[: len(kept)] == kept
    is_new = np.load(run / "save" / "edited_selection.npy")
    assert 0 < (~is_new).sum() - len(kept) < 500


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"steps": 1}, "steps is 1"),
        ({"target_prompt": ""}, "target_prompt is empty"),
        ({"system.room": "[1.3]"}, "system.room is [1.3]"),
        ({"system.region": "[0,0,0,1,1,0]"}, "system.region is [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]"),
        ({"system.scale_limits": "[0.2,0.1]"}, "system.scale_limits is [0.2, 0.1]"),
        ({"system.snap.sure": 0.05}, "system.snap.sure is 0.05"),
        ({"system.carve.agreement": 0}, "system.carve.agreement is 0.0"),
        ({"system.closing.inpainter": "tela"}, "system.inpainter folder 'tela' does not exist"),
        ({"system.closing.num_steps": -1}, "system.closing.num_steps is -1"),
        ({"system.replaces": "false"}, "system.rounds[0].carve is set, and system.replaces is false"),
        ({"system.edit_rate": 10}, "a round is carved, resized or recentered and system.edit_rate is 10"),
        ({"system.rounds": "[{strength: 0.9, steps: 1, resize: true}]"}, "system.rounds[0].resize is true"),
        ({"system.rounds": "[{strength: 0.9, steps: 1, recenter: true}]"}, "system.rounds[0].recenter is true"),
        ({"system.editing.editor.name": "orakel"}, "system.editing.editor.name is 'orakel'"),
        ({"system.learning_rates.means": -1}, "system.learning_rates.means is -1"),
    ],
)
def test_keys_out_of_range_are_refused(place, tmp_path, more, what):
    with pytest.raises(ConfigError) as error:
        SceneRefitSystem(experiment(place, tmp_path, **more).system)
    assert error.value.what == what


WHOLE = {"system.replaces": "false", "system.rounds": "[{strength: 0.2, max_strength: 0.9, steps: 1}]"}


def test_views_edited_as_a_whole_move_the_selection_from_where_it_is(place, tmp_path):
    everything = {"mask.picture": "", "mask.box": "[-99,-99,-99,99,99,99]", "system.edit_rate": 4}
    run = refit(place, tmp_path, "train", "export", **WHOLE, **everything)
    assert len(load_gaussians(run / "save" / "edited.ply")) == len(load_gaussians(place / "scene.ply"))


def test_views_are_edited_when_they_are_shown_as_gaussian_editor_does(place, tmp_path):
    words = {**WHOLE, "system.edit_rate": 6, "system.edit_order": "shown"}
    whole = refit(place, tmp_path / "whole", "train", "export", **words)
    edited = sorted((whole / "save" / "views").rglob("*.png"))
    assert len({path.name for path in edited}) == 12  # two views a step, so all were shown for the first time
    before, after = vertex_rows(place / "scene.ply"), vertex_rows(whole / "save" / "edited.ply")
    is_selected = load_selection(whole / "save" / "selection.npy", len(before)).numpy()
    changed = np.array([a != b for a, b in zip(before, after, strict=True)])
    assert not (changed & ~is_selected).any()
    assert changed[is_selected].any()
    refit(place, tmp_path / "parts", "train", **words, **{"trainer.max_steps": 5})
    parts = refit(place, tmp_path / "parts", "train", "export", **words, resume="auto")
    assert (parts / "save" / "edited.ply").read_bytes() == (whole / "save" / "edited.ply").read_bytes()


def test_each_view_is_edited_at_first_sight_and_then_at_every_edit_rate(place, tmp_path, monkeypatch):
    edited, edit = [], ViewEditing.edit

    def noted(editing, scene, rows, strength, number):
        edited.append(sorted(rows.tolist()))
        return edit(editing, scene, rows, strength, number)

    monkeypatch.setattr(ViewEditing, "edit", noted)
    refit(place, tmp_path, "train", **WHOLE, **{"system.edit_rate": 8, "system.edit_order": "shown"})
    assert sorted(chain.from_iterable(edited[:6])) == list(range(12))  # two views a step, and 12 views
    assert len(edited) == 7  # of 12 steps the first six and the ninth
    assert len(edited[6]) == 2


def test_an_editor_that_inverts_views_edits_a_scene(place, tmp_path):
    """What is inverted is each view before the edit, masked to the selection, which alone moves."""
    save_components(random_components(image_size=SIZE), tmp_path / "model")
    editor = {"name": "direct-p2p", "num_steps": 2, "control.blended": "ball cone"}
    words = {f"system.editing.editor.{key}": value for key, value in editor.items()}
    run = refit(place, tmp_path, "train", "export", **WHOLE, **words, **{"model": tmp_path / "model", "steps": 3})
    before, after = (vertex_rows(path) for path in (place / "scene.ply", run / "save" / "edited.ply"))
    is_selected = load_selection(run / "save" / "selection.npy", len(before)).numpy()
    changed = np.array([a != b for a, b in zip(before, after, strict=True)])
    assert not (changed & ~is_selected).any()
    assert changed[is_selected].any()


@pytest.mark.parametrize("more", [WHOLE, {}], ids=["whole", "replaced"])
def test_the_selection_grows_and_nothing_else_does(place, tmp_path, more):
    """In rounds as well, where a carved object takes the place of what grew."""
    growth = {"kind": "hierarchical", "start": 1, "stop": 11, "every": 2, "top_share": 0.2}
    words = {**more, **{f"system.growth.{key}": value for key, value in growth.items()}}
    whole = refit(place, tmp_path / "whole", "train", "export", **words)
    before, after = (vertex_rows(path) for path in (place / "scene.ply", whole / "save" / "edited.ply"))
    is_selected = load_selection(whole / "save" / "selection.npy", len(before))
    kept = [row for row, chosen in zip(before, is_selected, strict=True) if not chosen]
    is_new = np.load(whole / "save" / "edited_selection.npy")
    assert [row for row, new in zip(after, is_new, strict=True) if not new] == kept
    still = refit(place, tmp_path / "still", "train", "export", **more)
    assert len(after) > len(vertex_rows(still / "save" / "edited.ply"))
    refit(place, tmp_path / "parts", "train", **words, **{"trainer.max_steps": 7})
    parts = refit(place, tmp_path / "parts", "train", "export", **words, resume="auto")
    assert (parts / "save" / "edited.ply").read_bytes() == (whole / "save" / "edited.ply").read_bytes()


def test_lpips_and_ssim_pull_the_gaussians_elsewhere(place, tmp_path, monkeypatch):
    """LPIPS's own class with random weights stands in: its weights are no part of this repository."""
    network = Lpips("squeeze", linear_weights("squeeze")).requires_grad_(False).eval()
    monkeypatch.setattr("threestudio_ssd.refits.scene_refit.load_lpips", lambda **words: network)
    weights = {"l1": (0, 0), "ssim": (0.9, 0), "lpips": (0, 1)}
    results = []
    for name, (ssim, lpips) in weights.items():
        more = {**WHOLE, "system.lambda_ssim": ssim, "system.lambda_lpips": lpips, "steps": 3}
        run = refit(place, tmp_path / name, "train", "export", **more)
        results.append(load_gaussians(run / "save" / "edited.ply").sh0)
    assert all(torch.isfinite(each).all() for each in results)
    for other in results[1:]:
        assert (other - results[0]).abs().max() > 1e-3


def test_words_say_what_is_replaced(place, tmp_path):
    """The embedded segmenter looks for the ball in the capture's views."""
    words = {"mask.picture": "", "mask.text": "the ball", "mask.segmenter": "data/tiny-seg", "mask.num_views": 8}
    run = refit(place, tmp_path, "train", "export", **words, **{"system.preview_every": 0})
    count = len(load_gaussians(place / "scene.ply"))
    told, traced = load_selection(run / "save" / "selection.npy", count), toy_parts(keep_every=1)[1]
    assert (told & traced).sum() / (told | traced).sum() > 0.8
    assert len(load_gaussians(run / "save" / "edited.ply")) != count


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, ["a red ball"]),
        ({"source_prompt": ""}, []),
        ({"system.editing.editor.takes_orders": "true"}, []),
        ({"system.rounds": "[{strength: 0.9, steps: 1, carve: views}, {strength: 0.5, steps: 1}]"}, []),
    ],
)
def test_the_old_object_is_drawn_to_tell_the_size_where_the_editor_can_be_asked_for_it(place, tmp_path, more, asked):
    Oracle.shown.clear()
    refit(place, tmp_path, "train", steps=2, **more)
    batches = len(Oracle.shown) // (2 + len(asked))
    assert Oracle.shown == ["a red cone"] * batches + asked * batches + ["a red cone"] * batches


def test_everything_cannot_be_replaced(place, tmp_path):
    with pytest.raises(ConfigError, match="the mask selects all"):
        refit(place, tmp_path, "train", **{"mask.picture": "", "mask.box": "[-99,-99,-99,99,99,99]"})
    assert not list(tmp_path.rglob("*.ply"))


def test_views_that_agree_on_nothing_are_refused_in_one_line(place, tmp_path):
    box = "[3,3,0,4,4,1]"  # where the oracle paints nothing
    with pytest.raises(ConfigError, match="no shape can be carved"):
        refit(place, tmp_path, "train", **{"system.region": box})
