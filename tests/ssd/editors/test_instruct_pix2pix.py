"""InstructPix2Pix: three predictions in one call, the original as condition, the equation by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.edit_world import SIZE
from tests.ssd.editors.loaded import check_edit, loaded
from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.diffusion.sampling import guided_by_image
from threestudio_ssd.editors import EditorKeys, EditorPrompts, InstructPix2Pix, build_editor, load_editor
from threestudio_ssd.errors import ConfigError

FEW = InstructPix2Pix(num_steps=3, min_steps=3)


def test_what_every_editor_does(views):
    editor = loaded(FEW, in_channels=8)
    edited = check_edit(editor, views)
    assert not torch.equal(edited, editor(replace(views, round=1)))


def test_one_call_of_three_predictions_a_step(views):
    editor = loaded(FEW, in_channels=8)
    counters = editor.network.counters
    editor(views)
    assert (counters.network_calls, counters.rows) == (3, 3 * 3 * len(views))


def test_the_condition_is_the_view_before_any_edit(whole):
    editor = loaded(FEW, in_channels=8)
    edited = editor(whole)
    assert not torch.allclose(edited, editor(replace(whole, sources=1 - whole.sources)), atol=1e-4)


def test_guidance_by_image_and_text_by_hand(generator):
    """eps(0) + s_I (eps(I) - eps(0)) + s_T (eps(I, T) - eps(I)), each prediction made on its own."""
    backbone = random_backbone(in_channels=8)
    prompt, null = (backbone.encode_prompts([text]) for text in ("make it blue", ""))
    latents, condition = torch.randn(2, 1, 4, 8, 8, generator=generator)

    def alone(embeds, image):
        return backbone.predict_noise(latents, 500, embeds, image)

    eps_both, eps_image, eps_null = alone(prompt, condition), alone(null, condition), alone(null, None)
    expected = eps_null + 1.5 * (eps_image - eps_null) + 7.5 * (eps_both - eps_image)
    predict = guided_by_image(backbone, prompt, null, condition, 7.5, 1.5)
    torch.testing.assert_close(predict(latents, 500), expected, atol=1e-4, rtol=1e-4)
    rescaled = guided_by_image(backbone, prompt, null, condition, 7.5, 1.5, rescale=1.0)(latents, 500)
    torch.testing.assert_close(rescaled.std(), eps_both.std(), atol=1e-4, rtol=1e-4)


def test_no_guidance_is_the_model_itself(generator):
    backbone = random_backbone(in_channels=8)
    prompt, null = (backbone.encode_prompts([text]) for text in ("make it blue", ""))
    latents, condition = torch.randn(2, 1, 4, 8, 8, generator=generator)
    predict = guided_by_image(backbone, prompt, null, condition, 1.0, 1.0)
    expected = backbone.predict_noise(latents, 500, prompt, condition)
    torch.testing.assert_close(predict(latents, 500), expected, atol=1e-5, rtol=1e-5)


def test_at_image_scale_1_the_prediction_without_the_image_is_not_evaluated(views):
    """eps(I) + s_T (eps(I, T) - eps(I)): what the equation comes to, in two rows a view."""
    editor = loaded(replace(FEW, image_scale=1.0), in_channels=8)
    nearly = loaded(replace(FEW, image_scale=1.0 + 1e-6), in_channels=8)
    torch.testing.assert_close(editor(views), nearly(views), atol=1e-3, rtol=1e-3)
    assert (editor.network.counters.rows, nearly.network.counters.rows) == (3 * 2 * len(views), 3 * 3 * len(views))


def test_the_small_form_is_told_what_should_be_there(views):
    editor = build_editor({"name": "ip2p-small"})
    assert not editor.reads_instruction
    check_edit(loaded(replace(editor, num_steps=2, min_steps=2), in_channels=8), views)


def test_it_wants_a_model_that_reads_an_image(world, tmp_path):
    prompts, device = EditorPrompts("", "make it blue"), torch.device("cpu")
    keys = EditorKeys(model=str(world / "model"), editor={"name": "ip2p"})
    with pytest.raises(ConfigError, match=r"reads no image beside its prompt; .*set system.editing.editor.name=sdedit"):
        load_editor(keys, device, prompts)
    save_components(random_components(in_channels=8, image_size=SIZE), tmp_path / "ip2p")
    keys.model = str(tmp_path / "ip2p")
    assert load_editor(keys, device, prompts).facts["editor"] == "InstructPix2Pix"
    keys.editor = {"name": "sdedit"}
    with pytest.raises(ConfigError, match=r"is an InstructPix2Pix model; .*set system.editing.editor.name=ip2p"):
        load_editor(keys, device, prompts)


def test_the_published_constants():
    editor = build_editor({"name": "ip2p"})
    assert vars(editor) | {"guidance_rescale": 0.0} == vars(editor)
    assert (editor.text_scale, editor.image_scale, editor.num_steps) == (7.5, 1.5, 20)
    assert editor.reads_instruction
    assert not build_editor({"name": "sdedit"}).reads_instruction


def test_every_strength_takes_all_steps_as_published(views):
    editor = loaded(InstructPix2Pix(), in_channels=8)
    editor(replace(views, strength=0.1))
    assert editor.network.counters.network_calls == 20
    share = loaded(InstructPix2Pix(min_steps=1), in_channels=8)
    share(replace(views, strength=0.1))
    assert share.network.counters.network_calls == 2
    assert SimpleNamespace(**vars(share.editor)).min_steps == 1
