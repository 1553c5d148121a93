"""The toy benchmark and sweeps: trials side by side are trials alone, items resume, the report says what rows say."""

import json

import pytest
import torch
from PIL import Image

from tests.edit_world import REPOSITORY, SIZE
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.apps import bench_items
from threestudio_ssd.apps.bench_items import Method, methods_from
from threestudio_ssd.apps.sweep import sweep_methods
from threestudio_ssd.apps.toy_trials import PictureTrials, SceneTrials, Trial, run_trials, steps_to_share
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_backbone, random_components
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance import EditGuidance
from threestudio_ssd.toyworld.classifier import load_classifier
from threestudio_ssd.toyworld.edits import toy_edit

TRIALS = [Trial(toy_edit("blue-ball"), 0, 3), Trial(toy_edit("snow"), 1, 4), Trial(toy_edit("null-ball"), 2, 5)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "model"
    save_components(random_components(image_size=SIZE), folder)
    return folder


def settings(name, *changes):
    return complete(load_config(REPOSITORY / "configs" / f"{name}.yaml", cli_args=list(changes))).system


def run_some(kind, trials, use_masks=False):
    guidance = EditGuidance(
        {"score": {"name": "dds"}, "schedule": "uniform"}, backbone=random_backbone(image_size=SIZE)
    )
    if kind == "picture":
        batch = PictureTrials(trials, guidance, settings("ssd-image", "system.latent_steps=adam"), use_masks)
    else:
        system = settings("ssd-gs", "steps=2", "system.lambda_anchor.sh0=0.1")
        batch = SceneTrials(trials, guidance, system, use_masks, num_views=3, view_size=32)
    return run_trials(batch, 2, load_classifier(), num_probes=1)


def test_scenes_move_by_the_rates_that_a_run_of_the_config_has():
    """Centres by a share of the orbit's radius, as in the edit system."""
    guidance = EditGuidance({"score": {"name": "dds"}}, backbone=random_backbone(image_size=SIZE))
    system = settings("ssd-gs", "steps=2", "system.learning_rates.means=0.01")
    batch = SceneTrials(TRIALS[:1], guidance, system, False, num_views=2, view_size=32)
    before = batch.images()[0]
    batch.step(0, 2)
    (rate,) = (group["lr"] for group in batch.optimizers[0].param_groups if group["name"] == "means")
    assert rate == pytest.approx(0.01 * 5.4)
    assert (batch.images()[0] - before).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["picture", "scene"])
def test_trials_side_by_side_are_trials_alone(kind):
    together = run_some(kind, TRIALS)
    (alone,) = run_some(kind, TRIALS[1:2])
    torch.testing.assert_close(together[1].images, alone.images, rtol=2e-3, atol=2e-3)
    assert (together[1].images - together[1].truth.source).abs().max() > 1e-2
    assert [outcome.noise_predictions for outcome in together] == pytest.approx([8.0] * 3)
    assert [step for step, _ in together[0].probabilities] == [0, 2]
    assert together[2].probabilities[1][1] is None
    views = {"picture": 1, "scene": 8}[kind]
    assert together[0].images.shape[:2] == (views, 3)


def test_masks_keep_what_is_not_the_object():
    (outcome, ground, _) = run_some("scene", TRIALS, use_masks=True)
    outside = outcome.truth.outside[:, None].expand_as(outcome.images)
    assert (outcome.images - outcome.truth.source)[outside].abs().max() < 0.05
    assert (ground.images - ground.truth.source).abs().mean() > 1e-4
    (picture, _, _) = run_some("picture", TRIALS, use_masks=True)
    far = torch.nn.functional.max_pool2d((~picture.truth.outside).float(), 5, 1, 2) == 0
    assert (picture.images - picture.truth.source).abs().amax(1)[far].max() < 1e-6


def test_steps_to_a_share_of_the_way():
    assert steps_to_share([(0, 0.0), (10, 0.5), (20, 1.0)]) == pytest.approx(18)
    assert steps_to_share([(0, 0.9), (10, 0.4), (20, 0.4)]) is None
    assert steps_to_share([(0, 0.2), (10, 0.22)]) is None
    assert steps_to_share([(0, None), (10, None)]) is None


def test_the_smoke_benchmark_runs_resumes_and_writes_everything(model, tmp_path, monkeypatch, capsys):
    words = ["--run", "evaluate", "--config", str(REPOSITORY / "configs/bench/smoke.yaml")]
    words += [f"system.out={tmp_path}", f"system.overrides=[model={model}]", "system.batch=1"]
    assert main(words) == 0
    report = (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.endswith(f"{tmp_path}/report.md\n")
    assert report.count("| dds |") == 2
    assert "Scenes (3D)" in report
    rows = json.loads((tmp_path / "scene" / "ssd" / "seed-0.json").read_text())["rows"]
    assert [each["edit"] for each in rows] == ["blue-ball", "null-ball"]
    for folder in ("picture/dds", "picture/_source", "picture/_truth", "scene/ssd"):
        assert Image.open(tmp_path / folder / "blue-ball-0.png").height > 16
    monkeypatch.setattr(bench_items, "run_trials", None)
    assert main(words) == 0
    assert main([*words, "system.scene_steps=5"]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/scene/ssd/seed-0.json was made with learning_rates.sh0 " in told
    assert "; expected one folder for each setting" in told
    (tmp_path / "picture" / "dds" / "seed-0.json").unlink()
    assert main(words) == 1


def test_the_smoke_sweep_writes_a_labelled_grid(model, tmp_path, capsys):
    words = ["--run", "sweep", "--config", str(REPOSITORY / "configs/sweeps/smoke.yaml")]
    assert main([*words, f"system.out={tmp_path}", f"system.overrides=[model={model}]"]) == 0
    assert f"{tmp_path}/grid.png" in capsys.readouterr().out
    assert Image.open(tmp_path / "grid.png").height > 3 * 100
    assert "| w_e=5.5 |" in (tmp_path / "report.md").read_text()


def test_vsd_runs_one_edit_at_a_time(model, tmp_path, monkeypatch):
    sizes = []
    real = bench_items.PictureTrials
    monkeypatch.setattr(
        bench_items, "PictureTrials", lambda trials, *rest: sizes.append(len(trials)) or real(trials, *rest)
    )
    shared = bench_items.ItemSettings(
        tmp_path, ("blue-ball", "null-ball"), 3, settings("ssd-image"), {"picture": 1, "scene": 1}, num_probes=1
    )
    for name in ("vsd", "dds"):
        bench_items.run_item(Method(name, f"configs/baselines/{name}.yaml", (f"model={model}",)), "picture", 0, shared)
    assert sizes == [1, 1, 2]


def test_the_published_benchmark_is_what_was_asked_for():
    cfg = complete(load_config(REPOSITORY / "configs/bench/toy.yaml"))
    assert len(cfg.data.edits) >= 24
    assert cfg.data.num_seeds >= 3
    named = {method.load(10).system.guidance.score.name for method in methods_from(cfg.system.picture_methods)}
    published = "sds dds csd nfsd pds dream-catalyst ssd ssd-focused ssd-ip2p vsd ssd-small"
    assert named >= set(published.split())
    assert {"dds-cds", "ssd-cds"} <= set(cfg.system.picture_methods)
    assert {"sds", "dds", "csd", "pds", "ssd"} <= set(cfg.system.scene_methods)


SWEEPS = [path for path in sorted((REPOSITORY / "configs/sweeps").glob("*.yaml"))]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_cell_of_every_sweep_is_a_complete_config(path):
    cells = sweep_methods(complete(load_config(path)).system)
    assert len(cells) >= 2
    loaded = [method.load(10) for method in cells.values()]
    assert len({str(each.system) for each in loaded}) == len(cells)


def test_the_sweep_of_figure_5_is_its_grid():
    cells = sweep_methods(complete(load_config(REPOSITORY / "configs/sweeps/fig5.yaml")).system)
    score = cells["2", "5.5"].load(10).system.guidance.score
    assert (score.cross_prompt_weight, score.cross_trajectory_weight, score.enhance_weight) == (7.5, 2, 5.5)
    assert len(cells) == 16


def test_wrong_methods_are_named():
    with pytest.raises(ConfigError, match=r"method dds is 'configs/x.yaml'; expected a list: config file"):
        methods_from({"dds": "configs/x.yaml"})
