"""The view adapter's training: renders in groups, and a few steps end to end."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from threestudio.plugins import REPOSITORY
from threestudio_ssd.cameras.rays import ObjectViews
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.diffusion.view_adapter import drawn_together, load_view_adapter
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.views import OBJECT_CENTER
from threestudio_ssd.training import view_adapter, view_groups
from threestudio_ssd.training.data import write_shards
from threestudio_ssd.training.ip2p import load_base
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.unet import caption_of, make_scheduler, velocity_loss
from threestudio_ssd.training.vae import encode
from threestudio_ssd.training.view_groups import VIEWS_A_SCENE, GroupBatches, load_view_groups


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    view_groups.write_view_group_shards(Worker(), folder, 2, 3)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    save_components(random_components("v_prediction", image_size=64), folder)
    return folder


def test_every_view_of_a_group_shows_one_scene(shards):
    groups = load_view_groups(shards, is_held_out=False)
    assert len(groups) == 5  # seeds 1 to 5; 0 is held out
    assert groups.images.shape == (5 * VIEWS_A_SCENE, 3, 64, 64)
    for rows in torch.arange(len(groups.seeds)).view(5, -1):
        assert len(groups.seeds[rows].unique()) == 1
        assert len(groups.labels[rows].unique(dim=0)) == 1
        assert len(groups.viewmats[rows].unique(dim=0)) == VIEWS_A_SCENE
    assert len(load_view_groups(shards, is_held_out=True)) == 1


def test_a_batch_has_one_caption_a_scene_but_for_where_it_is_seen_from(shards, base, generator):
    pipeline, groups = load_base(base), load_view_groups(shards, is_held_out=False)
    batches = GroupBatches(groups, encode(pipeline.vae, groups.images), 1.0, pipeline.tokenizer)
    drawn = batches.batch(2, 4, generator)
    assert drawn.sample.latents.shape[0] == len(drawn.sample.tokens) == 8
    assert drawn.geometry.features((3, 3)).shape[:3] == (2, 4, 9)
    rng = np.random.default_rng(3)
    captions = [caption_of(groups, row, True, np.random.default_rng(7)) for row in range(VIEWS_A_SCENE)]
    starts = {caption.split(" seen ")[0].split(" of ")[-1] for caption in captions}
    assert len(starts) == 1
    views = view_groups.randomly_framed(groups.cameras(torch.arange(4)), rng)
    assert isinstance(views, ObjectViews)
    assert (views.frame.center - torch.tensor(OBJECT_CENTER)).abs().max() <= view_groups.CENTER_JITTER
    torch.testing.assert_close(views.frame.axes[2], torch.tensor([0.0, 0.0, 1.0]))


def test_a_few_steps_make_an_adapter_and_leave_the_model(shards, base, tmp_path):
    recipe = replace(view_adapter.RECIPE, steps=2, batch_size=4)
    view_adapter.train(Worker(), shards, base, tmp_path, recipe)
    view_adapter.train(Worker(), shards, base, tmp_path, recipe.with_steps(3))
    assert torch.load(tmp_path / "views.ckpt", weights_only=True)["step"] == 3
    view_adapter.save(base, tmp_path, tmp_path / "out")
    unet = load_base(base).unet
    adapter = load_view_adapter(tmp_path / "out" / "adapter.safetensors", unet, "key")
    assert any(layer.out.weight.abs().max() > 0 for layer in adapter.layers.values())
    assert "3 steps" in (tmp_path / "out" / "README.md").read_text()
    assert "held-out 4 views" in (tmp_path / "views.log").read_text()


def test_a_training_goes_on_from_an_adapter(shards, base, tmp_path):
    recipe = replace(view_adapter.RECIPE, steps=1, batch_size=4)
    view_adapter.train(Worker(), shards, base, tmp_path, recipe)
    view_adapter.save(base, tmp_path, tmp_path / "first")
    start = tmp_path / "first" / "adapter.safetensors"
    (tmp_path / "on").mkdir()
    view_adapter.train(Worker(), shards, base, tmp_path / "on", recipe, start)
    first, second = (
        torch.load(tmp_path / each / "views.ckpt", weights_only=True)["modules"]["adapter"] for each in (".", "on")
    )
    assert any(not torch.equal(weight, second[name]) for name, weight in first.items())
    view_adapter.save(base, tmp_path / "on", tmp_path / "second")
    assert "trained on from an adapter" in (tmp_path / "second" / "README.md").read_text()
    with pytest.raises(ConfigError, match=r"run\.start is .*none, and there is no such file"):
        view_adapter.train(Worker(), shards, base, tmp_path / "on", recipe, tmp_path / "none")


def test_most_timesteps_are_where_shapes_are_undecided():
    t = view_adapter.random_timesteps(np.random.default_rng(0), 20_000, 1000)
    assert float((t < 200).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert t.min() >= 0
    assert t.max() < 1000


@torch.no_grad()
def test_the_shipped_adapter_knows_more_of_a_view_from_the_others(tmp_path):
    """Renders that no training has seen, with noise in which shapes are undecided."""
    seeds = range(20_000_000, 20_000_160, 20)
    write_shards(Worker(), tmp_path, 1, view_groups.views_of_scene, seeds)
    groups, pipeline = load_view_groups(tmp_path, is_held_out=True), load_base(REPOSITORY / "data" / "tiny-ldm")
    scale, alphas = pipeline.vae.config.scaling_factor, make_scheduler().alphas_cumprod
    batches = GroupBatches(groups, encode(pipeline.vae, groups.images), scale, pipeline.tokenizer)
    networks = {"unet": pipeline.unet.eval(), "text_encoder": pipeline.text_encoder.eval()}
    path = REPOSITORY / "data" / "tiny-views" / "adapter.safetensors"
    adapter = load_view_adapter(path, pipeline.unet, "key")

    def loss(beside, num_views):
        generator = torch.Generator().manual_seed(1)
        sample, geometry = batches.batch(32 // num_views, num_views, generator)
        noise = torch.randn(sample.latents.shape, generator=generator)
        context = drawn_together(pipeline.unet, beside, geometry, attend_own) if beside else nullcontext()
        with context:
            return float(velocity_loss(networks, alphas, sample, torch.full((32,), 750), noise))

    assert loss(adapter, 4) < 0.9 * loss(None, 4)
    assert loss(adapter, 16) < 0.85 * loss(None, 16)


def attend_own(layer, hidden):
    return layer.attend(hidden, hidden)
