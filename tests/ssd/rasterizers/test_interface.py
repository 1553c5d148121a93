"""The call is gsplat's: parameters, defaults, where it goes, and what it refuses."""

import importlib
import inspect
import subprocess
import sys
import types

import pytest
import torch

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.rasterizers import backends, interface, rasterization

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


@pytest.mark.parametrize("package", ["gsplat", "mpsplat"])
def test_tensors_of_a_gpu_go_to_its_package_with_every_argument(monkeypatch, package):
    calls = []
    fake = types.ModuleType(package)
    fake.rasterization = lambda **given: calls.append(given) or (1, 2, {})
    monkeypatch.setitem(sys.modules, package, fake)
    monkeypatch.setattr(interface, "backend_of", lambda device_type: package)
    backends.gpu_rasterization.cache_clear()
    given = arguments(tile_size=8, absgrad=True, near_plane=0.5)
    interface.rasterization.__wrapped__(**given) if hasattr(rasterization, "__wrapped__") else rasterization(**given)
    backends.gpu_rasterization.cache_clear()
    names = set(inspect.signature(rasterization).parameters) - {"rolling_shutter"}  # its default is left to the package
    assert set(calls[0]) == names
    assert (calls[0]["tile_size"], calls[0]["absgrad"], calls[0]["near_plane"]) == (8, True, 0.5)
    assert calls[0]["means"] is given["means"]


@pytest.mark.slow
def test_importing_and_rendering_on_the_cpu_leaves_gsplat_alone():
    code = (
        "import sys, threestudio; threestudio.load_plugins();"
        "import threestudio_ssd.rasterizers.cpu; assert 'gsplat' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
