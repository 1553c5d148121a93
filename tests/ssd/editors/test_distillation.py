"""Score distillation as an editor: the steps of an image edit, from where the views are now."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import threestudio.errors
from threestudio_ssd.editors import Distillation, EditorKeys, EditorPrompts, build_editor, load_editor
from threestudio_ssd.editors.distillation import draw_seeds
from threestudio_ssd.edits.image_edit import ImageBatchEdit
from threestudio_ssd.errors import ConfigError

PROMPTS = EditorPrompts("a ball", "a cube")


@pytest.fixture
def load(world):
    def of(words=(), **options):
        keys = EditorKeys(model=str(world / "model"), editor={"name": "distillation", "num_steps": 5, **options})
        return load_editor(keys, torch.device("cpu"), PROMPTS, words)

    return of


def test_outside_the_masks_stands_what_is_kept(load, views):
    editor = load(score="dds", learning_rate=0.5)
    edited, outside = editor(views), (views.masks == 0).expand_as(views.images)
    assert torch.equal(edited[outside], views.kept[outside])
    assert not torch.allclose(edited[~outside], views.images[~outside], atol=1e-3)
    torch.testing.assert_close(edited[1:2], editor(views[slice(1, 2)]), atol=1e-4, rtol=0)
    assert torch.equal(edited, editor(views))
    assert not torch.equal(edited, editor(replace(views, round=1)))


def test_it_is_the_image_edit(load, whole):
    """From the sources, at strength 1, the result is that of the steps of an edit of images."""
    views = replace(whole, images=whole.sources, strength=1.0)
    editor = load(score="ssd", num_steps=3, last_rate=1.0)
    network = editor.network
    cfg = SimpleNamespace(
        num_steps=3, parametrisation="latent", latent_steps="sgd", learning_rate=0.02, lambda_detail=0.0
    )
    edit = ImageBatchEdit(views.sources, network.guidance, network.embeddings(views), cfg, draw_seeds(views))
    optimizers = edit.make_optimizers()
    for step in range(3):
        edit.step(step, optimizers)
    assert torch.equal(editor(views), edit.result())


def test_strength_is_the_share_of_the_steps(load, whole):
    editor = load(num_steps=10, score="sds")
    for strength, steps in ((1.0, 10), (0.4, 4), (0.01, 1)):
        editor.network.counters.reset()
        editor(replace(whole, strength=strength))
        assert editor.network.counters.network_calls == steps


@pytest.mark.parametrize("options", [{"parametrisation": "pixel"}, {"latent_steps": "adam"}, {"score": "vsd"}])
def test_other_forms(load, whole, options):
    editor = load(num_steps=2, **options)
    edited = editor(whole)
    assert edited.isfinite().all()
    assert torch.equal(edited, editor(whole))


def test_keys_that_cannot_be_used():
    def refused(message, error=ConfigError, **options):
        with pytest.raises(error, match=message):
            build_editor({"name": "distillation", **options})

    refused(r"system.editing.editor.guidance.score.name is 'sssd'.*did you mean ssd", score="sssd")
    refused(r"guidance_scal is not a field of the score dds", score="dds", guidance={"score": {"guidance_scal": 2}})
    refused(r"name the score with system.editing.editor.score=NAME", guidance={"score": {"name": "dds"}})
    refused(r"editor.num_steps is 0; expected at least 1; set system.editing.editor.num_steps=200", num_steps=0)
    unknown = r"unknown key system.editing.editor.guidance.schedul;.*did you mean system.*schedule"
    refused(unknown, threestudio.errors.ConfigError, guidance={"schedul": "uniform"})
    refused(r"editor.guidance.dtype is a key of the model", guidance={"dtype": "fp16"})
    refused(r"editor.guidance is 3; expected keys and values", guidance=3)


def test_an_instruction_is_read_where_the_score_is_for_one():
    assert Distillation(score="ssd-ip2p").reads_instruction
    assert not Distillation().reads_instruction
