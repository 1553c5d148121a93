"""Controls: attention replaced is attention seen, blends and masks leave the outside alone, all is put back."""

from dataclasses import replace

import pytest
import torch

from tests.ssd.editors.branches.conftest import PROMPTS, TWINS, network_of
from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.editors import CONTROLS, EDITORS, BranchedBackbone, EditorPrompts, LoadedEditor
from threestudio_ssd.editors.branches.control import Controlling, last_of, self_attention_layers
from threestudio_ssd.editors.branches.maps import AttentionMaps, nearest_size
from threestudio_ssd.editors.branches.setting import Rows, Setting
from threestudio_ssd.editors.consistency import DGE
from threestudio_ssd.errors import ConfigError

FEW = {"num_steps": 5}


def controlling_of(editor, network, views):
    """The class of the editor's control during an edit."""
    source, target = network.source(views), network.target(views)
    setting = Setting(network, views, [999, 500, 0], 7.5, source, target, is_source_guided=False)
    return type(editor.control_of().begin(setting, Rows.of(False)))


def watched(editor, network, views, monkeypatch):
    """Runs an edit; what each layer had in each step: (step, layer's name) -> queries, keys, values, given, layer."""
    kind, kept = controlling_of(editor, network, views), {}
    mix = kind.mix

    def watch(controlling, layer, q, k, v):
        given = mix(controlling, layer, q, k, v)
        kept[controlling.step, layer.name] = q, k, v, given, layer
        return given

    monkeypatch.setattr(kind, "mix", watch)
    with torch.no_grad():
        editor.branches(network, views)
    return kept


def direct(control, **options):
    """Direct inversion: rows are source, target null, target."""
    return EDITORS[f"direct-{control}"](**FEW, control=options)


@pytest.mark.parametrize("twin", TWINS)
def test_prompt_to_prompt_sees_the_sources_self_attention(twin, picture, monkeypatch):
    seen = watched(direct("p2p", has_blend=False), network_of(**TWINS[twin]), picture, monkeypatch)
    for (step, name), (q, k, v, given, layer) in seen.items():
        if ".attn1" not in name:
            continue
        maps = layer.weights(q, k)
        place = 0 if step < 3 else 2
        torch.testing.assert_close(given[2], maps[place] @ v[2], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(given[1], maps[1] @ v[1], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("twin", TWINS)
def test_prompt_to_prompt_sees_the_sources_words(twin, picture, monkeypatch):
    """refine: common words have the source's columns, the new one its own, weighed by two; then all their own."""
    network = network_of(**TWINS[twin])
    seen = watched(direct("p2p", has_blend=False), network, picture, monkeypatch)
    source, target = network.words_of(picture)[0]
    common, new = source.columns_of("ball"), target.columns_of("blue")
    for (step, name), (q, k, v, given, layer) in seen.items():
        if ".attn2" not in name:
            continue
        maps = layer.weights(q, k)
        expected = maps[2].clone()
        if step < 2:
            expected[..., target.columns_of("ball")] = maps[0][..., common]
            expected[..., target.columns_of("a")] = maps[0][..., source.columns_of("a")]
            expected[..., new] = 2 * maps[2][..., new]
            expected[..., 0] = maps[0][..., 0]
            ends = torch.arange(target.end, target.length)
            expected[..., ends] = maps[0][..., (ends + source.end - target.end).clamp(max=source.length - 1)]
        torch.testing.assert_close(given[2], expected @ v[2], atol=1e-4, rtol=1e-3)


def test_plug_and_play_sees_the_sources_queries_and_features(network, picture, monkeypatch):
    seen = watched(direct("pnp"), network, picture, monkeypatch)
    chosen = ("up_blocks.0.attentions.2", "up_blocks.1.", "up_blocks.2.")  # from the 2nd of 6 residual blocks of 2 each
    for (step, name), (q, k, v, given, layer) in seen.items():
        own = layer.weights(q, k)
        is_taken = ".attn1" in name and step < 2 and name.startswith(chosen)
        for row in (1, 2):
            torch.testing.assert_close(given[row], own[0 if is_taken else row] @ v[row], atol=1e-4, rtol=1e-3)


def test_plug_and_play_injects_the_features_of_one_block_for_a_while(network, picture, monkeypatch):
    """The last convolution of block 2 of 6, as 4 of 12; its input is added after."""
    editor, taken = direct("pnp"), []
    kind = controlling_of(editor, network, picture)
    replace_features = kind._features

    def watch(controlling, output):
        given = replace_features(controlling, output)
        taken.append((controlling.step, output.clone(), given))
        return given

    monkeypatch.setattr(kind, "_features", watch)
    outputs = []
    block = network.backbone.network.up_blocks[1].resnets[0]
    handle = block.register_forward_hook(lambda module, args, output: outputs.append((args[0].clone(), output.clone())))
    with torch.no_grad():
        editor.branches(network, picture)
    handle.remove()
    assert [step for step, *_ in taken] == list(range(5))
    for (step, output, given), (entering, leaving) in zip(taken, outputs[-5:], strict=True):
        states = output.unflatten(0, (3, -1))
        expected = torch.cat([states[0]] * 3) if step < 4 else output
        assert torch.equal(given, expected)
        torch.testing.assert_close(leaving, block.conv_shortcut(entering) + expected)


def test_masactrl_asks_the_source(network, picture, monkeypatch):
    seen = watched(direct("masactrl", steps_from=0.4), network, picture, monkeypatch)
    later = last_of(self_attention_layers(network.backbone.network), 10 / 16)
    for (step, name), (q, k, v, given, layer) in seen.items():
        is_taken = step >= 2 and name in later
        for row in (1, 2):
            place = 0 if is_taken else row
            expected = layer.weights(q[row], k[place]) @ v[place]
            torch.testing.assert_close(given[row], expected, atol=1e-4, rtol=1e-3)


def test_masactrl_tells_the_source_nothing(network, picture, monkeypatch):
    told, predict = [], network.backbone.predict_noise

    def listen(latents, timestep, prompts, **more):
        told.append(prompts)
        return predict(latents, timestep, prompts, **more)

    monkeypatch.setattr(network.backbone, "predict_noise", listen)
    with torch.no_grad():
        direct("masactrl").branches(network, picture)
    assert torch.equal(told[0].hidden, network.empty.expand(2).hidden)
    assert torch.equal(told[-1].hidden[:2], network.empty.expand(2).hidden)


def test_layers_follow_from_the_architecture():
    """Shares of what SD 1.x has: 16 layers of self-attention, 12 residual blocks on the way up."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    layers = self_attention_layers(unet)
    assert (len(layers), layers[6].partition(".")[0]) == (16, "mid_block")
    masa, pnp = CONTROLS["masactrl"](), CONTROLS["pnp"]()
    assert len(last_of(layers, masa.layers_from)) == 6
    assert round(50 * masa.steps_from) == 4
    places = [(up, index) for up, block in enumerate(unet.up_blocks) for index in range(len(block.resnets))]
    assert places[round(pnp.layers_from * len(places))] == (1, 1)
    assert (pnp.attention_steps, pnp.feature_steps) == (0.5, 0.8)


def test_constants_of_prompt_to_prompt_are_those_published():
    usual, style = EDITORS["ddim-p2p"]().control_of(), EDITORS["style-p2p"]().control_of()
    assert (usual.cross_steps, usual.self_steps, usual.reweight, usual.has_blend) == (0.4, 0.6, 2.0, True)
    assert (style.cross_steps, style.self_steps, style.null_self_steps, style.has_blend) == (0.6, 0.6, 0.0, False)
    assert (usual.blend_from, usual.blend_threshold, usual.blend_cells, usual.self_cells) == (0.2, 0.3, 16, 32)


def test_a_blend_leaves_the_outside_to_the_source(network, picture, monkeypatch):
    """Words seen in the upper left cell alone: it and its neighbours are the target's, the rest the source's."""

    def in_a_corner(maps, cells):
        height, width = maps.size_nearest(cells)
        seen = torch.zeros(2, 2, height * width, 77)
        seen[:, :, 0] = 1.0
        return [seen]

    monkeypatch.setattr(AttentionMaps, "nearest", in_a_corner)
    with torch.no_grad():
        source, target = direct("p2p").branches(network, picture)
        everywhere = direct("p2p", blend_from=1.0).branches(network, picture)[1]
    is_inside = torch.zeros(8, 8, dtype=torch.bool)
    is_inside[:4, :4] = True  # two of the four cells that the level has along a side
    assert torch.equal(source[..., ~is_inside], target[..., ~is_inside])
    assert (source - target)[..., is_inside].abs().mean() > 0.01
    assert not torch.equal(source[..., ~is_inside], everywhere[..., ~is_inside])


def test_where_words_are_seen_is_the_level_nearest_to_sixteen_cells():
    assert nearest_size([(64, 64), (32, 32), (16, 16)], 16) == (16, 16)
    assert nearest_size([(64, 96), (32, 48), (8, 12)], 16) == (8, 12)
    assert nearest_size([(8, 8), (4, 4)], 16) == (8, 8)
    assert nearest_size([(24, 24), (8, 8)], 16) == (24, 24)


def test_without_blended_words_nothing_is_blended_or_weighed(picture):
    plain = network_of(PROMPTS._replace(blended=""))
    with torch.no_grad():
        _, one = direct("p2p").branches(plain, picture)
        _, other = direct("p2p", has_blend=False, reweight=1.0).branches(plain, picture)
        _, named = direct("p2p", blended="red blue").branches(plain, picture)
        _, given = direct("p2p").branches(network_of(), picture)
    assert torch.equal(one, other)
    assert torch.equal(named, given)
    assert not torch.equal(one, named)


@pytest.mark.parametrize("name", ["ddim-p2p", "direct-pnp", "direct-masactrl"])
def test_masks_hold_at_every_step(name, network, masked):
    """What is kept stands in the latents outside the mask when the edit ends, whatever it is."""
    editor = EDITORS[name](**FEW)
    free = network.is_free(masked)
    for views in (masked, replace(masked, kept=1 - masked.images)):
        with torch.no_grad():
            _, target = editor.branches(network, views)
            kept = network.backbone.encode(views.surroundings)
        outside = ~free.expand_as(target)
        torch.testing.assert_close(target[outside], kept[outside], atol=1e-5, rtol=0)
        assert not torch.allclose(target[~outside], kept[~outside], atol=1e-2)
        edited = LoadedEditor(editor, network)(views)
        pixels = (views.masks == 0).expand_as(edited)
        assert torch.equal(edited[pixels], views.surroundings[pixels])


def test_views_that_were_edited_before_are_where_the_target_starts(network, picture):
    editor = direct("masactrl")
    again = replace(picture, images=1 - picture.images, strength=0.4)
    with torch.no_grad():
        (source, first), (same, second) = (
            editor.branches(network, views) for views in (replace(picture, strength=0.4), again)
        )
    assert torch.equal(source, same)
    assert (first - second).abs().mean() > 0.05


@pytest.mark.parametrize("name", ["ddim-p2p", "ddim-pnp", "ddim-masactrl", "null-text-p2p", "style-p2p"])
def test_the_network_is_put_back_after_an_edit_and_after_an_exception(name, network, picture, monkeypatch):
    unet = network.backbone.network
    before = dict(unet.attn_processors)
    options = {"inner_steps": 1} if name in ("null-text-p2p", "style-p2p") else {}
    editor = EDITORS[name](num_steps=2, inversion=options)

    def is_as_it_was():
        hooks = [module for module in unet.modules() if module._forward_hooks or module._forward_pre_hooks]
        return dict(unet.attn_processors) == before and not hooks

    LoadedEditor(editor, network)(picture)
    assert is_as_it_was()

    def stop(*_):
        raise RuntimeError("stopped")

    monkeypatch.setattr(Controlling, "blended", stop)
    monkeypatch.setattr("threestudio_ssd.editors.branches.prompt_to_prompt.ByPrompt.blended", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        LoadedEditor(editor, network)(picture)
    assert is_as_it_was()


def test_words_that_do_not_suit_are_refused_before_any_work():
    network = network_of(EditorPrompts("a red ball", "a very blue ball"))
    with pytest.raises(ConfigError, match=r"control\.mapping is replace, and the prompts have 3 and 4 words"):
        CONTROLS["p2p"](mapping="replace").check_prompts(network)
    with pytest.raises(ConfigError, match=r'control\.blended is "red green", and "a very blue ball" has no word green'):
        CONTROLS["p2p"](blended="red green").check_prompts(network)
    CONTROLS["p2p"](blended="red blue").check_prompts(network)
    with pytest.raises(ConfigError, match=r"control\.blended is one; expected two words, or none"):
        direct("p2p", blended="one").check("system.editing.editor")


def test_a_model_without_such_layers_is_refused(picture):
    with pytest.raises(ConfigError, match="has no U-Net whose attention can be changed"):
        BranchedBackbone(random_backbone(kind="sd3"), PROMPTS)
    with pytest.raises(ConfigError, match="no U-Net of ours whose attention is free"):
        DGE().load(network_of(), torch.device("cpu"))
