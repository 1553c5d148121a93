"""A background that losses hold while everything moves: what they cost, and that they hold it."""

import pytest
import torch
from omegaconf import OmegaConf

from threestudio_ssd.edits.background import GREY, BackgroundConfig, KeptBackground, check_keeping, latent_change
from threestudio_ssd.edits.scene_edit import SceneEditConfig, moving_of
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.metrics import clip_similarity


def cfg_of(**keep):
    return OmegaConf.structured(SceneEditConfig(keep=BackgroundConfig(**keep), clip_model="tiny-clip"))


@pytest.fixture
def views(generator):
    images = torch.rand(2, 3, 16, 16, generator=generator)
    covered = torch.zeros(2, 1, 16, 16)
    covered[:, :, 4:12, 4:12] = 0.9
    return images, covered


def test_a_change_of_the_background_costs_its_squares_and_one_of_the_object_nothing(views):
    images, covered = views
    kept = KeptBackground.of(cfg_of(lambda_mse=100.0), torch.device("cpu"))
    is_background = covered < 0.5
    moved = images + 0.1 * is_background
    assert float(kept(moved, images, covered)) == pytest.approx(100 * 0.01 * int(is_background.sum()), rel=1e-4)
    assert float(kept(images + 0.3 * (covered > 0.5), images, covered)) == 0


def test_a_pixel_is_held_as_firmly_in_a_large_picture_as_in_a_small_one(views):
    images, covered = views
    kept = KeptBackground.of(cfg_of(lambda_mse=100.0), torch.device("cpu"))

    def pull(times):
        sources, masks = images.repeat(1, 1, times, times), covered.repeat(1, 1, times, times)
        leaf = (sources + 0.1).requires_grad_()
        return torch.autograd.grad(kept(leaf, sources, masks), leaf)[0][:, :, :16, :16]

    torch.testing.assert_close(pull(1), pull(3))


def test_the_crop_of_the_background_is_pulled_to_its_prompt(views):
    images, covered = views
    kept = KeptBackground.of(cfg_of(lambda_clip=0.01, prompt="grass"), torch.device("cpu"))
    crop = torch.where(covered < 0.5, images, torch.tensor(GREY))
    expected = -0.01 * clip_similarity(crop, "grass", "tiny-clip").sum()
    leaf = images.clone().requires_grad_()
    loss = kept(leaf, images, covered)
    torch.testing.assert_close(loss.detach(), expected, atol=1e-5, rtol=1e-3)
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert gradient[(covered < 0.5).expand_as(images)].abs().max() > 0
    assert gradient[(covered > 0.5).expand_as(images)].abs().max() == 0


def test_latents_outside_the_mask_cost_their_mean_square(generator):
    latents, change = torch.randn(2, 4, 6, 6, generator=generator), torch.randn(2, 4, 6, 6, generator=generator)
    masks = torch.zeros(2, 1, 6, 6)
    masks[0, :, 2:4, 1:5] = 1
    inside = masks.expand_as(change) > 0
    by_hand = (change[0][~inside[0]].double() ** 2).mean() + (change[1].double() ** 2).mean()
    assert float(latent_change(latents + change, latents, masks)) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(latent_change(latents + change * inside, latents, masks)) == 0
    assert float(latent_change(latents + change, latents, torch.ones_like(masks))) == 0


def test_nothing_is_loaded_where_nothing_is_asked_for():
    assert KeptBackground.of(cfg_of(), torch.device("cpu")) is None


def test_everything_moves_where_it_is_asked_for():
    is_selected = torch.tensor([True, False, True])
    assert torch.equal(moving_of(cfg_of(), is_selected), is_selected)
    assert moving_of(cfg_of(moves=True), is_selected).all()


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ({"lambda_mse": -1.0}, "system.keep.lambda_mse is -1.0"),
        ({"lambda_latent": -1.0}, "system.keep.lambda_latent is -1.0"),
        ({"lambda_clip": 0.01}, "system.keep.prompt is empty"),
        ({"threshold": 1.0}, "system.keep.threshold is 1.0"),
    ],
)
def test_values_that_cannot_be_are_refused(keep, said):
    with pytest.raises(ConfigError, match=said):
        check_keeping(cfg_of(**keep))
