"""Relative paths: looked for in the current folder, beside the config, and in the repository; the result lands here."""

import shutil

import pytest

from tests.edit_world import REPOSITORY, write_world
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.places import place_of, with_files
from threestudio_ssd.pretrained import is_toy_scene

MINE = """\
include: configs/smoke/edit.yaml
scene: scene.ply
cameras: cameras.json
model: model
source_prompt: a photo of a red ball
target_prompt: a photo of a blue ball
tag: mine
mask: {any_of: [{picture: masks}]}
system: {clip_model: clip}
data: {video_frames: 0}
trainer: {accelerator: cpu, enable_progress_bar: false}
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder that commands run in."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_an_edit_runs_from_another_folder_with_what_lies_beside_its_config(tmp_path, elsewhere):
    (tmp_path / "project").mkdir()
    write_world(tmp_path / "project")
    (tmp_path / "project" / "mine.yaml").write_text(MINE)
    assert main(["--config", "../project/mine.yaml"]) == 0
    assert (elsewhere / "outputs" / "smoke" / "mine" / "save" / "edited.ply").is_file()
    assert [path.name for path in elsewhere.iterdir()] == ["outputs"]


def test_shipped_configs_find_their_files_from_anywhere(elsewhere):
    """By a path of the repository, or in full; what belongs to the embedded scene still counts."""
    for config in ("configs/smoke/edit.yaml", REPOSITORY / "configs" / "smoke" / "edit.yaml"):
        cfg = load_config(config, cli_args=["timestamp=now"])
        assert cfg.system.scene == "data/toy-scene/scene.ply"
        assert cfg.system.mask.picture == "data/toy-scene/masks"
    assert is_toy_scene("data/toy-scene/scene.ply")
    given = load_config("configs/ssd-gs.yaml", cli_args=[f"scene={REPOSITORY / 'data/toy-scene/scene.ply'}"])
    assert given.data.cameras == "data/toy-scene/cameras.json"


def test_what_lies_here_goes_before_what_lies_beside_the_config(tmp_path, elsewhere):
    project = tmp_path / "project"
    project.mkdir()
    for name in ("a.ply", "b.ply", "face"):
        (project / name).touch()
    (elsewhere / "a.ply").touch()
    keys = {"system": {"scene": "a.ply", "mask": {"saved": "b.ply", "text": "face", "any_of": [{"saved": "b.ply"}]}}}
    assert with_files(keys, [project]) == {
        "system": {
            "scene": "a.ply",
            "mask": {"saved": f"{project}/b.ply", "text": "face", "any_of": [{"saved": f"{project}/b.ply"}]},
        }
    }
    assert place_of("b.ply", [project]) == project / "b.ply"
    assert place_of("none.ply", [project]) is None
    shutil.copy(REPOSITORY / "README.md", elsewhere)
    assert place_of("README.md", []) is not None
    assert not place_of("README.md", []).is_absolute()


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("scene=no.ply", "no.ply does not exist"),
        ("cameras=no.json", "cameras no.json do not exist"),
        ("mask.saved=no.npy", "mask.saved no.npy does not exist"),
        ("mask.picture=no", "mask.picture no does not exist"),
    ],
)
def test_what_is_nowhere_is_answered_with_the_places_that_were_looked_in(tmp_path, elsewhere, capsys, word, what):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "mine.yaml").write_text("include: configs/smoke/edit.yaml\n")
    assert main(["--config", str(tmp_path / "project" / "mine.yaml"), "tag=mine", word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {what}")
    assert line.endswith(f"; it was looked for in {elsewhere}, {tmp_path / 'project'}, {REPOSITORY}")
