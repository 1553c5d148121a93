"""What kind of edit the words of two prompts ask for."""

import pytest

from threestudio_ssd.guidance import edit_kind
from threestudio_ssd.toyworld.edits import EDITS, toy_edit


@pytest.mark.parametrize("name", EDITS)
def test_toy_edits_are_told_apart_by_their_captions(name):
    edit = toy_edit(name)
    kinds = {"color": "recolor", "time": "relight", "ground": "material"}
    assert edit_kind(*edit.prompts) == kinds.get(edit.attribute, "other")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a photo of a garden by day", "a photo of a garden at night"),
        ("a house", "a house in bright sunlight"),
        ("", "turn it to sunset"),
    ],
)
def test_relightings(source, target):
    assert edit_kind(source, target) == "relight"


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
    assert edit_kind(source, target) == "recolor"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a photo of a car on grass", "a photo of a car on snow"),
        ("a stone statue", "a statue of white marble"),
        ("", "turn the grass into sand"),
    ],
)
def test_changes_of_material(source, target):
    assert edit_kind(source, target) == "material"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a red ball", "a red ball"),
        ("a ball", "a ball on snow"),
        ("a ball on grass", "a snowman on sand"),
        ("a red ball", "a red cube"),
        ("a red ball", "a blue cube"),
        ("a ball", "a striped blue ball"),
        ("grass by day", "snow at night"),
        ("a man", "a clown with a red nose"),
        ("a ball", "a light ball"),
        ("", "make it a blue cube"),
        ("a photo of a red ball", "make it blue"),
    ],
)
def test_other_edits(source, target):
    """A caption whose words are gone is another scene; an instruction is read without the caption."""
    assert edit_kind(source, target) == "other"
