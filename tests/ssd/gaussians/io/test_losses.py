"""What a conversion loses is named, and measured in the file that was written."""

import pytest

from threestudio_ssd.gaussians.io import convert_gaussians
from threestudio_ssd.gaussians.io.losses import losses

from .truth import GOLDEN

pytestmark = pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")
EXPECTED = {
    ".ply": [],
    ".splat": ["view-dependent colour of degree 1 to 3 is lost", "precision is lost: turns by"],
    ".compressed.ply": ["the order of sh3.ply is lost", "precision is lost: positions by"],
    ".spz": ["precision is lost: positions by"],
}


@pytest.mark.parametrize("suffix", EXPECTED)
def test_what_a_format_loses_is_named(suffix, tmp_path):
    path = tmp_path / f"scene{suffix}"
    texts = losses(convert_gaussians(GOLDEN / "sh3.ply", path), GOLDEN / "sh3.ply", path)
    assert [text[: len(start)] for text, start in zip(texts, EXPECTED[suffix], strict=True)] == EXPECTED[suffix]


def test_columns_of_another_program_are_named(tmp_path):
    source, path = GOLDEN / "quirk_extra_uchar.ply", tmp_path / "scene.spz"
    texts = losses(convert_gaussians(source, path), source, path)
    assert texts[0].startswith("the columns ")
    assert texts[0].endswith(" are lost")
