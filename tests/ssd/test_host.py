"""The plugin in a host that is not ours: a stub with upstream's semantics, started as upstream's launcher starts it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError

import threestudio_ssd
from threestudio.plugins import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd import host
from threestudio_ssd.edits.growth import GrowthConfig
from threestudio_ssd.edits.scene_edit import SceneEditConfig
from threestudio_ssd.gaussians.io import load_gaussians

STUB = REPOSITORY / "tests" / "upstream"
PLUGIN = REPOSITORY / "custom" / "threestudio-ssd"
CONFIG = Path("custom", "threestudio-ssd", "upstream.yaml")
STEPS = 3
SMALL = ("data.num_train_views=4", "data.num_test_views=2", "data.test_size=48", "use_timestamp=false")
RUN = Path("outputs", "ssd-gs", "toy")
LAUNCHER_WORDS = {
    "name", "description", "tag", "seed", "use_timestamp", "timestamp", "exp_root_dir", "resume", "data_type", "data",
    "system_type", "system", "trainer", "checkpoint",
}  # fmt: skip
"""What upstream's ExperimentConfig takes from a file."""


def start(checkout: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess:
    """Python in a checkout, with the stub as ``threestudio``."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("THREESTUDIO_")}
    env |= {"PYTHONPATH": str(STUB), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **variables}
    command = [sys.executable, "-W", "ignore", *argv]
    return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)


def launch(checkout: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess:
    return start(checkout, str(STUB / "launch.py"), *argv, **variables)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A folder whose ``custom`` has the plugin, as a link."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "custom").mkdir()
    (folder / "custom" / "threestudio-ssd").symlink_to(PLUGIN, target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def trained(checkout) -> Path:
    """The run folder of a short edit of the toy scene."""
    words = (f"system.num_steps={STEPS}", "system.preview_every=2", "data.video_frames=3", "tag=toy", *SMALL)
    done = launch(checkout, "--config", str(CONFIG), "--train", *words)
    assert done.returncode == 0, done.stderr
    assert f"The result is {RUN / 'save' / 'edited.ply'}" in done.stderr + done.stdout
    return checkout / RUN


def test_an_edit_is_made_tested_and_written(trained):
    save = trained / "save"
    before, after = load_gaussians(REPOSITORY / "data/toy-scene/scene.ply"), load_gaussians(save / "edited.ply")
    is_selected = torch.from_numpy(np.load(save / "selection.npy"))
    assert 0 < int(is_selected.sum()) < len(before) == len(after)
    for name, values in before.parameters().items():
        assert torch.equal(values[~is_selected], after.parameters()[name][~is_selected]), name
    assert not torch.equal(before.sh0[is_selected], after.sh0[is_selected])
    report = json.loads((save / "report.json").read_text())
    assert (report["steps"], report["num_selected"]) == (STEPS, int(is_selected.sum()))
    assert report["clip_model"] == "tiny-clip"
    assert report["target_prompt"] in (save / "report.html").read_text()
    assert cv2.imread(str(save / "grid.png")).shape == (96, 96, 3)
    assert cv2.imread(str(save / "progress/step-00002.png")).shape[2] == 3
    video = cv2.VideoCapture(str(save / "before_after.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 3


def test_it_is_the_edit_that_our_own_host_makes(trained, tmp_path):
    words = (f"steps={STEPS}", "data.video_frames=0", "tag=toy", *SMALL, f"exp_root_dir={tmp_path}")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "launch.py", "--config", "configs/ssd-gs.yaml", *words]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours = tmp_path / "ssd-gs" / "toy" / "save" / "edited.ply"
    assert ours.read_bytes() == (trained / "save" / "edited.ply").read_bytes()


@pytest.mark.parametrize(("stage", "written"), [("export", "edited.ply"), ("validate", "progress/step-00003.png")])
def test_a_checkpoint_is_exported_and_looked_at(trained, checkout, tmp_path, stage, written):
    again = ("--config", str(RUN / "configs/parsed.yaml"), f"--{stage}", f"resume={RUN / 'ckpts/last.ckpt'}")
    done = launch(checkout, *again, f"exp_root_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    made = tmp_path / "ssd-gs" / "toy" / "save" / written
    assert made.stat().st_size > 0
    if stage == "export":
        assert made.read_bytes() == (trained / "save" / "edited.ply").read_bytes()


def test_an_edit_that_changes_nothing_ends_with_its_exit_code(checkout):
    words = ("system.num_steps=1", "system.color_way=0.0001", "data.video_frames=0", "tag=nothing", *SMALL)
    done = launch(checkout, "--config", str(CONFIG), "--train", *words)
    assert done.returncode == 3, done.stderr
    assert "The edit changed nothing visible" in done.stderr + done.stdout


def test_a_plugin_without_its_data_says_so_in_one_line(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PLUGIN, tmp_path / "custom" / "threestudio-ssd", ignore=ignored)
    words = ("--config", str(CONFIG), "--train", "tag=lost", *SMALL)
    done = launch(tmp_path, *words)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "threestudio-ssd.errors.ConfigError: data/toy-scene/cameras.json is not here, and there is no shipped data "
        f"in {tmp_path / 'data'}; expected the folder data of the threestudio-ssd repository; "
        "set THREESTUDIO_SSD_DATA to that folder"
    )
    # with its data the cameras are found, and the run goes on to a scene that is not there
    done = launch(tmp_path, *words, "system.scene=data/no.ply", THREESTUDIO_SSD_DATA=str(REPOSITORY / "data"))
    assert "data/no.ply does not exist" in done.stderr.strip().splitlines()[-1]


def test_every_name_is_registered_but_those_of_our_launcher(checkout):
    code = (
        f"import sys; sys.path.insert(0, {str(STUB)!r}); import launch, threestudio; launch.load_custom_modules()\n"
        "sys.stdout.write(' '.join(threestudio.__modules__))"
    )
    done = start(checkout, "-c", code)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        "gs-views", "gs-photos", "ssd-picture", "ssd-gs-system", "gs-add-system", "gs-delete-system", "gs-fit-system",
        "nerf-fit-system", "latent-nerf-fit-system", "idu-gs-system", "ssd-image-system", "editor-image-system",
        "ssd-guidance", "ssd-prompt-processor",
    }  # fmt: skip
    assert set(done.stdout.split()) < set(threestudio_ssd.PLACES)


def test_the_config_has_the_words_of_upstreams_launcher_only():
    tree = yaml.safe_load((REPOSITORY / CONFIG).read_text())
    assert set(tree) <= LAUNCHER_WORDS


def test_the_config_is_our_default_edit(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    theirs, ours = (complete(load_config(path)) for path in (CONFIG, "configs/ssd-gs.yaml"))
    for group in ("data", "system"):
        assert OmegaConf.to_container(theirs[group]) == OmegaConf.to_container(ours[group])
    assert theirs.trainer.max_steps == ours.trainer.max_steps


def test_groups_given_in_part_keep_their_defaults(monkeypatch):
    monkeypatch.setattr(host, "IS_UPSTREAM", True)
    keys = OmegaConf.create({"mask": {"text": "a chair"}, "growth": {"kind": "hierarchical"}, "num_steps": 7})
    read = host.completed(SceneEditConfig, keys)
    assert (read.mask.text, read.mask.threshold, read.growth.kind, read.growth.every) == (
        "a chair", 0.5, "hierarchical", GrowthConfig().every,
    )  # fmt: skip
    assert set(read) == set(keys)
    assert read.num_steps == 7
    assert len(host.completed(SceneEditConfig, None)) == 0
    with pytest.raises(ConfigKeyError, match="Key 'txt' not in 'MaskConfig'"):
        host.completed(SceneEditConfig, OmegaConf.create({"mask": {"txt": "a chair"}}))


def test_our_own_host_gets_the_keys_as_they_are():
    keys = OmegaConf.create({"mask": {"text": "a chair"}})
    assert host.completed(SceneEditConfig, keys) is keys


@pytest.mark.parametrize("is_upstream", [True, False])
def test_a_schedule_may_be_a_plain_list(monkeypatch, is_upstream):
    monkeypatch.setattr(host, "IS_UPSTREAM", is_upstream)
    assert [host.scheduled([0, 1.0, 0.0, 4], step) for step in (0, 1, 8)] == [1.0, 0.75, 0.0]
    assert host.scheduled(0.5, 3) == 0.5
