"""The embedded InstructPix2Pix: the widened network, and a few steps of training end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from threestudio.plugins import REPOSITORY
from threestudio_ssd.cameras.rays import ObjectFrame, ObjectViews
from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.diffusion.beside import load_beside
from threestudio_ssd.diffusion.light_field import grid_of_rays
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.diffusion.ray_map import RayMap
from threestudio_ssd.toyworld.instructions import instructions
from threestudio_ssd.toyworld.views import held_out_orbit
from threestudio_ssd.toyworld.vocabulary import Attributes
from threestudio_ssd.training import ip2p
from threestudio_ssd.training.data import write_shards
from threestudio_ssd.training.ip2p import INSTRUCTION_SHARE, text_of, what_is_given, widened
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.pairs import Pairs, load_pairs, pair_of_scenes, write_pair_shards
from threestudio_ssd.training.unet import make_scheduler, velocity_loss
from threestudio_ssd.training.vae import encode


def test_a_twentieth_of_samples_lacks_text_image_or_both():
    has_text, has_image = what_is_given(np.random.default_rng(0), 40_000)
    shares = [float(np.mean(each)) for each in (~has_text & has_image, has_text & ~has_image, ~has_text & ~has_image)]
    assert shares == pytest.approx([0.05] * 3, abs=0.005)


def one_pair(source, target, *, is_turned=False):
    """A pair of scenes, seen from the front left and high."""
    labels = [torch.tensor([each.labels()]) for each in (source, target)]
    images = torch.zeros(2, 1, 3, 64, 64, dtype=torch.uint8)
    angles_deg, framings = torch.tensor([[45.0, 30.0]]), torch.tensor([0])
    return Pairs(
        *images,
        torch.zeros(1, 64, 64, dtype=torch.uint8),
        *labels,
        torch.tensor([1]),
        angles_deg,
        framings,
        torch.tensor([is_turned]),
        torch.eye(4)[None],
        torch.eye(3)[None],
    )


def texts_of(pairs, count=300):
    rng = np.random.default_rng(0)
    return [text_of(pairs, 0, rng) for _ in range(count)]


def test_a_turned_object_is_always_told_by_a_caption_that_says_the_side():
    pairs = one_pair(Attributes("ball"), Attributes("car"), is_turned=True)
    assert all("car" in text and text.endswith("seen high from the front left") for text in texts_of(pairs))


def test_other_pairs_are_told_by_instructions_and_captions():
    texts = texts_of(one_pair(Attributes("ball"), Attributes("car")))
    told = set(instructions(Attributes("ball"), Attributes("car")))
    share = np.mean([text in told for text in texts])
    assert share == pytest.approx(INSTRUCTION_SHARE, abs=0.1)
    assert any("seen high" in text for text in texts)
    assert any("seen" not in text and text not in told for text in texts)


def test_a_caption_names_the_ground_that_changes():
    texts = texts_of(one_pair(Attributes("ball", ground="grass"), Attributes("ball", ground="snow")))
    assert all("snow" in text for text in texts)


def test_a_pair_without_a_change_has_no_instruction():
    texts = texts_of(one_pair(Attributes("ball"), Attributes("ball")))
    assert all("ball" in text or "sphere" in text for text in texts)


def test_the_widened_network_is_the_original_until_it_learns():
    unet = random_components(image_size=64).network
    wide = widened(unet)
    latents, hidden, t = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 32), torch.tensor([10, 900])
    with torch.no_grad():
        expected = unet(latents, t, hidden).sample
        predicted = wide(torch.cat([latents, torch.randn(2, 4, 16, 16)], dim=1), t, hidden).sample
    torch.testing.assert_close(predicted, expected, rtol=1e-4, atol=1e-4)


def test_a_network_that_reads_images_is_trained_on_as_it_is(tmp_path):
    base = tmp_path / "base"
    save_components(random_components("v_prediction", image_size=64), base)
    write_pair_shards(Worker(), tmp_path / "pairs", 2, 3)
    recipe, field_recipe = (replace(each, steps=1, batch_size=2) for each in (ip2p.RECIPE, ip2p.FIELD_RECIPE))
    runs = (
        (base, "first", field_recipe),
        ("first", "second", None),
        ("first", "third", field_recipe),
        ("first", "new", None),
    )
    for start, out, own in runs:
        work = tmp_path / f"work-{out}"
        ip2p.train(Worker(), tmp_path / "pairs", tmp_path / start, work, recipe, own, has_new_field=out == "new")
        assert (work / ip2p.FIELD).is_file() == (own is not None)
        ip2p.save(tmp_path / start, work, tmp_path / out)
    first, second = (load_backbone(tmp_path / name).network for name in ("first", "second"))
    assert first.config.in_channels == second.config.in_channels == 8
    assert not torch.equal(first.conv_in.weight, second.conv_in.weight)
    torch.testing.assert_close(first.conv_in.weight, second.conv_in.weight, atol=1e-3, rtol=1e-3)
    assert "trained on from `first`" in (tmp_path / "second" / "README.md").read_text()
    maps = [RayMap(first) for _ in range(3)]
    for ray_map, name in zip(maps, ("first", "third", "new"), strict=True):
        load_beside(ray_map, tmp_path / name / ip2p.RAY_MAP, first, "key")
    torch.testing.assert_close(maps[0].field.last.weight, maps[1].field.last.weight, atol=1e-2, rtol=1e-2)
    assert not torch.equal(maps[0].field.last.weight, maps[1].field.last.weight)
    torch.testing.assert_close(maps[0].first.weight, maps[2].first.weight, atol=1e-2, rtol=1e-2)
    assert (maps[0].field.last.weight - maps[2].field.last.weight).abs().max() > 0.02


def test_rays_are_those_of_the_frame_give_or_take_a_little():
    cameras = held_out_orbit(64, 4)
    sizes, cells = torch.tensor([0.9, 1.0, 1.1, 1.0]), (16, 16)
    given = ip2p.rays_of(cameras, sizes, np.random.default_rng(0), cells)
    for row, size in enumerate(sizes.tolist()):
        frame = ObjectFrame(torch.eye(3), torch.zeros(3), size * ip2p.UNIT)
        exact = ObjectViews(cameras, frame).passing(grid_of_rays(cells))[row]
        gaps = (given[row] - exact).abs()
        assert gaps[:3].max() < 1e-5
        assert 1e-4 < gaps[3:].mean() < 0.01


def test_the_light_field_learns_from_pairs_and_the_text_encoder_does_not(tmp_path):
    write_pair_shards(Worker(), tmp_path, 1, 2)
    pairs, components = load_pairs(tmp_path, is_held_out=False), random_components("v_prediction", image_size=64)
    means, stds = encode(components.vae, pairs.targets)
    posteriors = means, torch.zeros_like(stds)
    batches = ip2p.PairBatches(pairs, posteriors, means, 1.0, components.tokenizers[0])
    sample = batches.batch(4, torch.Generator().manual_seed(0), is_whole=True)
    torch.manual_seed(0)
    field = RayMap(widened(components.network)).field
    before = float(ip2p.field_loss(field, components.text_networks[0], sample))
    optimizer = torch.optim.Adam(field.parameters(), lr=3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        ip2p.field_loss(field, components.text_networks[0], sample).backward()
        optimizer.step()
    assert float(ip2p.field_loss(field, components.text_networks[0], sample)) < 0.7 * before
    assert all(parameter.grad is None for parameter in components.text_networks[0].parameters())


def test_a_few_steps_make_a_model_that_reads_images(tmp_path):
    base = tmp_path / "base"
    save_components(random_components("v_prediction", image_size=64), base)
    work = tmp_path / "tiny-ip2p"
    write_pair_shards(Worker(), work / "pairs", 2, 3)
    recipe, field_recipe = (replace(each, steps=2, batch_size=2) for each in (ip2p.RECIPE, ip2p.FIELD_RECIPE))
    ip2p.train(Worker(), work / "pairs", base, work, recipe, field_recipe)
    assert torch.load(work / ip2p.FIELD, weights_only=True)["step"] == 2
    state = torch.load(work / "ip2p.ckpt", weights_only=True)
    assert state["step"] == 2
    ip2p.train(Worker(), work / "pairs", base, work, recipe.with_steps(3), field_recipe)
    resumed = torch.load(work / "ip2p.ckpt", weights_only=True)
    assert resumed["step"] == 3
    new = resumed["modules"]["unet"]["conv_in.weight"][:, 4:]
    assert new.abs().max() > 0
    ip2p.save(base, work, tmp_path / "out")
    assert "_name_or_path" not in (tmp_path / "out" / "unet" / "config.json").read_text()
    backbone = load_backbone(tmp_path / "out")
    assert backbone.has_image_condition
    assert backbone.prediction_type == "v_prediction"
    how = (tmp_path / "out" / "README.md").read_text()
    assert "3 steps" in how
    assert "2 steps" in how, "those of the light field"
    ray_map = load_beside(RayMap(backbone.network), tmp_path / "out" / ip2p.RAY_MAP, backbone.network, "key")
    assert ray_map.last.weight.abs().max() > 0
    latents = torch.randn(1, 4, 16, 16)
    condition = backbone.encode_condition(torch.rand(1, 3, 64, 64))
    eps = backbone.predict_noise(latents, 500, backbone.encode_prompts(["make it blue"]), condition)
    assert torch.isfinite(eps).all()


@torch.no_grad()
def test_the_shipped_map_of_rays_says_what_no_word_does(tmp_path):
    """On pairs that no training has seen, with noise in which shapes are undecided."""
    write_shards(Worker(), tmp_path, 1, pair_of_scenes, range(40_000_000, 40_000_480, 20))
    base = REPOSITORY / "data" / "tiny-ip2p"
    pipeline = ip2p.load_base(base)
    unet, vae, unseen = widened(pipeline.unet).eval(), pipeline.vae, load_pairs(tmp_path, is_held_out=True)
    ray_map = ip2p.started_ray_map(unet, base)
    modules = {"unet": unet, "text_encoder": pipeline.text_encoder.eval(), "ray_map": ray_map}
    conditions, _ = encode(vae, unseen.sources)
    batches = ip2p.PairBatches(
        unseen, encode(vae, unseen.targets), conditions, vae.config.scaling_factor, pipeline.tokenizer
    )
    generator, alphas = torch.Generator().manual_seed(1), make_scheduler().alphas_cumprod
    sample = batches.batch(96, generator)
    noise, t = torch.randn(sample.latents.shape, generator=generator), torch.full((96,), 900)
    with_rays, without = (
        float(velocity_loss(modules, alphas, each, t, noise))
        for each in (sample, sample._replace(rays=None, ray_shares=None))
    )
    assert with_rays < 0.95 * without
    said = ray_map.field(sample.rays, sample.condition, modules["text_encoder"](sample.tokens).last_hidden_state)
    ours, theirs = said.covered > 0, sample.covered > 0.5
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.85
