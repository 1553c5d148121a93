"""A small study: two edits of a toy scene, each by three methods, as runs leave them."""

import json
from pathlib import Path

import pytest

from tests.edit_world import toy_cameras, toy_parts
from threestudio.run import main
from threestudio_ssd.gaussians.io import save_gaussians
from threestudio_ssd.toyworld.splat import save_cameras_json

METHODS = ("ssd", "dds", "folder")
WORDS = ("a blue ball", 'a "green" <b>ball</b>')
SMALL = ("size=32", "views=3")


def write_runs(folder: Path) -> list[Path]:
    """Run folders, two edits of each method, each of another colour."""
    gaussians, is_object = toy_parts(keep_every=12)
    save_gaussians(gaussians, folder / "scene.ply")
    save_cameras_json(toy_cameras(6, 32), folder / "cameras.json")
    runs = []
    for place, method in enumerate(METHODS):
        for number, words in enumerate(WORDS):
            run = folder / f"run-{number}-{place}"
            sh0 = gaussians.sh0.clone()
            sh0[is_object] = sh0[is_object].roll(number + 1, -1) * (1 - 0.2 * place)
            (run / "configs").mkdir(parents=True)
            save_gaussians(gaussians.replace(sh0=sh0), run / "save" / "edited.ply")
            named = {"editor": "folder"} if method == "folder" else {"score": {"name": method}}
            report = {"scene": str(folder / "scene.ply"), "target_prompt": words, **named}
            (run / "save" / "report.json").write_text(json.dumps(report))
            (run / "configs" / "parsed.yaml").write_text(
                f"data: {{cameras: {folder / 'cameras.json'}, batch_size: 4}}\n"
            )
            runs.append(run)
    return runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> list[Path]:
    return write_runs(tmp_path_factory.mktemp("runs"))


def make(runs, out: Path, *words: str) -> int:
    return main(["--run", "study", *map(str, runs), f"out={out}", *SMALL, *words])


@pytest.fixture(scope="session")
def study(runs, tmp_path_factory) -> Path:
    """The folder of a study of all runs."""
    out = tmp_path_factory.mktemp("study") / "study"
    assert make(runs, out) == 0
    return out


@pytest.fixture(scope="session")
def key(study) -> dict:
    return json.loads((study / "study-key.json").read_text())
