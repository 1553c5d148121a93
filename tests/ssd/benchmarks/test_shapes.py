"""Changes of shape and edited views in the toy benchmark, with an editor that knows the truth."""

import json

import pytest
import torch
from PIL import Image

from tests.edit_world import REPOSITORY
from tests.oracle import Oracle
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.toy.shapes import edit_views, run_shape
from threestudio_ssd.benchmarks.toy.trials import Trial
from threestudio_ssd.benchmarks.toy.whole import run_whole
from threestudio_ssd.editors import EDITORS
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.edits import toy_edit

SEED = 5
TRIAL = Trial(toy_edit("ball-cube"), 0, SEED)
SOURCE, TARGET = "red plain ball grass day", "red plain cube grass day"
SMALL = ("system.editing.editor.name=oracle", f"system.editing.editor.scene_seed={SEED}", "data.num_train_views=8")
OF_ORACLE = (*SMALL, f"system.editing.editor.words={TARGET}")
ROUNDS = "system.rounds=[{strength: 0.9, steps: 4, carve: views}, {strength: 0.3, steps: 8, carve: renders}]"
WHOLE = ("system.replaces=false", "system.rounds=[{strength: 0.9, steps: 1}]")


@pytest.fixture(autouse=True)
def _oracle(monkeypatch):
    monkeypatch.setitem(EDITORS, "oracle", Oracle)
    Oracle.asked.clear()


def experiment(words, *more):
    changes = [*SMALL, ROUNDS, f"system.editing.editor.words={words}", "steps=12", *more]
    return complete(load_config(REPOSITORY / "configs/idu-gs.yaml", cli_args=changes))


def test_the_figures_tell_the_right_shape_from_the_old_one():
    right, old = (run_shape(TRIAL, experiment(words)) for words in (TARGET, SOURCE))
    assert right.figures["shape_iou"] > 0.7
    assert old.figures["shape_iou"] < right.figures["shape_iou"]
    assert old.figures["boundary_f"] < right.figures["boundary_f"]
    assert min(each.figures["rest_psnr"] for each in (right, old)) > 35
    assert right.images.shape == (8, 3, 64, 64)
    assert right.seconds > 0 == right.noise_predictions


def test_edited_views_are_held_against_the_truth_and_against_each_other():
    plain, flickering = (
        edit_views(TRIAL, experiment(TARGET, f"system.editing.editor.flicker={by}")) for by in (0, 0.2)
    )
    first, second = plain.figures, flickering.figures
    assert plain.images.shape == plain.truth.target.shape == (8, 3, 48, 48)
    assert (plain.images - plain.truth.target).abs().mean() < 0.02
    assert abs(first["view_difference"] - first["true_difference"]) < 0.01
    assert second["true_difference"] == first["true_difference"]
    assert 0.05 < second["view_difference"] - first["view_difference"] < 0.2


def test_an_editor_that_takes_orders_is_told_what_to_do():
    edit_views(TRIAL, experiment(TARGET))
    edit_views(TRIAL, experiment(TARGET, "system.editing.editor.takes_orders=true"))
    assert Oracle.asked == [TRIAL.edit.prompts[1], TRIAL.edit.instruction]


@pytest.mark.parametrize("use_masks", [True, False])
def test_a_refit_is_a_method_of_scenes_by_its_config_alone(use_masks):
    """The oracle turns the ball blue and the grass to snow; a mask keeps the grass."""
    trial = Trial(toy_edit("blue-ball"), 0, SEED)
    cfg = experiment("blue plain ball snow day", *WHOLE, "system.learning_rates.sh0=0.2", "data.crop=none", "steps=20")
    outcome = run_whole(trial, cfg, use_masks=use_masks, num_views=8)
    blue = outcome.images[:, 2].mean() - outcome.truth.source[:, 2].mean()
    assert blue > 0.005
    far = torch.nn.functional.max_pool2d((~outcome.truth.outside).float(), 5, 1, 2) == 0
    changed = (outcome.images - outcome.truth.source).abs().amax(1)[far].mean()
    assert (changed < 0.01) == use_masks


@pytest.mark.parametrize(
    ("run", "config", "what"),
    [
        (run_shape, "fit-gs", "a method is of gs-fit-system"),
        (edit_views, "ssd-gs", "a method of views is of ssd-gs-system"),
    ],
)
def test_another_system_is_refused(run, config, what):
    cfg = complete(load_config(REPOSITORY / f"configs/{config}.yaml"))
    with pytest.raises(ConfigError) as error:
        run(TRIAL, cfg)
    assert error.value.what == what


def bench(out, kind, *changes):
    method = ", ".join(f'"{word}"' for word in ("configs/idu-gs.yaml", *changes))
    config = f"""
data_type: toy-edits
data: {{edits: [ball-cube], num_seeds: 1, scene_seed: {SEED}}}
system_type: toy-benchmark
system:
  {kind}_methods: {{it: [{method}]}}
  scene_steps: 4
  num_views: 8
  out: {out}
"""
    (out / "bench.yaml").write_text(config)
    return ["--run", "evaluate", "--config", str(out / "bench.yaml")]


def test_the_benchmark_writes_table_and_picture_of_edited_views(tmp_path, capsys):
    assert main(bench(tmp_path, "view", *OF_ORACLE)) == 0
    capsys.readouterr()
    report = (tmp_path / "report.md").read_text()
    assert "## Edited views" in report
    assert "disagreement" in report
    (row,) = json.loads((tmp_path / "view" / "it" / "seed-0.json").read_text())["rows"]
    assert row["view_difference"] is not None
    assert Image.open(tmp_path / "view" / "it" / "ball-cube-0.png").size == (6 * 48, 48)
    assert Image.open(tmp_path / "views.png").height > 3 * 96


def test_a_refit_that_replaces_needs_masks_in_the_table_of_scenes(tmp_path, capsys):
    words = bench(tmp_path, "scene", *OF_ORACLE, ROUNDS)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "method it replaces what is masked, and ball-cube is edited without a mask" in told
    assert not (tmp_path / "scene").exists()
    assert main([*words, "system.use_masks=true"]) == 0
    (row,) = json.loads((tmp_path / "scene" / "it" / "seed-0.json").read_text())["rows"]
    assert row["outside_psnr"] > 15  # four steps leave the carved object too large


def test_a_refit_is_no_method_of_pictures(tmp_path, capsys):
    assert main(bench(tmp_path, "picture")) == 2
    assert "method it of pictures is of idu-gs-system, which has no guidance" in capsys.readouterr().err
