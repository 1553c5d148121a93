"""The examples of docs/plugin-api.md: the files as they stand there, run by the commands below them."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.edit_world import REPOSITORY

PAGE = (REPOSITORY / "docs" / "plugin-api.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```\w+\n# MY/(\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^THREESTUDIO_PLUGIN_FOLDERS=MY python launch\.py (.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def launch(tmp_path):
    """Runs one of the page's commands with the page's files, and where its runs go; returns what it printed."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run(command, *more):
        words = command.replace("\\\n", " ").replace("MY/", f"{tmp_path}/").split()
        done = subprocess.run(
            [sys.executable, "launch.py", *words, *more], cwd=REPOSITORY, capture_output=True, text=True, check=False,
            env=os.environ | {"THREESTUDIO_PLUGIN_FOLDERS": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_page_has_a_score_a_system_and_their_commands():
    assert set(FILES) == {"my-score/__init__.py", "my-brighten/__init__.py", "brighten.yaml"}
    assert len(COMMANDS) == 3


def test_help_is_given_with_the_folder(launch):
    assert "convert" in launch(COMMANDS[0])


def test_the_score_edits(launch, tmp_path):
    out = launch(COMMANDS[1], f"exp_root_dir={tmp_path / 'out'}", "data.size=64", "use_timestamp=false")
    (report,) = (tmp_path / "out").rglob("report.json")
    assert json.loads(report.read_text())["score"]["name"] == "my-score"
    assert out.splitlines()[-1].endswith("edited.png")


def test_the_system_trains_reports_and_exports(launch, tmp_path):
    out = launch(COMMANDS[2], f"exp_root_dir={tmp_path / 'out'}")
    assert "to a mean of 0.7" in out
    (report,) = (tmp_path / "out").rglob("report.json")
    facts = json.loads(report.read_text())
    assert facts["steps"] == 60
    assert facts["mean"] == pytest.approx(0.7, abs=0.02)
    assert out.splitlines()[-1].endswith("edited.png")
