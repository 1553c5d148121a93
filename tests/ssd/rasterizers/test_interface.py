"""The call is gsplat's: parameters, defaults, where it goes, and what it refuses."""

import importlib
import inspect
import subprocess
import sys

import pytest
import torch

from threestudio_ssd.errors import ConfigError, MissingPackageError
from threestudio_ssd.rasterizers import gsplat_cuda, interface, rasterization

from .scenes import random_scene


def arguments(**changes):
    scene = random_scene(20, 16, 16)
    return {**scene.parameters(), "Ks": scene.Ks, "width": 16, "height": 16, **changes}


def test_parameters_and_defaults_are_those_of_gsplat():
    theirs = inspect.signature(importlib.import_module("gsplat").rasterization).parameters
    ours = inspect.signature(rasterization).parameters
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind
        assert ours[name].default == parameter.default, name


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("distributed", True), ("camera_model", "ftheta"), ("with_ut", True), ("with_eval3d", True),
        ("radial_coeffs", torch.zeros(1, 4)), ("tangential_coeffs", torch.zeros(1, 2)),
        ("thin_prism_coeffs", torch.zeros(1, 4)), ("ftheta_coeffs", object()), ("rolling_shutter", "TOP"),
        ("viewmats_rs", torch.eye(4)[None]),
    ],
)  # fmt: skip
def test_options_of_cuda_alone_are_refused_by_name(option, value):
    with pytest.raises(ConfigError, match=f"rasterization: {option}.* is not available on the CPU") as raised:
        rasterization(**arguments(**{option: value}))
    assert option in raised.value.fix


class OnCuda(torch.Tensor):
    """A CPU tensor that says it is on CUDA."""

    is_cuda = True


def test_cuda_tensors_go_to_gsplat_with_every_argument(monkeypatch):
    calls = []
    monkeypatch.setattr(interface, "gsplat_rasterization", lambda: lambda **given: calls.append(given) or (1, 2, {}))
    given = arguments(tile_size=8, absgrad=True, near_plane=0.5)
    given["means"] = given["means"].as_subclass(OnCuda)
    interface.rasterization.__wrapped__(**given) if hasattr(rasterization, "__wrapped__") else rasterization(**given)
    names = set(inspect.signature(rasterization).parameters) - {"rolling_shutter"}  # its default is left to gsplat
    assert set(calls[0]) == names
    assert (calls[0]["tile_size"], calls[0]["absgrad"], calls[0]["near_plane"]) == (8, True, 0.5)
    assert calls[0]["means"] is given["means"]


def test_a_missing_gsplat_is_named(monkeypatch):
    def fail(name):
        raise ImportError(name)

    gsplat_cuda.gsplat_rasterization.cache_clear()
    monkeypatch.setattr(gsplat_cuda.importlib, "import_module", fail)
    with pytest.raises(MissingPackageError, match="needs the package gsplat") as raised:
        gsplat_cuda.gsplat_rasterization()
    assert "pip install gsplat" in raised.value.fix


@pytest.mark.slow
def test_importing_and_rendering_on_the_cpu_leaves_gsplat_alone():
    code = (
        "import sys, threestudio; threestudio.load_plugins();"
        "import threestudio_ssd.rasterizers.cpu; assert 'gsplat' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
