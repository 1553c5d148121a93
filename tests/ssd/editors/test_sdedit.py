"""SDEdit: it changes what it may, keeps the rest, and gives each view what it would get alone."""

import pytest
import torch

from tests.ssd.editors.loaded import loaded
from threestudio_ssd.editors import LoadedEditor, SDEdit, Views, build_editor
from threestudio_ssd.errors import ConfigError


@pytest.fixture
def editor():
    return loaded(SDEdit(num_steps=4, min_steps=2), ["from above"])


def test_outside_the_masks_stands_what_is_kept(editor, views):
    edited, outside = editor(views), (views.masks == 0).expand_as(views.images)
    assert torch.equal(edited[outside], views.kept[outside])
    assert not torch.equal(edited[~outside], views.images[~outside])


def test_a_view_comes_out_as_it_would_alone(editor, views):
    torch.testing.assert_close(editor(views)[1:2], editor(views[slice(1, 2)]), atol=1e-4, rtol=0)


def test_seed_and_round_decide_the_noise(editor, views):
    edited = editor(views)
    assert torch.equal(edited, editor(views))
    later = LoadedEditor(editor.editor, editor.network)(Views(**{**vars(views), "round": 1}))
    assert not torch.equal(edited, later)


def test_words_of_a_view_are_part_of_its_prompt(editor, views):
    without = editor(views)
    added = editor(Views(**{**vars(views), "words": ["", "from above", ""]}))
    torch.testing.assert_close(added[0], without[0], atol=1e-4, rtol=0)
    assert not torch.allclose(added[1], without[1], atol=1e-4)


def test_little_strength_changes_little(editor, views):
    free = Views(views.images, views.images, views.seeds)
    change = [float((editor(Views(**{**vars(free), "strength": s})) - free.images).abs().mean()) for s in (0.02, 0.98)]
    assert change[0] < change[1]


def test_an_editor_by_name():
    assert build_editor({"name": "sdedit", "guidance_scale": 5}) == SDEdit(guidance_scale=5.0)
    with pytest.raises(ConfigError, match=r"system\.editing\.editor\.name is 'sdedti'.*did you mean sdedit"):
        build_editor({"name": "sdedti"})
    with pytest.raises(ConfigError, match=r"guidance_scal is not a field of the editor sdedit.*did you mean"):
        build_editor({"name": "sdedit", "guidance_scal": 5})
    with pytest.raises(ConfigError, match=r"min_steps is 0; expected at least 1; set .*min_steps=4"):
        build_editor({"name": "sdedit", "min_steps": 0})
