"""The embedded InstructPix2Pix: pairs, instructions, the widened network, a few steps of training end to end."""

import numpy as np
import pytest
import torch

from threestudio_ssd.apps.tiny_ip2p_steps import ip2p_step, save_ip2p, what_is_given, widened
from threestudio_ssd.apps.toy_pairs import write_pair_shards
from threestudio_ssd.apps.training import Worker
from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.toyworld import ATTRIBUTES, Attributes, sample_attributes
from threestudio_ssd.toyworld.captions import MAX_TOKENS
from threestudio_ssd.toyworld.instructions import instructions, random_change, random_instruction
from threestudio_ssd.toyworld.tokenizer import build_tokenizer

SOURCE = Attributes("ball", "red", "plain", "grass", "day")


def test_instructions_name_what_changes():
    assert "make it blue" in instructions(SOURCE, SOURCE._replace(color="blue"))
    assert "turn the ball orange" in instructions(SOURCE, SOURCE._replace(color="orange"))
    assert "an orange ball" in instructions(SOURCE, SOURCE._replace(color="orange"))
    assert "put it on snow" in instructions(SOURCE, SOURCE._replace(ground="snow"))
    assert "at night" in instructions(SOURCE, SOURCE._replace(time="night"))
    night = SOURCE._replace(time="night")
    assert {"by day", "in daylight"} <= set(instructions(night, SOURCE))
    with pytest.raises(ValueError, match="one attribute must differ"):
        instructions(SOURCE, SOURCE)


def test_every_instruction_fits_the_tokenizer(tmp_path):
    tokenizer = build_tokenizer(tmp_path)
    longest = 0
    for name, words in ATTRIBUTES.items():
        for thing in ATTRIBUTES["object"]:
            source = SOURCE._replace(object=thing)
            for word in set(words) - {getattr(source, name)}:
                for text in instructions(source, source._replace(**{name: word})):
                    ids = tokenizer(text).input_ids
                    longest = max(longest, len(ids))
                    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    assert longest <= MAX_TOKENS


def test_pairs_differ_in_one_attribute_and_are_reproducible(tmp_path):
    for folder in ("a", "b"):
        write_pair_shards(Worker(0, 1), tmp_path / folder, 1, 4)
    first, second = (np.load(tmp_path / folder / "shard_000.npz") for folder in ("a", "b"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["sources"].shape == first["targets"].shape == (4, 64, 64, 3)
    assert ((first["source_attributes"] != first["target_attributes"]).sum(1) == 1).all()
    change = np.abs(first["sources"].astype(int) - first["targets"]).mean((1, 2, 3))
    assert (change > 0.2).all()


def test_changes_are_spread_over_attributes():
    rng = np.random.default_rng(0)
    names = [random_change(sample_attributes(rng), rng)[1] for _ in range(200)]
    assert {names.count(name) > 20 for name in ATTRIBUTES} == {True}
    target, _ = random_change(SOURCE, rng)
    assert random_instruction(SOURCE, target, rng) in instructions(SOURCE, target)


def test_a_twentieth_of_samples_lacks_text_picture_or_both():
    has_text, has_picture = what_is_given(np.random.default_rng(0), 40_000)
    shares = [
        float(np.mean(each)) for each in (~has_text & has_picture, has_text & ~has_picture, ~has_text & ~has_picture)
    ]
    assert shares == pytest.approx([0.05] * 3, abs=0.005)


def test_the_widened_network_is_the_original_until_it_learns():
    unet = random_components(image_size=64).network
    wide = widened(unet)
    latents, hidden, t = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 32), torch.tensor([10, 900])
    with torch.no_grad():
        expected = unet(latents, t, hidden).sample
        found = wide(torch.cat([latents, torch.randn(2, 4, 16, 16)], dim=1), t, hidden).sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_few_steps_make_a_model_that_reads_pictures(tmp_path):
    base = tmp_path / "base"
    save_components(random_components("v_prediction", image_size=64), base)
    keys = {"work": str(tmp_path), "base": str(base), "num_shards": 2, "pairs_a_shard": 3, "steps": 2, "batch": 2}
    ip2p_step(0, 1, tmp_path / "meet", keys)
    checkpoint = tmp_path / "tiny-ip2p" / "ip2p.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 2
    ip2p_step(0, 1, tmp_path / "meet", {**keys, "steps": 3})
    resumed = torch.load(checkpoint, weights_only=True)
    assert resumed["step"] == 3
    new = resumed["modules"]["unet"]["conv_in.weight"][:, 4:]
    assert new.abs().max() > 0
    save_ip2p(base, tmp_path / "tiny-ip2p", tmp_path / "out")
    assert "_name_or_path" not in (tmp_path / "out" / "unet" / "config.json").read_text()
    backbone = load_backbone(tmp_path / "out")
    assert backbone.has_image_condition
    assert backbone.prediction_type == "v_prediction"
    assert "3 steps" in (tmp_path / "out" / "README.md").read_text()
    latents = torch.randn(1, 4, 16, 16)
    picture = backbone.encode_condition(torch.rand(1, 3, 64, 64))
    eps = backbone.predict_noise(latents, 500, backbone.encode_prompts(["make it blue"]), picture)
    assert torch.isfinite(eps).all()
