"""Shared by all tests: shapes and types are checked while they run, the plugins are loaded, and common fixtures."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import random
import sys
import types
from unittest import mock

# The checker looks at random items of a container. It keeps the function that it draws them with; numbers of its own
# leave those of a run as they are without it.
with mock.patch.object(random, "getrandbits", random.Random(0).getrandbits):
    from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# The hook wants a name to import, and a whole number should do where a float is asked for.
checker = types.ModuleType("shape_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
install_import_hook(["threestudio", "threestudio_ssd", "toy_fit"], "shape_checker.check")

import pytest

import threestudio

threestudio.load_plugins()


def pytest_configure(config):
    """A warning of ours is an error, unless a test says that it expects it."""
    config.addinivalue_line("filterwarnings", "error::threestudio_ssd.gaussians.io.SceneFormatWarning")


@pytest.fixture(autouse=True)
def _deterministic():
    """Every test starts from the same random numbers and leaves no forced device behind."""
    import torch

    from threestudio.utils.misc import force_device, use_device

    torch.manual_seed(0)
    yield
    force_device(None)
    use_device(None, is_usual=True)


@pytest.fixture
def device():
    """The device tests run on."""
    import torch

    return torch.device("cpu")


@pytest.fixture
def generator():
    """A seeded torch generator on the CPU."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, by Playwright's ``Browser``; skips where none is installed."""
    import shutil

    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--use-gl=swiftshader"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser):
    """A new page of the browser, 1280 x 800, that fails the test for what its scripts throw."""
    opened = browser.new_page(viewport={"width": 1280, "height": 800})
    thrown = []
    opened.on("pageerror", lambda error: thrown.append(error))
    yield opened
    opened.close()
    assert not thrown, thrown
