"""The command line on the toy plugin: train, interrupt, resume to the same bytes, test, export, and every mistake."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from threestudio.log import show_messages
from threestudio.plugins import REPOSITORY, load_plugins
from threestudio.run import main, quiet_libraries

HERE = Path(__file__).parent
TOY = str(HERE / "toy.yaml")
RUN = Path("outputs/toy/a_red_cube")


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    load_plugins(HERE / "plugins")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THREESTUDIO_PLUGIN_FOLDERS", str(HERE / "plugins"))


@pytest.fixture
def launch(launch):
    """The same with the toy config."""
    return lambda *argv: launch("--config", TOY, *argv)


def values():
    return (RUN / "save" / "values.npy").read_bytes()


def test_a_run_trains_tests_exports_and_says_where_the_result_is(launch):
    code, out, err = launch()
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(RUN / "save" / "values.npy")
    assert "train: 100%" in out
    assert "12/12" in out
    assert "memory=" in out
    for name in (
        "save/values.npy", "save/report.json", "save/test.mp4", "ckpts/last.ckpt", "configs/parsed.yaml",
        "tb_logs/version_0", "csv_logs/version_0/metrics.csv",
    ):  # fmt: skip
        assert (RUN / name).exists(), name
    assert json.loads((RUN / "save" / "report.json").read_text()) == {"step": 12}
    assert not [path for path in RUN.rglob("*") if ".tmp" in path.name]
    assert not Path("lightning_logs").exists()


def test_the_saved_config_gives_the_same_run(launch, capfd):
    launch()
    first = values()
    saved = Path("parsed.yaml")
    saved.write_text((RUN / "configs" / "parsed.yaml").read_text())
    assert main(["--config", str(saved)]) == 0
    assert values() == first


@pytest.mark.parametrize("given", [["system.interrupt_at=6"], ["trainer.max_steps=7"], ["trainer.max_steps=5"]])
def test_an_interrupted_run_resumes_to_the_same_bytes(launch, given):
    launch("exp_root_dir=whole")
    whole = Path("whole/toy/a_red_cube/save/values.npy").read_bytes()
    code, out, err = launch("--train", *given)
    if given[0].startswith("system"):
        last = RUN / "ckpts" / "last.ckpt"
        assert (code, err) == (130, f"interrupted; go on with --resume {last}\n")
        assert torch.load(last, weights_only=True)["global_step"] == 7
        assert not (RUN / "save").exists()
    else:
        assert code == 0
        assert values() != whole
    code, out, err = launch("--resume", "auto")
    assert (code, err) == (0, "")
    assert f"going on from {RUN / 'ckpts' / 'last.ckpt'}" in out
    assert values() == whole


def test_validation_in_between_does_not_change_a_run(launch):
    launch()
    first = values()
    launch("exp_root_dir=checked", "trainer.val_check_interval=3", "trainer.check_val_every_n_epoch=null")
    checked = Path("checked/toy/a_red_cube/save")
    assert len(list(checked.glob("validated-*.json"))) == 4
    assert (checked / "values.npy").read_bytes() == first


def test_a_periodic_checkpoint_resumes_to_the_same_bytes(launch):
    code, _, err = launch("checkpoint.save_top_k=-1", "checkpoint.filename='{step}'")
    whole = values()
    kept = sorted(path.name for path in (RUN / "ckpts").iterdir())
    assert kept == ["last.ckpt", "previous.ckpt", "step=10.ckpt", "step=5.ckpt"]
    code, _, err = launch("--resume", str(RUN / "ckpts" / "step=5.ckpt"), "exp_root_dir=again")
    assert (code, err) == (0, "")
    assert Path("again/toy/a_red_cube/save/values.npy").read_bytes() == whole


def test_stages_of_a_trained_run(launch):
    launch()
    first = values()
    (RUN / "save" / "values.npy").unlink()
    code, out, _ = launch("--export")
    assert (code, out.splitlines()[-1]) == (0, str(RUN / "save" / "values.npy"))
    assert values() == first
    assert json.loads((RUN / "save" / "report.json").read_text()) == {"step": 12}
    (RUN / "save" / "test.mp4").unlink()
    assert launch("--test")[0] == 0
    assert (RUN / "save" / "test.mp4").exists()
    assert launch("--validate")[0] == 0
    assert (RUN / "save" / "validated-12.json").exists()
    assert launch("--export", "--resume", str(RUN / "ckpts" / "last.ckpt"), "use_timestamp=true")[0] == 0
    assert [path.name for path in Path("outputs/toy").iterdir()] == ["a_red_cube"]


def test_auto_finds_the_newest_run_with_a_timestamp(launch):
    launch("use_timestamp=true", "trainer.max_steps=2")
    (folder,) = Path("outputs/toy").iterdir()
    assert folder.name.startswith("a_red_cube@")
    code, out, _ = launch("use_timestamp=true", "--resume", "auto")
    assert (code, out.splitlines()[-1]) == (0, str(folder / "save" / "values.npy"))


def test_auto_starts_anew_when_there_is_nothing_yet(launch):
    code, out, _ = launch("--resume", "auto", "steps=2")
    assert code == 0
    assert f"no checkpoint in {RUN} yet: starting anew" in out


def test_an_exit_code_of_the_system_is_passed_on(launch):
    code, out, err = launch("system.exit_code=3", "steps=2")
    assert (code, err) == (3, "")
    assert out.splitlines()[-1] == str(RUN / "save" / "values.npy")


@pytest.mark.parametrize("where", ["configure", "setup", "fit_start", "step"])
def test_a_mistake_of_the_user_is_one_line_and_leaves_no_folder(launch, where):
    code, _, err = launch(f"system.fail_at={where}")
    assert code == 2
    assert err == f"error: toy failed at {where}; expected no failure; set system.fail_at=never\n"
    assert not Path("outputs").exists()


def test_a_mistake_leaves_an_older_run_alone(launch):
    launch("steps=2")
    assert launch("system.fail_at=setup")[0] == 2
    assert (RUN / "save" / "values.npy").exists()


def test_a_report_that_fails_does_not_cost_the_result(launch):
    """The export still happens, its path is printed last, and the failure is said with its exit code."""
    launch("exp_root_dir=whole")
    code, out, err = launch("system.fail_at=test")
    assert code == 2
    assert err == "error: toy failed at test; expected no failure; set system.fail_at=never\n"
    assert "test failed (ConfigError); going on to export, so that the result is not lost" in out
    assert out.splitlines()[-1] == str(RUN / "save" / "values.npy")
    assert values() == (Path("whole") / RUN.relative_to("outputs") / "save" / "values.npy").read_bytes()
    code, out, err = launch("--test", "system.fail_at=test")
    assert (code, err) == (2, "error: toy failed at test; expected no failure; set system.fail_at=never\n")
    assert "is not lost" not in out


def test_a_bug_of_ours_has_a_traceback(launch):
    code, _, err = launch("system.fail_at=bug")
    assert code == 1
    assert err.startswith("Traceback")
    assert err.endswith("RuntimeError: a bug of the toy\n")


def test_verbose_adds_the_traceback(launch):
    code, _, err = launch("--verbose", "steps=x")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1] == "error: steps is 'x'; expected a whole number; set steps=12, for example"


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        (["seed=4"], "with seed 3, and now it is 4"),
        (["target_prompt=a blue cube", "tag=a red cube"], 'with system.guidance.prompt "a red cube", and now it is '),
        (["steps=9"], "with system.guidance.noise [0, 0.5, 0.1, 12], and now it is [0, 0.5, 0.1, 9]"),
        (["trainer.gradient_clip_val=1"], "without trainer.gradient_clip_val, and now it is 1"),
    ],
)
@pytest.mark.parametrize("how", [["--resume", "auto"], ["--export"], ["--resume", str(RUN / "ckpts" / "last.ckpt")]])
def test_a_run_is_resumed_with_its_own_config(launch, how, given, changed):
    """Anything else would put another run's words and figures beside this one's result."""
    launch()
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    code, _, err = launch(*how, *given)
    assert code == 2
    assert err.startswith(f"error: {RUN} was made {changed}")
    assert err.endswith("; expected the config of that run; resume without that change, or set another tag and start "
                        "anew, without --resume\n")  # fmt: skip
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before
    assert launch(*how, "trainer.log_every_n_steps=2", "system.exit_code=3", "description=again")[0] == 3


def test_a_checkpoint_of_another_config(launch):
    launch("steps=2")
    (RUN / "configs" / "parsed.yaml").unlink()
    code, _, err = launch("--resume", str(RUN / "ckpts" / "last.ckpt"), "mask.size=9", "exp_root_dir=other")
    assert code == 2
    assert err == (
        f"error: {RUN / 'ckpts' / 'last.ckpt'} was made with another data.size; expected the config of that run; "
        "resume without that change, or set another tag and start anew, without --resume\n"
    )
    content = torch.load(RUN / "ckpts" / "last.ckpt", weights_only=True)
    del content["callbacks"]["ConfigSnapshotCallback"]  # as a system that was changed since would have it
    torch.save(content, RUN / "ckpts" / "last.ckpt")
    code, _, err = launch("--resume", str(RUN / "ckpts" / "last.ckpt"), "mask.size=9", "exp_root_dir=other")
    assert code == 2
    assert err.startswith(f"error: {RUN / 'ckpts' / 'last.ckpt'} does not fit this config: size mismatch for values")
    assert len(err.splitlines()) == 1
    assert not Path("other").exists()


def test_a_broken_plugin_is_one_line(tmp_path):
    (tmp_path / "plugs" / "plug-bad").mkdir(parents=True)
    (tmp_path / "plugs" / "plug-bad" / "__init__.py").write_text("import no_such_module\n")
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "launch.py"), "--config", TOY],
        env={"THREESTUDIO_PLUGIN_FOLDERS": str(tmp_path / "plugs"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "plug-bad cannot be loaded: " in done.stderr
    assert "__init__.py:1: ModuleNotFoundError: No module named 'no_such_module'" in done.stderr


def test_warnings_of_ours_are_shown_and_those_of_libraries_are_not(capsys):
    ours = type("ToyWarning", (UserWarning,), {"__module__": "toy_fit.system"})
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        show_messages()
        quiet_libraries()
        warnings.warn("one row cannot be drawn", ours, stacklevel=1)
        warnings.warn("we rename things in the next version", FutureWarning, stacklevel=1)
    captured = capsys.readouterr()
    assert captured.out.endswith(" W one row cannot be drawn\n")
    assert "next version" not in captured.out + captured.err


def test_help_is_complete(capfd):
    assert main(["--help"]) == 0
    out = capfd.readouterr().out
    for word in ("--config", "--train", "--validate", "--test", "--export", "--run", "--resume", "--gpu", "--verbose"):
        assert word in out
