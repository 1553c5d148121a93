"""Whether two prompts differ in colours alone."""

import pytest

from threestudio_ssd.guidance import is_recolouring
from threestudio_ssd.toyworld.edits import EDITS, toy_edit


@pytest.mark.parametrize("name", EDITS)
def test_toy_edits_of_the_color_are_recolourings_and_no_others(name):
    edit = toy_edit(name)
    assert is_recolouring(*edit.prompts) == (edit.attribute == "color")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a photo of a red ball on grass", "a photo of a dark blue ball on grass"),
        ("a statue", "a golden statue"),
        ("a photo of a statue", "a photo of a statue, painted in bright Yellow"),
        ("", "make it blue"),
        ("", "turn the crimson and gold"),
    ],
)
def test_recolourings(source, target):
    assert is_recolouring(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a red ball", "a red ball"),
        ("a red ball", "a red cube"),
        ("a red ball", "a blue cube"),
        ("a ball", "a striped blue ball"),
        ("grass by day", "grass at night"),
        ("a man", "a clown with a red nose"),
        ("a ball", "a light ball"),
        ("", "make it a blue cube"),
        ("a photo of a red ball", "make it blue"),
    ],
)
def test_other_edits(source, target):
    """A caption whose words are gone is another scene; an instruction is read without the caption."""
    assert not is_recolouring(source, target)
