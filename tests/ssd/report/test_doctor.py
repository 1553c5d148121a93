"""The doctor: what is fine here, and what it says of machines that lack something; each fault with what mends it."""

import os
import platform
import subprocess
import sys
import types

import psutil
import pytest
import torch

from tests.host.test_startup import run_python
from threestudio.plugins import REPOSITORY
from threestudio.run import main
from threestudio_ssd.report import doctor


def test_this_machine_is_well_and_the_answer_is_quick(tmp_path, monkeypatch):
    seconds, done = run_python("launch.py", "--run", "doctor", f"out={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert seconds < 10
    lines = done.stdout.splitlines()
    named = [line.split()[1] for line in lines[:-1]]
    assert named[:9] == ["python", "system", "packages", "torch", "gsplat", "rasteriser", "memory", "disk", "models"]
    assert named[9] == "hub"
    assert named[-1] == "video"
    assert not [line for line in lines if line.startswith("BAD")]
    assert lines[-1] == "Edits can run: make edit"
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_ends_with_exit_code_2(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--run", "doctor", f"out={tmp_path / 'file' / 'runs'}"]) == 2
    out = capsys.readouterr().out
    assert f"BAD disk         {tmp_path / 'file'} cannot be written; to mend it: start in another folder" in out
    assert out.endswith("No edit can run before what is BAD is mended.\n")


def test_the_rasteriser_renders_once_it_is_compiled(monkeypatch):
    monkeypatch.setattr("threestudio_ssd.rasterizers.compiling.is_compiled", lambda: True)
    assert str(doctor.rasteriser()) == "OK  rasteriser   renders on the CPU"
    nothing = types.SimpleNamespace(render=lambda *given: (torch.zeros(1, 32, 32, 3), None))
    monkeypatch.setitem(sys.modules, "threestudio_ssd.rendering", nothing)
    assert doctor.rasteriser().verdict == "BAD"


def test_packages_that_are_missing_or_of_another_version_are_named(monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: {"torch": "1.13.1", "scipy": None}.get(name, "999"))
    said = str(doctor.packages())
    assert said.startswith(
        "BAD packages     torch is 1.13.1, not ==2.13.0, numpy is 999, not <3,>=2.0, scipy is missing"
    )
    assert said.endswith(f"to mend it: {doctor.SETUP}")
    monkeypatch.setattr(doctor, "version_of", lambda name: None)
    (extra, *_) = doctor.extras()
    assert str(extra) == "--  zstandard    not installed: .spz files of version 4; to mend it: pip install zstandard"


def test_a_package_that_breaks_on_import_is_a_line_and_not_a_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor.guarded(doctor.torch_and_devices)
    assert (found.verdict, found.fix) == ("BAD", doctor.SETUP)
    assert found.text.startswith("ModuleNotFoundError: import of torch halted")


@pytest.fixture
def with_cuda(monkeypatch):
    """A machine whose torch sees a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    card = types.SimpleNamespace(name="RTX 4090", total_memory=24e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: card)


def test_gpus_are_named(with_cuda, monkeypatch):
    assert doctor.torch_and_devices().text.endswith("CUDA: RTX 4090 (24 GB)")
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert doctor.torch_and_devices().text.endswith("ROCm: RTX 4090 (24 GB)")


def test_a_kernel_that_cannot_be_built_or_run_is_told(with_cuda, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert str(doctor.gsplat_kernel()) == (
        "BAD gsplat       its kernel is not built, and there is no nvcc to build it; "
        "to mend it: install the CUDA toolkit (nvcc), or a gsplat wheel made for this torch"
    )
    monkeypatch.setattr("shutil.which", lambda name: "nvcc")
    assert "the first render builds it" in str(doctor.gsplat_kernel())
    (tmp_path / "py311" / "gsplat_cuda").mkdir(parents=True)
    (tmp_path / "py311" / "gsplat_cuda" / "gsplat_cuda.so").write_text("")
    found = doctor.gsplat_kernel()  # this torch has no CUDA, so the render raises
    assert (found.verdict, found.text[:27]) == ("BAD", "its kernel does not run (To")


def test_the_hub_and_its_offline_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert doctor.hub().text == f"{tmp_path} holds no model; others are downloaded when a config names them"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (doctor.hub().verdict, doctor.hub().fix) == ("--", "unset HF_HUB_OFFLINE to download models")
    (tmp_path / "models--openai--clip-vit-large-patch14").mkdir()
    assert doctor.hub().verdict == "OK"
    assert "holds openai/clip-vit-large-patch14; HF_HUB_OFFLINE is set" in doctor.hub().text


def test_little_memory_and_other_systems_are_noted(monkeypatch):
    held = types.SimpleNamespace(available=0.5e9, total=8e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: held)
    assert doctor.memory().text == "0.5 of 8.0 GB are free: the default edit needs 0.85 GB"
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert doctor.system().verdict == "--"
    monkeypatch.setattr(doctor, "LEAST_PYTHON", (3, 99))
    assert doctor.python().verdict == "BAD"


def test_models_that_were_not_fetched_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("THREESTUDIO_SSD_DATA", str(tmp_path))
    assert str(doctor.embedded_models()) == (
        f"BAD models       {tmp_path} lacks tiny-ldm, tiny-ip2p, tiny-clip, tiny-seg; "
        "to mend it: git checkout -- data, or make models"
    )


def test_the_doctor_needs_no_torch_to_be_loaded():
    code = "import sys, threestudio as host; host.load_plugins(); host.find('app-doctor')\n"
    code += "assert 'torch' not in sys.modules"
    env = {name: value for name, value in os.environ.items() if name != "THREESTUDIO_PLUGIN_FOLDERS"}  # tests' plugins
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
