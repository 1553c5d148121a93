"""The view adapter: nothing until it is trained; then views of a group see each other, and no other group."""

from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import save_file

from threestudio_ssd.cameras.rays import ObjectViews
from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.diffusion.view_adapter import ViewAdapter, ViewGeometry, drawn_together, load_view_adapter
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.views import capture_views

NUM_VIEWS, SIZE = 3, (8, 8)


@pytest.fixture(scope="module")
def unet():
    return random_backbone().network


@pytest.fixture(scope="module")
def geometry():
    groups = [ObjectViews.of(capture_views(NUM_VIEWS, 64, seed)) for seed in (1, 2)]
    return ViewGeometry(groups)


def stirred(unet):
    """An adapter whose last weights are not zero any more."""
    torch.manual_seed(0)
    adapter = ViewAdapter(unet)
    for parameter in adapter.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return adapter.requires_grad_(False)


def attend_own(layer, hidden):
    return layer.attend(hidden, hidden)


def predicted(unet, adapter, geometry, latents):
    together = drawn_together(unet, adapter, geometry, attend_own) if adapter else nullcontext()
    embeds = torch.randn(1, 5, unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(2))
    with together, torch.no_grad():
        return unet(latents, torch.tensor(500), embeds.expand(len(latents), -1, -1)).sample


@pytest.fixture
def latents(generator):
    return torch.randn(2 * NUM_VIEWS, 4, *SIZE, generator=generator)


def test_a_new_adapter_changes_nothing(unet, geometry, latents):
    alone = predicted(unet, None, geometry, latents)
    torch.testing.assert_close(predicted(unet, ViewAdapter(unet), geometry, latents), alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(predicted(unet, stirred(unet), geometry, latents), alone, atol=1e-3)


def test_the_network_is_afterwards_as_it_was(unet, geometry, latents):
    processors = dict(unet.attn_processors)
    alone = predicted(unet, None, None, latents)
    predicted(unet, stirred(unet), geometry, latents)
    assert dict(unet.attn_processors) == processors
    assert not unet._forward_pre_hooks
    assert torch.equal(predicted(unet, None, None, latents), alone)


def test_views_see_each_other_and_no_other_group(unet, geometry, latents):
    adapter, changed = stirred(unet), latents.clone()
    changed[0] += 1
    pair = (predicted(unet, adapter, geometry, each) for each in (changed, latents))
    difference = torch.stack(list(pair)).diff(dim=0)[0].abs().amax((1, 2, 3))
    assert (difference[:NUM_VIEWS] > 1e-4).all()
    torch.testing.assert_close(difference[NUM_VIEWS:], torch.zeros(NUM_VIEWS), atol=1e-5, rtol=0)


def test_each_prompt_has_views_of_its_own(unet, geometry, latents):
    """A batch with the same views under two prompts is two groups in one place."""
    one = ViewGeometry(geometry.groups[:1])
    both = torch.cat([latents[:NUM_VIEWS]] * 2)
    given = predicted(unet, stirred(unet), one, both)
    torch.testing.assert_close(given[:NUM_VIEWS], given[NUM_VIEWS:], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        given[:NUM_VIEWS], predicted(unet, stirred(unet), one, latents[:NUM_VIEWS]), atol=1e-4, rtol=1e-3
    )


def test_the_order_of_views_does_not_matter(unet, geometry, latents):
    adapter, order = stirred(unet), torch.tensor([2, 0, 1])
    views = geometry.groups[0]
    turned = ObjectViews(views.cameras[order], views.frame)
    given = predicted(unet, adapter, ViewGeometry([views]), latents[:NUM_VIEWS])
    moved = predicted(unet, adapter, ViewGeometry([turned]), latents[:NUM_VIEWS][order])
    torch.testing.assert_close(moved, given[order], atol=1e-4, rtol=1e-3)


def test_what_was_saved_is_loaded(unet, tmp_path):
    adapter = stirred(unet)
    save_file(adapter.state_dict(), tmp_path / "a.safetensors")
    again = load_view_adapter(tmp_path / "a.safetensors", unet, "key")
    for name, value in adapter.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_a_file_that_is_none_or_does_not_fit_is_one_line(unet, tmp_path):
    with pytest.raises(ConfigError, match=r"key is .*a\.safetensors, and there is no such file"):
        load_view_adapter(tmp_path / "a.safetensors", unet, "key")
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_view_adapter(tmp_path / "a.safetensors", unet, "key")
    save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="does not fit the network"):
        load_view_adapter(tmp_path / "a.safetensors", unet, "key")
