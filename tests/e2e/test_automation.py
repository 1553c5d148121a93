"""What programs rely on: the report and the lines of --progress json against their schemas; docs/automation.md runs."""

import json
import os
import re
import subprocess
import sys
import types

import jsonschema
import pytest

from tests.edit_world import REPOSITORY, SMOKE, overrides
from threestudio.run import main

PAGE = (REPOSITORY / "docs" / "automation.md").read_text(encoding="utf-8")
RECIPE = re.compile(r"^```\w+\n((?:#![^\n]*\n)?# (\S+)\n.*?)^```", re.MULTILINE | re.DOTALL)
RECIPES = {name: code for code, name in RECIPE.findall(PAGE)}


def validator(name):
    schema = json.loads((REPOSITORY / "data" / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def events_of(text):
    """The events of an output, all of them valid."""
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        validator("progress").validate(event)
    assert events[0]["event"] == "start"
    assert [event["event"] for event in events].index("end") == len(events) - 1
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    return events


def kinds(events, kind):
    return [event for event in events if event["event"] == kind]


def test_an_edit_in_lines_and_its_report(world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = overrides(world, tmp_path / "out", tag="run", use_timestamp="false")
    code = main(["--config", str(SMOKE), "--progress", "json", *words])
    out, err = capsys.readouterr()
    events = events_of(out)
    assert events[-1]["exit_code"] == code
    steps = [(each["step"], each["steps"]) for each in kinds(events, "progress") if each["stage"] == "train"]
    assert steps[0] == (0, 4)
    assert steps[-1] == (4, 4)
    assert {each["stage"] for each in kinds(events, "progress")} == {"train", "test", "export"}
    trained = [each for each in kinds(events, "progress") if each["stage"] == "train"]
    assert "train/score" in trained[-1]["metrics"]
    (result,) = kinds(events, "result")
    assert result["path"] == str(tmp_path / "out" / "smoke" / "run" / "save" / "edited.ply")
    assert kinds(events, "message")
    assert result["path"] in err
    assert sys.stdout is not sys.stderr
    report = json.loads((tmp_path / "out" / "smoke" / "run" / "save" / "report.json").read_text())
    validator("report").validate(report)
    assert report["steps"] == 4
    for key in ("schema_version", "device", "versions"):
        with pytest.raises(jsonschema.ValidationError):
            validator("report").validate({name: value for name, value in report.items() if name != key})
    with pytest.raises(jsonschema.ValidationError):
        validator("report").validate(report | {"changed_share": 2})


def test_mistakes_and_apps_in_lines(capsys):
    assert main(["--progress", "json", "--config", "ssd-gs", "scene=no/such.ply"]) == 2
    out, err = capsys.readouterr()
    events = events_of(out)
    (error,) = kinds(events, "error")
    assert error["kind"] == "input"
    assert error["what"] == "no/such.ply does not exist"
    assert error["fix"].startswith("check the path given as scene; it was looked for in ")
    assert events[-1]["exit_code"] == 2
    assert (
        err == f"error: no/such.ply does not exist; expected a splat file, or the folder of a field; {error['fix']}\n"
    )
    assert main(["--progress", "json", "--run", "convert", "--help"]) == 0
    out, err = capsys.readouterr()
    assert [event["event"] for event in events_of(out)] == ["start", "end"]
    assert err.startswith("usage: ")
    assert main(["--progress=json", "--config", "smoke/edit", "--stepz", "3"]) == 2
    events = events_of(capsys.readouterr().out)
    assert [event["event"] for event in events] == ["start", "error", "end"]
    assert events[1]["what"] == "--stepz is not an option"
    assert main(["--progress", "xml"]) == 2
    assert "argument --progress: invalid choice: 'xml'" in capsys.readouterr().err


def test_a_bug_and_an_interrupt_in_lines(capsys, monkeypatch):
    cases = [(ZeroDivisionError("x"), 1, "bug"), (KeyboardInterrupt(), 130, "interrupted")]
    errors = iter([error for error, _, _ in cases])

    def fail(*_):
        raise next(errors)

    monkeypatch.setattr("threestudio.run.dispatch", fail)
    for _, code, kind in cases:
        assert main(["--progress", "json"]) == code
        events = events_of(capsys.readouterr().out)
        assert [event["event"] for event in events] == ["start", "error", "end"]
        assert events[1]["kind"] == kind
        assert events[2]["exit_code"] == code


def test_the_page_has_every_code_and_every_event():
    properties = validator("progress").schema["oneOf"]
    for name in (each["properties"]["event"]["const"] for each in properties):
        assert f"| `{name}` |" in PAGE
    (codes,) = [each["properties"]["exit_code"]["enum"] for each in properties if "exit_code" in each["properties"]]
    assert codes == [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert set(RECIPES) == {"edit.py", "edits.sbatch", "ray_edits.py"}


@pytest.fixture
def cluster(world, tmp_path):
    """A folder with the recipes, and programs that they call: ssd-edit with a quick edit's words, stubs of Slurm."""
    for name, code in RECIPES.items():
        (tmp_path / name).write_text(code)
    words = " ".join(f"'{word}'" for word in overrides(world, tmp_path / "out"))
    stubs = {
        "ssd-edit": f'exec "{sys.executable}" "{REPOSITORY}/launch.py" "$@" {words}\n',
        "srun": 'exec "$@"\n',
        "scontrol": 'echo "$@" >> scontrol.txt\n',
        "sbatch": 'SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=2 exec bash "$1"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, code in stubs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{code}")
        (tmp_path / "bin" / name).chmod(0o755)

    def run(*command):
        env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return tmp_path, run


@pytest.mark.slow
def test_the_python_recipe(cluster):
    folder, run = cluster
    done = run(sys.executable, "edit.py", "tag=python", "use_timestamp=false", "steps=2")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"] == 2
    assert (folder / report["result"]).is_file()
    assert "train 2 2" in done.stderr
    failed = run(sys.executable, "edit.py", "scen=a.ply")
    assert "exit code 2: unknown key scen" in failed.stderr


@pytest.mark.slow
def test_the_slurm_recipe(cluster):
    folder, run = cluster
    (folder / "edits.txt").write_text("steps=1\nsteps=2 target_prompt='a photo of a blue ball on grass'\n")
    done = run("sbatch", "edits.sbatch")
    assert done.returncode in (0, 3), done.stderr
    events = events_of((folder / "edit-2.jsonl").read_text())
    assert events[-1]["exit_code"] == done.returncode
    assert kinds(events, "progress")[0]["steps"] == 2
    assert (folder / kinds(events, "result")[0]["path"]).is_file()
    assert not (folder / "scontrol.txt").exists()
    (folder / "bin" / "ssd-edit").write_text("#!/bin/bash\nexit 130\n")
    assert run("sbatch", "edits.sbatch").returncode == 130
    assert (folder / "scontrol.txt").read_text() == "requeue 7_2\n"


def test_the_ray_recipe(tmp_path, monkeypatch):
    """Tasks are made with their options and gathered in order; what a task does is the Python recipe."""
    ray = types.ModuleType("ray")
    asked = []

    def remote(**options):
        asked.append(options)
        return lambda function: types.SimpleNamespace(remote=lambda *given: lambda: function(*given))

    ray.remote, ray.init, ray.get = remote, lambda **options: asked.append(options), lambda tasks: [t() for t in tasks]
    recipe = types.ModuleType("edit")
    recipe.edit = lambda *words: {"words": words}
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "edit", recipe)
    names = {}
    exec(compile(RECIPES["ray_edits.py"], "ray_edits.py", "exec"), names)
    assert names["edit_all"]([["a=1"], ["a=2", "b=3"]]) == [{"words": ("a=1",)}, {"words": ("a=2", "b=3")}]
    assert asked == [{"num_gpus": 1, "max_retries": 0}, {"ignore_reinit_error": True}]
