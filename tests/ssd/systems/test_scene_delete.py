"""An object taken out of a toy scene whose ground was never seen beneath it, judged by the scene without the object."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import threestudio
from tests.edit_world import QUIET, REPOSITORY, object_masks, toy_cameras, toy_parts, vertex_rows
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data.modules import GSViews
from threestudio_ssd.edits import removal
from threestudio_ssd.edits.inpaint import Inpainter, telea
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.masks import load_selection
from threestudio_ssd.metrics import psnr
from threestudio_ssd.rendering import coverage, render_each
from threestudio_ssd.report.edit_report import verdicts_of
from threestudio_ssd.systems.scene_delete import SceneDeleteSystem
from threestudio_ssd.toyworld.splat import save_cameras_json

SIZE = 40


@pytest.fixture(scope="module")
def holed(tmp_path_factory):
    """The world on disk; the scene without the object, the ground whole, is the truth."""
    folder = tmp_path_factory.mktemp("holed")
    whole, is_object = toy_parts(keep_every=2)
    # no shadow in the truth: the object's ground is as bright as the rest
    under = ~is_object & (whole.means[:, :2].norm(dim=1) < 0.75) & (whole.means[:, 2] < 0.1)
    scene, is_object_left = whole.select(~under), is_object[~under]
    cameras = toy_cameras(8, SIZE)
    save_gaussians(scene, folder / "scene.ply")
    save_cameras_json(cameras, folder / "cameras.json")
    (folder / "masks").mkdir()
    for name, mask in zip(cameras.names, object_masks(scene, is_object_left, cameras), strict=True):
        Image.fromarray((mask.numpy() * 255).astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    return folder, whole.select(~is_object), is_object_left


def delete(folder, out, *stages, expected=0, **more):
    words = {
        "scene": folder / "scene.ply", "cameras": folder / "cameras.json", "mask.picture": folder / "masks",
        "exp_root_dir": out, "use_timestamp": "false", "trainer.accelerator": "cpu", "steps": 40, "data.size": SIZE,
        "data.num_train_views": 8, "data.num_test_views": 2, "data.test_size": 24, "data.video_frames": 2,
        "system.dilate": 0.02, **QUIET, **more,
    }  # fmt: skip
    path = REPOSITORY / "configs" / "delete-gs.yaml"
    cfg = complete(load_config(path, cli_args=[f"{key}={value}" for key, value in words.items()]))
    assert run_experiment(cfg, list(stages)) == expected
    return out / "delete-gs" / "delete"


@pytest.fixture(scope="module")
def deleted(holed, tmp_path_factory):
    return delete(holed[0], tmp_path_factory.mktemp("deleted"), "train", "test", "export")


def test_the_hole_is_closed_as_the_truth_has_it(holed, deleted):
    """Where the object stood, held-out views come nearer to the scene that never had it than removal alone."""
    folder, truth, _ = holed
    scene = load_gaussians(folder / "scene.ply")
    is_removed = load_selection(deleted / "save" / "selection.npy", len(scene))
    result, bare = load_gaussians(deleted / "save" / "edited.ply"), scene.select(~is_removed)
    views = toy_cameras(10, SIZE)[1::3]
    shots = [
        torch.stack(list(render_each(s, views, torch.zeros(3)))).permute(0, 3, 1, 2) for s in (truth, bare, result)
    ]
    where = coverage(scene, is_removed, views) > 0.5
    before, after = (float(psnr(shot, shots[0], where).mean()) for shot in shots[1:])
    assert after > before + 3
    assert after > 20


def test_what_did_not_touch_the_object_keeps_its_bytes(holed, deleted):
    report = json.loads((deleted / "save" / "report.json").read_text())
    before, after = vertex_rows(holed[0] / "scene.ply"), vertex_rows(deleted / "save" / "edited.ply")
    is_removed = load_selection(deleted / "save" / "selection.npy", len(before))
    assert len(after) == len(before) - report["num_removed"] + report["num_added"]
    kept = [row for row, gone in zip(before, is_removed, strict=True) if not gone]
    num_changed = sum(a != b for a, b in zip(kept, after, strict=False))
    assert 0 < num_changed <= report["num_changed"] - report["num_added"] < 0.1 * len(kept)
    assert report["psnr_outside"] > 25
    assert report["change_inside"] > 0.02
    assert report["model"] is None
    for key in ("out_of_range", "speckle_visible", "speckle_hidden"):
        assert {key, f"{key}_before"} <= set(report)
    assert 0 <= report["out_of_range"] <= 1
    assert report["verdicts"] == verdicts_of(report) == []


def test_the_run_folder_shows_what_happened(deleted):
    for name in ("save/grid.png", "save/inpainted.png", "save/mask/view_000.png", "save/before_after.mp4"):
        assert (deleted / name).exists(), name


def test_everything_before_the_fit_happens_on_the_run_s_device(holed, tmp_path, monkeypatch):
    """Masks are traced, and networks run, where the run does: lightning moves the system only after its setup."""
    seen = []

    def find(cfg, gaussians, views, capture, background):
        seen.append((gaussians.device.type, background.device.type))
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "get_device", lambda: torch.device("meta"))
    monkeypatch.setattr(removal, "find_selection", find)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        delete(holed[0], tmp_path, "train")
    assert seen == [("meta", "meta")]


def test_the_inpainter_gets_the_run_s_device_and_the_model_s_keys(holed, tmp_path, monkeypatch):
    asked = {}

    def load(name, **options):
        asked.update(options, name=name)
        return Inpainter(telea, "owner/name", "abc", 512)

    warned = []
    monkeypatch.setattr(threestudio, "warn", warned.append)
    monkeypatch.setattr(removal, "get_device", lambda: torch.device("cpu:0"))  # equal to no other
    monkeypatch.setattr(removal, "load_inpainter", load)
    more = {
        "system.inpainter": "owner/name", "system.revision": "v1", "system.offline": "true", "system.dtype": "bf16",
        "steps": 1, "prompt": "grass",
    }  # fmt: skip
    run = delete(holed[0], tmp_path, "train", "test", **more)
    assert asked["device"] == torch.device("cpu:0")
    assert {key: asked[key] for key in ("name", "revision", "is_offline", "dtype", "prompt")} == {
        "name": "owner/name", "revision": "v1", "is_offline": True, "dtype": "bf16", "prompt": "grass",
    }  # fmt: skip
    report = json.loads((run / "save" / "report.json").read_text())
    assert (report["model"], report["revision"]) == ("owner/name", "abc")
    assert "The views are filled at 40 px by a model made for 512 px; data.size=512 suits it better." in warned


@pytest.mark.parametrize("kind", ["model", "pipeline"])
def test_networks_fill_the_views_from_start_to_end(holed, world, inpainting_pipeline, tmp_path, kind):
    """A whole removal with a random diffusion model, and with a random inpainting pipeline of diffusers."""
    folder = world / "model" if kind == "model" else inpainting_pipeline
    more = {"system.inpainter": "model" if kind == "model" else folder, "model": folder, "prompt": "grass"}
    run = delete(
        holed[0], tmp_path, "train", "test", "export", **more,
        **{"steps": 2, "data.size": 32, "data.num_train_views": 3, "system.inpaint_steps": 2, "data.video_frames": 0},
    )  # fmt: skip
    report = json.loads((run / "save" / "report.json").read_text())
    assert (report["model"], report["revision"]) == (str(folder), None)
    assert report["num_added"] > 0
    result = load_gaussians(run / "save" / "edited.ply")
    assert len(result) == report["num_gaussians_before"] - report["num_removed"] + report["num_added"]
    assert all(torch.isfinite(tensor).all() for tensor in result.parameters().values())
    scene = load_gaussians(holed[0] / "scene.ply")
    bare = scene.select(~torch.from_numpy(np.load(run / "save" / "selection.npy")))
    rows = np.asarray(Image.open(run / "save" / "inpainted.png")).astype(int)
    holes, filled = rows[:32] > 127, rows[32:]
    views = GSViews({"cameras": str(holed[0] / "cameras.json"), "size": 32, "num_train_views": 3}).plan.views(
        scene, 512, 8
    )
    shots = render_each(bare, views.train, torch.zeros(3))
    change = np.abs(filled - np.concatenate([shot.numpy() for shot in shots], axis=1) * 255)
    assert change[~holes].max() < 2
    assert change[holes].mean() > 5


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"system.num_steps": 0}, "steps is 0"),
        ({"system.rim": -1}, "system.rim is -1.0"),
        ({"system.dilate": -1}, "system.dilate is -1.0"),
        ({"system.lambda_ssim": -0.1}, "system.lambda_ssim is -0.1"),
        ({"system.learning_rates.means": -1}, "system.learning_rates.means is -1"),
        ({"system.inpainter": "tela"}, "system.inpainter folder 'tela' does not exist"),
        ({"system.dtype": "fp8"}, "dtype is fp8"),
    ],
)
def test_keys_out_of_range_are_refused(holed, more, what):
    words = [f"{key}={value}" for key, value in {"scene": holed[0] / "scene.ply", **more}.items()]
    cfg = complete(load_config(REPOSITORY / "configs" / "delete-gs.yaml", cli_args=words))
    with pytest.raises(ConfigError) as error:
        SceneDeleteSystem(cfg.system)
    assert error.value.what == what


def test_everything_cannot_be_removed(holed, tmp_path):
    with pytest.raises(ConfigError, match="the mask selects all"):
        delete(holed[0], tmp_path, "train", **{"mask.picture": "", "mask.box": "[-99,-99,-99,99,99,99]"})


def test_a_resumed_removal_remembers_its_seconds_and_gives_the_same_bytes(holed, deleted, tmp_path):
    delete(holed[0], tmp_path, "train", **{"trainer.max_steps": 3})
    checkpoint = tmp_path / "delete-gs" / "delete" / "ckpts" / "last.ckpt"
    first = torch.load(checkpoint, weights_only=True)
    run = delete(holed[0], tmp_path, "train", "export", resume="auto")
    assert torch.load(checkpoint, weights_only=True)["train_seconds"] > first["train_seconds"] > 0
    assert (run / "save" / "edited.ply").read_bytes() == (deleted / "save" / "edited.ply").read_bytes()


def test_a_removal_that_is_not_finite_is_exit_code_three_and_goes_back_to_one_that_is(holed, tmp_path, caplog):
    run = delete(
        holed[0], tmp_path, "train", "test", "export", expected=3, steps=2, **{"system.learning_rates.sh0": 1e39}
    )
    assert load_gaussians(run / "save" / "edited.ply").sh0.isfinite().all()
    assert "the edit is not finite; what it was at step 0 is written." in caplog.text
