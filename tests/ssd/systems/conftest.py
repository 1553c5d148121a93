"""One small world for all tests of this folder."""

from pathlib import Path

import pytest

from tests.edit_world import write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """Scene, cameras, masks, model and CLIP in one folder; tests that damage something copy it first."""
    return write_world(tmp_path_factory.mktemp("world"))
