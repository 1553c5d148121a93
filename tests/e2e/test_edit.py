"""launch.py as a user runs it, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.edit_world import REPOSITORY, SMOKE, overrides, vertex_rows


def launch(*words: str, folder: Path) -> subprocess.CompletedProcess:
    """Run the command in a folder of its own, with the repository's script."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "launch.py"), *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def test_an_edit_from_the_command_line(world, tmp_path):
    """The default stages, every file, and the result's path as the last line of standard output."""
    words = ["--config", str(SMOKE), *overrides(world, Path("out"), tag="red_to_blue")]
    done = launch(*words, folder=tmp_path)
    run = Path("out/smoke/red_to_blue")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(run / "save" / "edited.ply")
    folder = tmp_path / run
    files = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.parts[-2] not in ("progress",)
    }
    wanted = {
        "save/edited.ply", "save/before_after.mp4", "save/grid.png", "save/report.json", "save/report.html",
        "ckpts/last.ckpt", "configs/parsed.yaml",
    }  # fmt: skip
    assert wanted <= files
    assert any(name.startswith("tb_logs/") for name in files)
    assert any(name.startswith("csv_logs/") for name in files)
    assert not [name for name in files if ".tmp" in name]
    assert json.loads((folder / "save" / "report.json").read_text())["steps"] == 4
    before, after = vertex_rows(world / "scene.ply"), vertex_rows(folder / "save" / "edited.ply")
    assert len(before) == len(after)
    assert 0 < sum(a != b for a, b in zip(before, after, strict=True)) < len(before)


def test_a_missing_scene_from_the_command_line(world, tmp_path):
    """The same through a real process: one line on standard error, exit code 2, nothing left behind."""
    done = launch("--config", str(SMOKE), *overrides(world, Path("out"), scene="no/such.ply"), folder=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert "no/such.ply" in lines[0]
    assert not (tmp_path / "out").exists()
