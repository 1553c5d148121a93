"""Sweeps of one's own scene: a trial is the run that launch.py makes, once; what cannot run is found before."""

import csv

import pytest
from PIL import Image

from tests.edit_world import SMOKE, overrides, run
from threestudio.apps import Words
from threestudio.run import load_checked, main
from threestudio_ssd.benchmarks.sweeps.plan import named_trials
from threestudio_ssd.benchmarks.sweeps.scenes import folder_name, made_with, scene_jobs

WEIGHT = "sweep.grid.system.guidance.score.enhance_weight"


def sweep(world, out, *words):
    given = [*overrides(world, out), "trainer.enable_progress_bar=false", *words]
    return main(["--run", "sweep", "--config", str(SMOKE), *given])


def test_a_trial_is_the_run_alone_and_one_that_fails_stops_no_other(world, tmp_path, capsys):
    words = ["sweep.list=[{system.lambda_detail: -1}, {system.lambda_detail: 0.5}]"]
    assert sweep(world, tmp_path, *words) == 3
    folder = tmp_path / "smoke-sweep"
    with (folder / "results.csv").open() as file:
        bad, good = csv.DictReader(file)
    assert (bad["status"], good["status"]) == ("failed", "done")
    assert bad["error"].startswith("error: system.lambda_detail is -1; expected at least 0")
    assert float(good["clip_directional_similarity"]) != 0
    told = capsys.readouterr().out
    assert "lambda_detail=0.5: done in " in told
    assert told.splitlines()[-1] == str(folder / "report.html")
    result = folder / "lambda_detail=0.5" / "save" / "edited.ply"
    code, alone = run(world, tmp_path / "alone", "train", "test", "export", **{"system.lambda_detail": 0.5})
    assert code == 0
    assert result.read_bytes() == (alone / "save" / "edited.ply").read_bytes()
    strip = 18 + 128 + 4
    assert Image.open(folder / "sheet.png").height == 3 * strip
    assert "psnr_outside" in (folder / "report.html").read_text()
    made = result.stat().st_mtime_ns
    assert sweep(world, tmp_path, "sweep.grid.system.lambda_detail=[0.5]") == 0
    assert result.stat().st_mtime_ns == made
    assert sweep(world, tmp_path, "sweep.grid.system.lambda_detail=[0.5]", "steps=5") == 2
    assert "lambda_detail=0.5 was made with system.num_steps 4, and now it is 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["sweep.grid.system.guidance.score.enhance_wieght=[0,1]"],
            "did you mean enhance_weight?",
        ),
        (["sweep.grid.stesp=[1,2]"], "did you mean steps?"),
        (["sweep.gird.steps=[1,2]"], "did you mean sweep.grid?"),
        (["sweep.grid.scene=[no.ply]"], "no.ply"),
        (["sweep=no.yaml"], "the config no.yaml does not exist"),
        ([f"{WEIGHT}=[0]", "runer=ray"], "did you mean runner?"),
        ([f"{WEIGHT}=[0]", "only=a"], "run.only names a cell; expected a sweep on toy edits"),
        ([f"{WEIGHT}=[0]", "resume=auto"], "leave it out: trials that were stopped go on by themselves"),
    ],
)
def test_what_cannot_run_is_named_before_any_trial(world, tmp_path, capsys, words, message):
    assert sweep(world, tmp_path, *words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_dry_run_lists_the_trials_and_makes_none(world, tmp_path, capsys):
    file = tmp_path / "keys.yaml"
    file.write_text("zip: {steps: [2, 3], seed: [1, 2]}\n")
    assert sweep(world, tmp_path / "out", f"sweep={file}", "sweep.max_trials=1", "dry_run=true") == 0
    assert capsys.readouterr().out == "steps=2 seed=1: 2 steps\n1 trials; run one to know how long\n"
    assert not (tmp_path / "out").exists()


def test_a_trial_depends_on_what_its_files_hold(world, tmp_path):
    scene = tmp_path / "scene.ply"
    scene.write_bytes((world / "scene.ply").read_bytes())
    words = [*overrides(world, tmp_path), f"scene={scene}"]
    before = made_with(load_checked(str(SMOKE), words))
    content = scene.read_bytes()
    scene.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    after = made_with(load_checked(str(SMOKE), words))
    assert [key for key in before if before[key] != after[key]] == ["files.system.scene"]
    assert made_with(load_checked(str(SMOKE), [*words, "tag=other", "system.preview_every=0"])) == after
    assert made_with(load_checked(str(SMOKE), [*words, "data.test_size=64"])) != after


def test_folders_of_trials_tell_them_apart(world, tmp_path):
    prompts = ["a ball: blue", "a ball, blue", "a ball; blue"]
    trials = named_trials([{"target_prompt": prompt} for prompt in prompts], {})
    jobs = scene_jobs(Words(str(SMOKE), tuple(overrides(world, tmp_path))), trials, "")
    assert len({job.folder for job in jobs}) == 3
    assert all(job.folder.parent == tmp_path / "smoke-sweep" for job in jobs)
    (plain,) = named_trials([{"steps": 3, "seed": 1}], {})
    assert folder_name(plain) == "steps=3_seed=1"
