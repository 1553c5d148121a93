"""Edits with known outcome: what each changes, and that the list covers every kind."""

import pytest

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.edits import EDITS, toy_edit


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_changes_one_attribute_or_none(name):
    edit = toy_edit(name)
    different = [a for a, b in zip(edit.source, edit.target, strict=True) if a != b]
    assert len(different) == (0 if edit.attribute == "null" else 1)
    assert edit.has_mask == (edit.attribute in ("object", "color", "pattern"))


def test_the_list_covers_every_kind_of_edit():
    kinds = [toy_edit(name).attribute for name in EDITS]
    assert len(EDITS) >= 24
    assert all(kinds.count(kind) >= 3 for kind in ("color", "pattern", "object", "ground", "time", "null"))
    assert len({toy_edit(name) for name in EDITS}) == len(EDITS)
    with pytest.raises(ConfigError, match="there is no toy edit 'blue-bal'"):
        toy_edit("blue-bal")
