"""Fields of latents: what they show, the layer that refines it, their files, one line where they cannot be shown."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.field_world import around, ball_field
from tests.latent_world import latent_ball, latent_space
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.fields import LatentField, Refiner, field_as_gaussians, load_field, save_field
from threestudio_ssd.files import sha256
from threestudio_ssd.gaussians.sh import rgbs_from_sh0
from threestudio_ssd.rendering import coverage, render
from threestudio_ssd.scenes import load_scene

BLACK = torch.zeros(3)


def mixed(latents):
    """A decoder of a kind: the first three channels, in [0, 1], four pixels a cell."""
    return torch.sigmoid(latents[:, :3]).repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_a_new_refiner_changes_nothing_and_can_learn(generator):
    refiner, latents = Refiner.drawn(4, 16, generator), torch.randn(2, 4, 6, 5, generator=generator)
    shown = refiner(latents)
    assert torch.equal(shown, latents)
    (shown - 1).square().sum().backward()
    assert refiner.conv_out.weight.grad.abs().max() > 0


def test_what_it_adds_at_a_cell_depends_on_the_whole_map():
    refiner, latents = latent_space().refiner, torch.zeros(1, 4, 12, 12)
    other = latents.clone()
    other[..., 0, 0] = 3.0
    assert (refiner(other) - refiner(latents))[..., 11, 11].abs().max() > 1e-6  # beyond all convolutions


def test_the_paper_s_layer_begins_with_the_decoder_s_weights(generator):
    vae = random_components(image_size=32).vae
    refiner = Refiner.of_decoder(4, vae, generator)
    assert torch.equal(refiner.conv_in.weight, vae.decoder.conv_in.weight)
    for name, weight in vae.decoder.mid_block.state_dict().items():
        assert torch.equal(refiner.mid_block.state_dict()[name], weight), name
    latents = torch.randn(1, 4, 4, 4, generator=generator)
    assert torch.equal(refiner(latents), latents)
    with pytest.raises(ConfigError, match=r"no middle block; expected .* set system.refiner_width=64"):
        Refiner.of_decoder(4, type("Tiny", (), {"decoder": torch.nn.Identity()}), generator)


def test_latents_are_rendered_by_the_same_equation_as_colours():
    field, cameras = latent_ball(), around(2, 48)
    shown, alphas, _ = field.render_latents(cameras)
    colors = field.sh0[:, 0]
    expected, _, _ = ball_field(13).render(cameras.resized(6, 6), field.space.behind, colors)
    refined = field.space.refiner(expected.permute(0, 3, 1, 2))
    torch.testing.assert_close(shown, refined)
    assert shown.shape == (2, 4, 6, 6)
    assert 0 < float(alphas.mean()) < 1
    assert (shown - expected.permute(0, 3, 1, 2)).abs().max() > 1e-3  # the refining layer is in it


def test_cells_follow_the_aspect_and_the_size_of_the_fit():
    space = latent_space(size=24, downscale=4)
    assert [space.cells(*size) for size in ((24, 24), (100, 100), (48, 24), (200, 300))] == [
        (6, 6), (6, 6), (12, 6), (6, 9)
    ]  # fmt: skip


def test_pictures_are_decoded_at_the_size_that_is_asked_for():
    field, cameras = latent_ball(decode=mixed), around(2, 24)
    images, alphas = render(field, cameras, BLACK)
    assert torch.equal(images, mixed(field.render_latents(cameras)[0]).permute(0, 2, 3, 1))
    large, _ = render(field, cameras.resized(48, 48), BLACK)
    assert large.shape == (2, 48, 48, 3)
    assert (large[:, ::2, ::2] - images).abs().mean() < 0.02
    assert alphas.shape == (2, 24, 24, 1)


def test_masks_see_the_nodes_and_not_the_latents():
    field, cameras = latent_ball(), around(1, 24)  # no decoder
    chosen = field.means[:, 0] > 0
    assert torch.equal(coverage(field, chosen, cameras), coverage(ball_field(13), chosen, cameras))


def test_without_its_autoencoder_it_says_so():
    with pytest.raises(ConfigError, match="radiance field of latents, which cannot be shown here"):
        render(latent_ball(), around(1, 24), BLACK)


def test_a_splat_of_it_has_the_colours_of_its_latents():
    field = latent_ball(decode=mixed)
    gaussians = field_as_gaussians(field)
    is_there = field.opacities > 0.1
    assert len(gaussians) == int(is_there.sum())
    expected = torch.sigmoid(field.sh0[is_there, 0, :3])
    torch.testing.assert_close(rgbs_from_sh0(gaussians.sh0[:, 0]), expected)


def test_what_is_made_of_it_is_of_its_kind():
    field = latent_ball(decode=mixed)
    made = [
        field.select(torch.arange(40)),
        field.replace(sh0=field.sh0 + 1),
        field.detach(),
        field.keeping_samples(None),
    ]
    for each in made:
        assert isinstance(each, LatentField)
        assert each.space is field.space


@pytest.fixture
def saved(tmp_path):
    save_field(latent_ball(), tmp_path / "ball.field")
    return tmp_path / "ball.field"


def test_it_comes_back_to_the_bit_and_is_written_to_the_byte(saved, tmp_path):
    field, again = latent_ball(), load_scene(saved)
    assert isinstance(again, LatentField)
    assert again.space.autoencoder == field.space.autoencoder
    assert torch.equal(again.render_latents(around())[0], field.render_latents(around())[0])
    assert not any(weight.requires_grad for weight in again.space.refiner.parameters())
    save_field(again, tmp_path / "again.field")
    names = ("field.json", "field.safetensors", "refiner.safetensors")
    assert all((tmp_path / "again.field" / name).read_bytes() == (saved / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": 5}, "has the latent.behind"),
        ({"downscale": 0}, "has the latent.downscale 0, not 1 to 64"),
        ({"size": "64"}, "has the latent.size '64'"),
        ({"width": 12}, "has the latent.width 12, not a multiple of its groups, 8"),
        ({"width": 16}, "refiner.safetensors holds other weights"),
        ({"autoencoder": {"model": "x"}}, "has the latent.autoencoder"),
        ({"refiner": "0"}, "refiner.safetensors is not the file"),
        ({"refiner": None}, "has the latent.refiner None, not a checksum"),
        ({"groups": True}, "has the latent.groups True"),
        ({"size": 3}, "has the latent.size 3, not a multiple of its downscale"),
        ({"behind": [10**400, 0, 0, 0]}, "has the latent.behind"),
    ],
)
def test_a_wrong_entry_is_refused(saved, changes, said):
    document = json.loads((saved / "field.json").read_text())
    document["latent"] |= changes
    (saved / "field.json").write_text(json.dumps(document))
    with pytest.raises(SceneFormatError, match=said):
        load_field(saved)


def test_latents_that_depend_on_the_view_are_refused(saved):
    tensors = load_file(saved / "field.safetensors")
    count = len(tensors["sh0"])
    save_file(tensors | {"shN": torch.zeros(count, 3, 4)}, saved / "field.safetensors")
    document = json.loads((saved / "field.json").read_text())
    (saved / "field.json").write_text(json.dumps(document | {"sha256": sha256(saved / "field.safetensors")}))
    with pytest.raises(SceneFormatError, match="shN holds 3 coefficients"):
        load_field(saved)


def test_a_refiner_that_is_missing_is_refused(saved):
    (saved / "refiner.safetensors").unlink()
    with pytest.raises(SceneFormatError, match="cannot be read"):
        load_field(saved)
