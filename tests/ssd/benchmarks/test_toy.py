"""The toy benchmark and sweeps: trials side by side are trials alone, items resume, the report says what rows say."""

import json
from datetime import datetime

import pytest
import torch
from PIL import Image

from tests.edit_world import REPOSITORY, SIZE
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.grids import image_name
from threestudio_ssd.benchmarks.sweeps.toy import cell_trials, method_of
from threestudio_ssd.benchmarks.toy import items
from threestudio_ssd.benchmarks.toy.items import ItemSettings, Method, load_experiment, methods_from, refuse_unread
from threestudio_ssd.benchmarks.toy.trials import Trial, picture_batch, run_batch, scene_batch, steps_to_share
from threestudio_ssd.cameras import cameras_extent
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.classifier import load_classifier
from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.views import capture_views

TRIALS = [Trial(toy_edit("blue-ball"), 0, 3), Trial(toy_edit("snow"), 1, 4), Trial(toy_edit("null-ball"), 2, 5)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "model"
    save_components(random_components(image_size=SIZE), folder)
    return folder


def experiment(name, *changes):
    return complete(load_config(REPOSITORY / "configs" / f"{name}.yaml", cli_args=list(changes)))


def shared(folder, **more):
    words = {"num_steps": {"picture": 1, "scene": 1}, "num_probes": 1, **more}
    return ItemSettings(folder, ("blue-ball", "null-ball"), 3, experiment("ssd-image"), **words)


def batch_of(kind, trials, model, *changes, use_masks=False):
    words = [f"model={model}", "steps=2", "system.guidance.score.name=dds", "system.guidance.schedule=uniform"]
    if kind == "picture":
        system = experiment("ssd-image", *words, "system.latent_steps=adam", *changes).system
        return picture_batch(trials, system, use_masks)
    cfg = experiment("ssd-gs", *words, "system.lambda_anchor.sh0=0.1", *changes)
    return scene_batch(trials, cfg, use_masks, num_views=3)


def run_some(kind, trials, model, *changes, use_masks=False):
    return run_batch(batch_of(kind, trials, model, *changes, use_masks=use_masks), load_classifier(), num_probes=1)


def test_scenes_move_by_the_rates_that_a_run_of_the_config_has(model):
    """Centres by a share of the cameras' extent, as in the edit system: that of the toy world's captures."""
    cfg = experiment("ssd-gs", f"model={model}", "steps=2", "system.learning_rates.means=0.01")
    batch = scene_batch(TRIALS[:1], cfg)
    before = batch.images()[0]
    batch.edit.prepare()
    optimizers = batch.edit.make_optimizers()
    batch.edit.step(0, optimizers)
    (rate,) = (group["lr"] for group in optimizers[0].param_groups if group["name"] == "means")
    assert rate == pytest.approx(0.01 * cameras_extent(capture_views(24, SIZE)))
    assert (batch.images()[0] - before).abs().max() > 1e-3


@pytest.mark.parametrize("views", [1, 2])
def test_a_trial_is_the_run_of_its_config(model, tmp_path, views):
    """What the benchmark measures is what launch.py makes: the same Gaussians, bit for bit."""
    from threestudio_ssd.data import ViewPlan
    from threestudio_ssd.edits.scene_edit import SceneEdit
    from threestudio_ssd.gaussians.io import save_gaussians
    from threestudio_ssd.toyworld import build_scene
    from threestudio_ssd.toyworld.splat import save_cameras_json, to_gaussians
    from threestudio_ssd.toyworld.views import capture_views

    (trial,) = TRIALS[1:2]
    save_gaussians(to_gaussians(build_scene(trial.edit.source, trial.scene_seed)), tmp_path / "scene.ply")
    save_cameras_json(capture_views(3, SIZE), tmp_path / "cameras.json")
    words = dict(zip(("source_prompt", "target_prompt"), trial.edit.prompts, strict=True))
    words |= {"scene": tmp_path / "scene.ply", "cameras": tmp_path / "cameras.json", "seed": trial.seed, "model": model}
    words |= {"steps": 2, "mask.picture": "", "data.batch_size": views, "system.guidance.score.name": "dds"}
    words |= {"system.guidance.schedule": "uniform", "system.lambda_anchor.sh0": 0.1}
    cfg = experiment("ssd-gs", *(f"{key}={value}" for key, value in words.items()))
    job = SceneEdit(cfg.system)
    job.open(ViewPlan(cfg.data, capture_views(3, SIZE)))
    batch = batch_of("scene", [trial], model, f"data.batch_size={views}")
    for edit in (job.edit, batch.edit):
        edit.prepare()
        optimizers = edit.make_optimizers()
        for step in range(2):
            edit.step(step, optimizers)
    assert torch.equal(job.editable.result().sh0, batch.edit.scenes[0].editable.result().sh0)


@pytest.mark.parametrize("kind", ["picture", "scene"])
def test_trials_side_by_side_are_trials_alone(kind, model):
    together = run_some(kind, TRIALS, model)
    (alone,) = run_some(kind, TRIALS[1:2], model)
    torch.testing.assert_close(together[1].images, alone.images, rtol=2e-3, atol=2e-3)
    assert (together[1].images - together[1].truth.source).abs().max() > 1e-2
    assert [outcome.noise_predictions for outcome in together] == pytest.approx([8.0] * 3)
    assert [step for step, _ in together[0].probabilities] == [0, 2]
    assert together[2].probabilities[1][1] is None
    views = {"picture": 1, "scene": 8}[kind]
    assert together[0].images.shape[:2] == (views, 3)


def test_masks_keep_what_is_not_the_object(model):
    def far(outcome):
        """Pixels that are outside, and so are those around them."""
        return torch.nn.functional.max_pool2d((~outcome.truth.outside).float(), 5, 1, 2) == 0

    (outcome, ground, _) = run_some("scene", TRIALS, model, use_masks=True)
    assert (outcome.images - outcome.truth.source).abs().amax(1)[far(outcome)].max() < 0.05
    assert (ground.images - ground.truth.source).abs().mean() > 1e-4
    (picture, _, _) = run_some("picture", TRIALS, model, use_masks=True)
    assert (picture.images - picture.truth.source).abs().amax(1)[far(picture)].max() < 1e-6


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
    assert report.count("| dds |") == 3  # figures, success by attribute, what it is made of
    assert "Scenes (3D)" in report
    rows = json.loads((tmp_path / "scene" / "ssd" / "seed-0.json").read_text())["rows"]
    assert [each["edit"] for each in rows] == ["blue-ball", "null-ball"]
    for folder in ("picture/dds", "picture/_source", "picture/_truth", "scene/ssd"):
        assert Image.open(tmp_path / folder / "blue-ball-0.png").height > 16
    monkeypatch.setattr(items, "run_batch", None)
    assert main(words) == 0
    assert main([*words, "system.scene_steps=5"]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/scene/ssd/seed-0.json was made with system." in told
    assert "; expected one folder for each setting" in told
    (tmp_path / "picture" / "dds" / "seed-0.json").unlink()
    assert main(words) == 1


def test_several_processes_share_the_items_and_pass_a_refusal_on(model, tmp_path, capsys):
    words = ["--run", "evaluate", "--config", str(REPOSITORY / "configs/bench/smoke.yaml")]
    words += [f"system.out={tmp_path}", f"system.overrides=[model={model}]", "system.num_processes=2"]
    assert main(words) == 0
    assert len(list(tmp_path.rglob("seed-*.json"))) == 3
    capsys.readouterr()
    assert main([*words, "system.scene_steps=5"]) == 2
    told = capsys.readouterr().err
    assert "was made with system." in told
    assert "Traceback" not in told


def test_the_smoke_sweep_writes_a_labelled_grid(model, tmp_path, capsys):
    words = ["--run", "sweep", "--config", str(REPOSITORY / "configs/sweeps/smoke.yaml")]
    assert main([*words, f"system.out={tmp_path}", f"system.overrides=[model={model}]"]) == 0
    assert f"{tmp_path}/grid.png" in capsys.readouterr().out
    assert Image.open(tmp_path / "grid.png").height > 3 * 100
    assert "| w_e=5.5 |" in (tmp_path / "report.md").read_text()
    item = tmp_path / "picture" / "w_e=0" / "seed-0.json"
    made = item.stat().st_mtime_ns
    assert main([*words, f"system.out={tmp_path}", f"system.overrides=[model={model}]"]) == 0
    assert item.stat().st_mtime_ns == made


def test_vsd_runs_one_edit_at_a_time(model, tmp_path, monkeypatch):
    sizes = []
    real = items.picture_batch
    monkeypatch.setattr(items, "picture_batch", lambda trials, *rest: sizes.append(len(trials)) or real(trials, *rest))
    for name in ("vsd", "dds"):
        method = Method(name, f"configs/baselines/{name}.yaml", (f"model={model}",))
        items.run_item(method, "picture", 0, shared(tmp_path))
    assert sizes == [1, 1, 2]


CHANGES = {
    "system.mask_latents=true": lambda batch: batch.edit.objective.is_masked,
    "system.background=[1,0,0]": lambda batch: batch.edit.background.tolist() == [1, 0, 0],
    "data.crop=selection": lambda batch: (
        not torch.equal(batch.edit.scenes[0].cameras.Ks, batch_of.plain.edit.scenes[0].cameras.Ks)
    ),
    "system.growth.kind=hierarchical": lambda batch: batch.edit.scenes[0].growth.is_on,
    "data.batch_size=2": lambda batch: batch.edit.views_per_step == 2,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_method_sets_is_what_its_trials_do(model, change):
    """Once these keys were recorded and ignored."""
    batch_of.plain = batch_of("scene", TRIALS[:1], model, use_masks=True)
    assert not CHANGES[change](batch_of.plain)
    assert CHANGES[change](batch_of("scene", TRIALS[:1], model, change, use_masks=True))


@pytest.mark.parametrize("kind", ["picture", "scene"])
def test_the_negative_prompt_of_a_method_reaches_the_network(model, kind):
    words = ["system.guidance.score.name=nfsd"]
    prompt = "system.prompt_processor.negative_prompt=a green cat"
    plain, other = (batch_of(kind, TRIALS[:1], model, *words, *more) for more in ((), (prompt,)))
    prompts = [each.edit.prompts if kind == "picture" else each.edit.objective.prompts for each in (plain, other)]
    assert torch.equal(prompts[0]["tgt"].hidden, prompts[1]["tgt"].hidden)
    assert not torch.equal(prompts[0]["neg"].hidden, prompts[1]["neg"].hidden)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("scene", "system.preview_every=3"), ("scene", "system.mask.box=[0,0,0,1,1,1]"), ("scene", "seed=4"),
        ("scene", "trainer.precision=bf16-mixed"), ("scene", "source_prompt=a cat"),
        ("scene", "data.frame=square"), ("picture", "system.color_steps=adam"),
        ("picture", "data.crop=selection"), ("picture", "system.lambda_detail=3"),
    ],
)  # fmt: skip
def test_a_change_that_no_trial_reads_is_refused_by_name(tmp_path, kind, change):
    method = Method("mine", "configs/ssd-gs.yaml", (change,))
    with pytest.raises(ConfigError) as error:
        refuse_unread([(kind, method)], [], shared(tmp_path))
    assert error.value.what == f"method mine sets {change}, which trials of {kind}s do not read"


def test_a_second_that_passes_is_no_change(tmp_path, monkeypatch):
    class Clock:
        second = 0

        @classmethod
        def now(cls):
            cls.second += 1
            return datetime(2026, 1, 1, second=cls.second)

    monkeypatch.setattr("threestudio.utils.config.datetime", Clock)
    items._leaves_of.cache_clear()
    usual = Method("usual", "configs/ssd-gs.yaml", ("system.guidance.score.name=ssd-settled",))
    refuse_unread([("picture", usual)], [], shared(tmp_path))


def test_a_change_to_all_methods_must_be_read_by_one_of_them(tmp_path):
    both = [(kind, Method("mine", "configs/ssd-gs.yaml")) for kind in ("picture", "scene")]
    refuse_unread(both, ["system.lambda_detail=2", "system.guidance.score.enhance_weight=3"], shared(tmp_path))
    with pytest.raises(ConfigError, match=r"system.overrides holds system.lambda_detail=2, which no trial reads"):
        refuse_unread(both[:1], ["system.lambda_detail=2"], shared(tmp_path))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("scene", ["system.mask_latents=true"]), ("scene", ["data.crop=selection"]), ("scene", ["steps=2"]),
        ("picture", ["system.prompt_processor.negative_prompt=a cat"]), ("scene", ["data.num_train_views=2"]),
    ],
)  # fmt: skip
def test_a_kept_result_of_other_settings_is_not_taken(model, tmp_path, monkeypatch, kind, more):
    folder = tmp_path / kind / "mine"
    folder.mkdir(parents=True)
    monkeypatch.setattr(items, "run_batch", lambda *args: pytest.fail("nothing is to be run"))
    monkeypatch.setattr(items, f"{kind}_batch", lambda *args, **words: pytest.fail("nothing is to be run"))
    method = Method("mine", "configs/ssd-gs.yaml", (f"model={model}",))
    cfg = load_experiment(method, kind, shared(tmp_path))
    made_with = items.made_with(cfg, kind, shared(tmp_path))
    (folder / "seed-0.json").write_text(json.dumps({"settings": made_with, "rows": [{"edit": "kept"}]}))
    for name in shared(tmp_path).edits:
        Image.new("RGB", (2, 2)).save(folder / image_name(name, 0))
    assert items.run_item(method, kind, 0, shared(tmp_path)) == [{"edit": "kept"}]
    changed = Method("mine", "configs/ssd-gs.yaml", (f"model={model}", *more))
    with pytest.raises(ConfigError, match=r"seed-0.json was made with"):
        items.run_item(changed, kind, 0, shared(tmp_path))


def test_the_published_benchmark_is_what_was_asked_for():
    cfg = complete(load_config(REPOSITORY / "configs/bench/toy.yaml"))
    assert len(cfg.data.edits) >= 24
    assert cfg.data.num_seeds >= 3
    named = {loaded(method).guidance.score.name for method in methods_from(cfg.system.picture_methods)}
    published = "sds dds csd nfsd pds dream-catalyst ssd ssd-focused ssd-ip2p vsd ssd-small"
    assert named >= set(published.split())
    assert {"dds-cds", "ssd-cds"} <= set(cfg.system.picture_methods)
    assert {"sds", "dds", "csd", "pds", "ssd"} <= set(cfg.system.scene_methods)


def loaded(method):
    return complete(load_config(REPOSITORY / method.config, cli_args=["steps=10", *method.overrides])).system


SWEEPS = [path for path in sorted((REPOSITORY / "configs/sweeps").glob("*.yaml"))]


def methods(path):
    """The method of each cell by its name."""
    cfg = complete(load_config(path)).system
    return {trial.name: method_of(cfg, trial) for trial in cell_trials(cfg)}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_cell_of_every_sweep_is_a_complete_config(path):
    cells = methods(path)
    assert len(cells) >= 2
    assert len({str(loaded(method)) for method in cells.values()}) == len(cells)


def test_the_sweep_of_figure_5_is_its_grid():
    cells = methods(REPOSITORY / "configs/sweeps/fig5.yaml")
    score = loaded(cells["w_t=2 w_e=5.5"]).guidance.score
    assert (score.cross_prompt_weight, score.cross_trajectory_weight, score.enhance_weight) == (7.5, 2, 5.5)
    assert len(cells) == 16


def test_a_sweep_without_axes_is_refused():
    cfg = complete(load_config(REPOSITORY / "configs/sweeps/fig5.yaml")).system
    cfg.axes = {}
    with pytest.raises(ConfigError) as error:
        cell_trials(cfg)
    assert str(error.value) == (
        "system.axes has 0 axes; expected one or two, each with values; "
        "write axes: {system.guidance.score.enhance_weight: [0, 5.5]}"
    )


def test_wrong_methods_are_named():
    with pytest.raises(ConfigError, match=r"method dds is 'configs/x.yaml'; expected a list: config file"):
        methods_from({"dds": "configs/x.yaml"})
