"""Editors on random models, and what holds for all of them."""

import torch

from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.editors import EditorPrompts, LoadedEditor, PromptedBackbone

PROMPTS = EditorPrompts("a ball", "a cube")


def loaded(editor, words=(), **model):
    """An editor on a random model."""
    return LoadedEditor(editor, PromptedBackbone(random_backbone(**model), PROMPTS, words))


def check_edit(editor, views):
    """What holds for every editor with noise of its own: masks, batches, seeds and rounds."""
    edited, outside = editor(views), (views.masks == 0).expand_as(views.images)
    assert torch.equal(edited[outside], views.kept[outside])
    assert not torch.allclose(edited[~outside], views.images[~outside], atol=0.01)
    assert edited.min() >= 0
    assert edited.max() <= 1
    torch.testing.assert_close(edited[1:2], editor(views[slice(1, 2)]), atol=1e-4, rtol=0)
    assert torch.equal(edited, editor(views))
    return edited
