"""Which rasteriser a machine gets, and what it is told: every case, with packages that are not there or break."""

import importlib
import sys
import types

import pytest

from threestudio_ssd.rasterizers import backends
from threestudio_ssd.rasterizers.backends import choose_backend, gsplat_problem


@pytest.mark.parametrize(
    ("device_type", "problem", "has_mpsplat", "backend", "words"),
    [
        ("cpu", None, True, "cpu", []),
        ("cuda", None, False, "gsplat", []),
        ("cuda", "no nvcc", False, "cpu", ["(no nvcc)", "networks run on the GPU", "conda-forge cuda-nvcc", "wheel"]),
        ("mps", None, True, "mpsplat", []),
        ("mps", None, False, "cpu", ["rendered on the CPU", "pip install mpsplat"]),
        ("xpu", None, False, "cpu", []),
    ],
)
def test_every_choice_and_its_line(device_type, problem, has_mpsplat, backend, words):
    chosen, line = choose_backend(device_type, problem, has_mpsplat)
    assert chosen == backend
    assert bool(line) == bool(words)
    assert all(word in line for word in words)
    assert "\n" not in line


@pytest.fixture
def gsplat(monkeypatch):
    """Puts a module in the place of gsplat's kernels."""

    def put(**names):
        kernels = types.ModuleType("gsplat.cuda._backend")
        vars(kernels).update(names)
        for name in ("gsplat", "gsplat.cuda"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, kernels.__name__, kernels)

    return put


def test_kernels_that_are_there(gsplat):
    gsplat(_C=object())
    assert gsplat_problem() is None


def test_kernels_without_a_compiler(gsplat):
    gsplat(_C=None)
    assert gsplat_problem() == "it found no CUDA compiler (nvcc) to build its kernels"


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ImportError("No module named 'gsplat'"), "it cannot be imported: No module named 'gsplat'"),
        (RuntimeError("Unsupported gpu architecture 'compute_120'\nmore"),
         "its kernels cannot be built: Unsupported gpu architecture 'compute_120'"),
    ],
)  # fmt: skip
def test_a_package_that_raises(monkeypatch, error, problem):
    def fail(name):
        raise error

    monkeypatch.setattr(backends.importlib, "import_module", fail)
    assert gsplat_problem() == problem


def test_the_line_is_said_once(monkeypatch):
    said = []
    monkeypatch.setattr(backends, "gsplat_problem", lambda: "no nvcc")
    monkeypatch.setattr(backends.logger, "warning", lambda form, *values: said.append(form % values))
    backends.backend_of.cache_clear()
    assert [backends.backend_of("cuda") for _ in range(3)] == ["cpu"] * 3
    backends.backend_of.cache_clear()
    assert len(said) == 1
    assert said[0].startswith("gsplat cannot render on this GPU (no nvcc): ")


def test_the_cpu_asks_for_no_package():
    assert importlib.import_module("threestudio_ssd.rasterizers.backends").backend_of("cpu") == "cpu"
