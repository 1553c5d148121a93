"""The preview: the same selection as the run's, in pictures, and some views as the edit will make them."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import REPOSITORY, experiment, toy_cameras, write_world
from tests.oracle import SIZE as VIEW
from tests.oracle import Oracle
from threestudio import apps
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.grids import CELL, HEAD
from threestudio_ssd.data import ViewPlan
from threestudio_ssd.editors import EDITORS
from threestudio_ssd.edits import preview
from threestudio_ssd.edits.scene_edit import SceneEdit
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.masks import MaskConfig, find_selection, load_selection
from threestudio_ssd.refits.preview import strengths_of
from threestudio_ssd.refits.rounds import Round


def test_previews_are_written_and_no_model_is_needed(tmp_path):
    (tmp_path / "world").mkdir()
    world = write_world(tmp_path / "world")
    cfg = experiment(world, tmp_path / "out", model=tmp_path / "no-model", tag="look")
    assert apps.start("preview", cfg, ["views=0"]) == 0
    save = tmp_path / "out" / "smoke" / "look" / "save"
    assert len(list((save / "mask").glob("*.png"))) == len(list((world / "masks").glob("*.png")))
    source, cameras = load_gaussians(world / "scene.ply"), toy_cameras()
    expected = find_selection(
        MaskConfig(picture=str(world / "masks")), source, cameras, cameras, torch.zeros(3)
    ).is_selected
    assert torch.equal(load_selection(save / "selection.npy", len(source)), expected)
    again = experiment(world, tmp_path / "out", **{"mask.picture": "", "mask.saved": save / "selection.npy"})
    assert apps.start("preview", again, ["views=0", f"out={tmp_path / 'again'}"]) == 0
    assert torch.equal(load_selection(tmp_path / "again" / "selection.npy", len(source)), expected)


def refit(world, out, **more):
    words = {
        "scene": world / "scene.ply", "cameras": world / "cameras.json", "mask.picture": world / "masks",
        "target_prompt": "a red cone", "system.editing.editor.name": "oracle", "data.num_train_views": 6,
        "system.closing.num_steps": 0, "trial_dir": out, **more,
    }  # fmt: skip
    changes = [f"{key}={value}" for key, value in words.items() if key != "trial_dir"]
    cfg = complete(load_config(REPOSITORY / "configs/idu-gs.yaml", cli_args=changes))
    cfg.trial_dir = str(out)
    return cfg


def test_a_refit_shows_views_as_its_editor_makes_them_before_anything_is_fitted(world, tmp_path, monkeypatch):
    monkeypatch.setitem(EDITORS, "oracle", Oracle)
    monkeypatch.setattr("threestudio_ssd.refits.views_edit.ViewsEdit.step", None)
    assert apps.start("preview", refit(world, tmp_path), ["views=3", "strengths=[0.9,0.2]"]) == 0
    assert len(list((tmp_path / "save" / "mask").glob("*.png"))) == len(list((world / "masks").glob("*.png")))
    assert (tmp_path / "save" / "selection.npy").exists()
    picture = np.asarray(Image.open(tmp_path / "save" / "edited_views.png").convert("RGB")).astype(int)
    high = HEAD + CELL + 4
    assert VIEW < CELL  # views are shown larger
    assert picture.shape[0] == 3 * high
    before, edited = picture[HEAD : HEAD + CELL, :CELL], picture[HEAD : HEAD + CELL, picture.shape[1] // 3 :][:, :CELL]
    assert np.abs(before - edited).mean() > 3


def test_no_editor_is_loaded_where_no_views_are_asked_for(world, tmp_path):
    cfg = refit(world, tmp_path, model=tmp_path / "no-model", **{"system.editing.editor.name": "sdedit"})
    assert apps.start("preview", cfg, ["views=0"]) == 0
    assert not (tmp_path / "save" / "edited_views.png").exists()
    assert (tmp_path / "save" / "selection.npy").exists()


def test_views_that_are_edited_elsewhere_are_not_shown(world, tmp_path):
    words = {"system.editing.editor.name": "folder", "system.editing.editor.folder": tmp_path / "my-edit"}
    assert apps.start("preview", refit(world, tmp_path, **words)) == 0
    assert not (tmp_path / "my-edit").exists()
    assert not (tmp_path / "save" / "edited_views.png").exists()


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("strengths=[0.5,0]", "run.strengths is [0.5, 0.0]"),
        ("views=-1", "run.views is -1"),
        ("seconds=0", "run.seconds is 0.0"),
    ],
)
def test_keys_out_of_range_are_refused(world, tmp_path, word, what):
    with pytest.raises(ValueError, match="run.") as error:
        apps.start("preview", refit(world, tmp_path, **{"system.editing.editor.name": "sdedit"}), [word])
    assert error.value.what == what


def test_an_edit_by_a_score_shows_views_at_its_strengths_before_any_gaussian_moves(world, tmp_path, monkeypatch):
    monkeypatch.setattr("threestudio_ssd.edits.gaussian_edit.GaussianEdit.loss", None)
    monkeypatch.setattr(preview, "NUM_STEPS", 4)
    cfg = experiment(world, tmp_path, tag="look", **{"data.num_train_views": 4})
    assert apps.start("preview", cfg, ["views=2", "strengths=[0,1]"]) == 0
    save = tmp_path / "smoke" / "look" / "save"
    assert (save / "selection.npy").exists()
    assert Image.open(save / "edited_views.png").size[1] == 2 * (HEAD + CELL + 4)


def test_views_change_more_the_stronger_the_edit_and_only_where_the_selection_shows(world, tmp_path, monkeypatch):
    monkeypatch.setattr(preview, "NUM_STEPS", 4)
    cfg = experiment(world, tmp_path, **{"data.num_train_views": 4})
    job = SceneEdit(cfg.system)
    job.open(ViewPlan(cfg.data))
    views = preview.ScorePreview(job, cfg.system, 2)
    shown = {label: images for label, _, images in views([0, 0.5, 1], 60)}
    moved = [float((shown[f"strength {strength}"] - shown["strength 0"]).abs().mean()) for strength in (0.5, 1)]
    assert 0 < moved[0] < moved[1]
    is_outside = (views.masks == 0).expand_as(views.images)
    assert is_outside.any()
    assert torch.equal(shown["strength 1"][is_outside], shown["before"][is_outside])


def test_less_time_means_fewer_steps_then_fewer_views():
    assert preview.affordable(pace=0.01, views=4, steps=60, strengths=3, seconds=60) == (4, 60)
    assert preview.affordable(pace=0.125, views=4, steps=60, strengths=3, seconds=60) == (4, 40)
    assert preview.affordable(pace=1.0, views=4, steps=60, strengths=3, seconds=60) == (1, 12)
    assert preview.affordable(pace=100.0, views=4, steps=60, strengths=3, seconds=60) == (1, 12)


def test_a_short_run_is_told_from_a_long_one(world, tmp_path):
    keys = complete(load_config(REPOSITORY / "configs/ssd-gs.yaml", cli_args=["steps=100"])).system
    assert preview.length_note(keys).startswith("A run of 100 steps: colours go 67% as far as in 225 or more.")
    keys.num_steps = 225
    assert preview.length_note(keys) is None
    published = complete(load_config(REPOSITORY / "configs/published/ssd-sd21.yaml", cli_args=["steps=100"])).system
    assert "lacks what makes short runs look like long ones" in preview.length_note(published)


def test_strengths_are_those_of_the_rounds_and_the_ends_of_those_that_are_drawn():
    assert strengths_of([Round(0.9), Round(0.3), Round(0.3)]) == [0.9, 0.3]
    assert strengths_of([Round(0.02, max_strength=0.98)]) == [0.98, 0.02]


def test_the_box_of_an_addition_is_drawn_and_printed_and_nothing_is_tinted(world, tmp_path, caplog):
    words = {"scene": world / "scene.ply", "target_prompt": "a cube", "model": tmp_path / "none"}
    words["cameras"] = world / "cameras.json"
    changes = [f"{key}={value}" for key, value in words.items()]
    config = REPOSITORY / "configs" / "add-gs.yaml"
    cfg = complete(load_config(config, cli_args=[*changes, "box=[-0.5,-0.5,1,0.5,0.5,2]", "mask.view_size=64"]))
    with caplog.at_level("INFO", logger="threestudio"):
        assert apps.start("preview", cfg, [f"out={tmp_path}"]) == 0
    assert "Drawn: box=[-0.5,-0.5,1,0.5,0.5,2]" in caplog.text
    assert "mask.saved" not in caplog.text
    pictures = [np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (tmp_path / "mask").glob("*.png")]
    is_yellow = [(np.abs(picture - [255, 242, 51]).max(-1) < 60).sum() for picture in pictures]
    assert len(pictures) == 12
    assert min(is_yellow) > 20
    with pytest.raises(ValueError, match="box is empty"):
        apps.start("preview", complete(load_config(config, cli_args=changes)), [f"out={tmp_path}"])
