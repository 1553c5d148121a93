"""Attention taps: the right layers, in the right shape, attached to the graph."""

import pytest
import torch

from threestudio_ssd.diffusion import AttentionTaps, random_backbone
from threestudio_ssd.errors import ConfigError


def test_maps_are_the_up_path_self_attention_outputs(generator):
    backbone = random_backbone()
    expected = []
    names = [name for name, _ in backbone.network.named_modules() if name.endswith("attn1") and "up_" in name]
    for name in names:
        layer = backbone.network.get_submodule(name)
        layer.register_forward_hook(lambda module, args, output: expected.append(output))
    latents = torch.randn(2, 4, 8, 6, generator=generator)
    with AttentionTaps(backbone) as taps:
        backbone.predict_noise(latents, 300, backbone.encode_prompts(["", "a"]))
    assert taps.layer_names == names
    assert [tuple(each.shape) for each in taps.calls[0]] == [(2, 32, 2, 2)] * 2 + [(2, 24, 4, 3)] * 2
    for found, tokens in zip(taps.calls[0], expected, strict=True):
        assert torch.equal(found.flatten(2).mT, tokens)


def test_gradients_reach_the_latents_only_when_asked(generator):
    backbone = random_backbone()
    latents = torch.randn(1, 4, 8, 8, generator=generator, requires_grad=True)
    prompts = backbone.encode_prompts(["a"])
    with AttentionTaps(backbone) as taps:
        backbone.predict_noise(latents, 300, prompts)
        backbone.predict_noise(latents, 300, prompts, with_grad=True)
    source, target = taps.calls
    assert not any(each.requires_grad for each in source)
    sum(each.square().sum() for each in target).backward()
    assert latents.grad.abs().max() > 0


def test_nothing_is_kept_after_the_context(generator):
    backbone = random_backbone()
    with AttentionTaps(backbone) as taps:
        pass
    backbone.predict_noise(torch.randn(1, 4, 8, 8, generator=generator), 300, backbone.encode_prompts(["a"]))
    assert taps.calls == []


def test_odd_latents_keep_their_shape(generator):
    backbone = random_backbone()
    with AttentionTaps(backbone) as taps:
        latents = torch.randn(1, 4, 7, 10, generator=generator)
        backbone.predict_noise(latents, 300, backbone.encode_prompts(["a"]))
    assert {tuple(each.shape[-2:]) for each in taps.calls[0]} == {(2, 3), (4, 5)}


def test_a_transformer_has_no_up_path():
    with pytest.raises(ConfigError) as caught:
        AttentionTaps(random_backbone(kind="sd3"))
    assert str(caught.value) == (
        "model 'random-sd3-flow' has no U-Net to take self-attention features from; "
        "expected a model with a U-Net (SD 1.x, 2.x, XL, InstructPix2Pix); "
        "choose such a model, or switch the contrastive term off"
    )
