"""The installed program: a wheel in an environment of its own, shipped configs by name, the Dockerfile, parts alone."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from threestudio import apps
from threestudio.errors import ConfigError
from threestudio.plugins import REPOSITORY
from threestudio.utils.config_files import config_file, read_file

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "THREESTUDIO_PLUGIN_FOLDERS")
}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(*command: str | Path, folder: Path, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=ENVIRONMENT | more, capture_output=True, text=True, timeout=900,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["ssd-gs", "ssd-gs.yaml", "configs/ssd-gs.yaml"])
def test_a_shipped_config_is_found_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file(name) == REPOSITORY / "configs" / "ssd-gs.yaml"
    assert read_file(name).system_type == "ssd-gs-system"
    assert config_file("smoke/edit") == REPOSITORY / "configs" / "smoke" / "edit.yaml"


def test_a_file_here_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ssd-gs.yaml").write_text("tag: mine\n")
    assert read_file("ssd-gs.yaml") == {"tag": "mine"}
    (tmp_path / "ssd-gs").mkdir()
    assert config_file("ssd-gs") == REPOSITORY / "configs" / "ssd-gs.yaml"


def test_a_misspelt_name_is_told_the_right_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match="the config ssd-sg does not exist; expected a YAML file; did you mean ssd-gs"
    ):
        read_file("ssd-sg")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of what is checked in, or would be."""
    folder = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "-co", "--exclude-standard", folder=REPOSITORY).stdout.splitlines()
    for name in listed:
        if not name.startswith(("tests/", "docs/")) and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-q"]
    done = run(*command, "-w", folder / "wheels", folder, folder=folder)
    assert done.returncode == 0, done.stderr
    return next((folder / "wheels").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a fresh environment with the wheel in it; its requirements are those of these tests."""
    folder = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder).returncode == 0
    packages = next(folder.glob("lib*/python*/site-packages"))
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q"]
    done = run(*command, "--no-deps", "--no-index", wheel, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_holds_every_file(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    listed = run("git", "ls-files", "threestudio", "custom", "configs", "data", folder=REPOSITORY).stdout.splitlines()
    places = {"custom/threestudio-ssd/": "threestudio_ssd/", "threestudio/": "threestudio/"}
    places |= {name: f"threestudio_ssd/shipped/{name}" for name in ("configs/", "data/")}
    for name in listed:
        top = next(top for top in places if name.startswith(top))
        assert places[top] + name.removeprefix(top) in held, f"{name} is not in the wheel"
    assert not [name for name in held if "__pycache__" in name or name.startswith(("tests", "custom"))]


@pytest.mark.slow
def test_the_wheel_edits_a_scene_from_any_folder(installed, tmp_path):
    """Config, scene, model and CLIP are the shipped ones; the result lies below the current folder."""
    done = run(installed / "ssd-edit", "--config", "ssd-gs", "steps=1", "tag=first", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = [line for line in done.stdout.splitlines() if line.endswith("edited.ply")]
    assert (tmp_path / result).is_file()
    report = json.loads((tmp_path / result).with_name("report.json").read_text())
    assert report["steps"] == 1
    helped = run(installed / "ssd-edit", "--help", folder=tmp_path)
    assert helped.stdout.startswith("usage: ssd-edit --config X")
    assert apps.list_apps() in helped.stdout


@pytest.mark.slow
def test_the_wheel_is_imported(installed, tmp_path):
    code = (
        "import threestudio_ssd as ssd\n"
        "from threestudio_ssd.early import data_folder\n"
        "edit = ssd.edit_scene('data/toy-scene/scene.ply', source='a red ball', target='a blue ball',\n"
        "    cameras='data/toy-scene/cameras.json', mask=ssd.Mask(box=[-1, -1, 0, 1, 1, 2]), steps=1)\n"
        "print(ssd.__file__, (data_folder() / 'tiny-ldm' / 'model_index.json').is_file(), type(edit).__name__)\n"
    )
    done = run(installed / "python", "-c", code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    file, is_there, kind = done.stdout.split()[-3:]
    assert Path(file).is_relative_to(installed.parent)
    assert (is_there, kind) == ("True", "SceneRun")


ALONE = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Refusing())
import threestudio
import torch
from threestudio_ssd.rasterizers import rasterization
means = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
K = torch.tensor([[[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]])
images, alphas, _ = rasterization(means, torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.1), torch.ones(1),
                                  torch.ones(1, 3), torch.eye(4)[None], K, 32, 32)
images[..., :16, 0].sum().backward()
print(float(alphas.max()), float(means.grad[0, 0]))
"""
"""Renders one Gaussian and moves it, in an environment without some packages."""


def test_the_rasteriser_needs_neither_lightning_nor_diffusers(tmp_path):
    refused = "pytorch_lightning,lightning,lightning_fabric,torchmetrics,diffusers,transformers,accelerate,omegaconf"
    done = run(sys.executable, "-c", ALONE, refused, folder=tmp_path, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    alpha, gradient = map(float, done.stdout.split()[-2:])
    assert 0.9 < alpha < 1
    assert gradient < 0  # moved to the right, it leaves the left half


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction of the Dockerfile."""
    lines = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_copies_what_is_there_and_what_a_wheel_needs():
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    copied = [source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]]
    for source in copied:
        assert (REPOSITORY / source).exists(), f"COPY {source}: there is no such file"
        assert not [pattern for pattern in ignored if fnmatch.fnmatch(source, pattern)], f"{source} is ignored"
    assert {"pyproject.toml", "setup.py", "threestudio", "custom", "configs", "data"} <= set(copied)
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "LICENSE" in copied


def test_the_dockerfile_installs_the_project_s_own_requirements():
    dynamic = PROJECT["tool"]["setuptools"]["dynamic"]
    wanted = dynamic["dependencies"]["file"] + dynamic["optional-dependencies"]["extra"]["file"]
    (line,) = [rest for name, rest in instructions() if name == "RUN" and "-r " in rest]
    assert re.findall(r"-r (\S+)", line) == wanted
    copies = " ".join(rest for name, rest in instructions() if name == "COPY")
    assert all(name in copies.split() for name in wanted)


def test_the_dockerfile_starts_the_installed_program_and_reads_its_arguments():
    known = {"ARG", "FROM", "RUN", "ENV", "WORKDIR", "COPY", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} == known
    (entry,) = [json.loads(rest) for name, rest in instructions() if name == "ENTRYPOINT"]
    assert entry[0] in PROJECT["project"]["scripts"]
    for rest in (rest for name, rest in instructions() if name == "ARG"):
        assert f"${{{rest.partition('=')[0]}}}" in DOCKERFILE
