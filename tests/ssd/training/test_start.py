"""A training that starts from a model: what is taken over, what is new, what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from threestudio.plugins import REPOSITORY
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.tokenizer import build_tokenizer, token_ids
from threestudio_ssd.training import start, unet, vae
from threestudio_ssd.training.loop import Worker

SHIPPED = REPOSITORY / "data" / "tiny-ldm"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_rows_follow_their_tokens_and_new_words_start_at_the_mean():
    old, new = torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    old_ids, new_ids = {"a": 0, "red</w>": 1, "ball</w>": 2}, {"ball</w>": 0, "seen</w>": 1, "a": 2, "se": 3}
    rows = start.moved_rows(old, old_ids, new, new_ids)
    torch.testing.assert_close(rows, torch.tensor([[6.0], [4.2], [1.0], [0.4]]))
    torch.testing.assert_close(new[1], torch.tensor([0.2]))


def test_the_start_says_what_its_model_says(tokenizer):
    torch.manual_seed(0)
    modules = {"unet": unet.make_unet(), "text_encoder": unet.make_text_encoder(tokenizer)}
    start.load_weights(SHIPPED, modules, tokenizer)
    pipeline = unet.StableDiffusionPipeline.from_pretrained(SHIPPED, dtype=torch.float32)
    texts = ["a photo of a red ball on grass", "a purple dotted cone on wood at night"]
    ids = [token_ids(each, texts) for each in (tokenizer, pipeline.tokenizer)]
    length = [len(tokenizer(text)["input_ids"]) for text in texts]
    embeds = [
        encoder(row).last_hidden_state
        for encoder, row in zip((modules["text_encoder"], pipeline.text_encoder), ids, strict=True)
    ]
    for ours, theirs, end in zip(*embeds, length, strict=True):
        torch.testing.assert_close(ours[:end], theirs[:end], atol=1e-4, rtol=1e-4)
    latents = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    outputs = [net(latents, 500, embeds[1]).sample for net in (modules["unet"], pipeline.unet)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("depths", [(2, 1, 1), (1, 2, 1), (3, 1, 2)])
def test_a_deeper_network_computes_what_the_shallower_one_does(depths):
    torch.manual_seed(0)
    tiny = {"block_out_channels": (8, 16, 16), "cross_attention_dim": 8, "norm_num_groups": 4, "attention_head_dim": 2}
    shallow = UNet2DConditionModel(**{**unet.UNET_CONFIG, **tiny, "layers_per_block": 1})
    deep = UNet2DConditionModel(**{**unet.UNET_CONFIG, **tiny, "layers_per_block": depths})
    deep.load_state_dict(start.deepened(shallow, deep))
    latents, embeds = torch.randn(2, 8, 16, 16), torch.randn(2, 3, 8)
    outputs = [net(latents, 500, embeds).sample for net in (deep, shallow)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)


def test_new_layers_learn():
    torch.manual_seed(0)
    small = {**unet.UNET_CONFIG, "block_out_channels": (8, 16, 16), "cross_attention_dim": 8, "norm_num_groups": 4}
    shallow = UNet2DConditionModel(**{**small, "layers_per_block": 1})
    deep = UNet2DConditionModel(**small)
    deep.load_state_dict(start.deepened(shallow, deep))
    deep(torch.randn(1, 8, 16, 16), 500, torch.randn(1, 3, 8)).sample.square().sum().backward()
    for layer in (deep.down_blocks[0].resnets[1], deep.up_blocks[2].resnets[1]):
        assert layer.conv2.weight.grad.abs().max() > 0


def test_a_training_starts_from_a_model_and_its_checkpoint_knows_which(toy_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(unet, "HELD_OUT_BATCHES", 1)
    start.copy_autoencoder(SHIPPED, tmp_path)
    recipe = unet.RECIPE.with_steps(1)
    training = unet.train(Worker(), toy_shards, tmp_path, recipe, SHIPPED)
    assert training.recipe.start == start.checksum(SHIPPED)
    unet.train(Worker(), toy_shards, tmp_path, recipe, SHIPPED)
    with pytest.raises(ConfigError, match="begun with another recipe"):
        unet.train(Worker(), toy_shards, tmp_path, recipe)
    unet.save(tmp_path, tmp_path / "out", vae.load_vae(tmp_path / "vae"))
    for part in ("vae", "scheduler"):
        for path in (SHIPPED / part).iterdir():
            written = tmp_path / "out" / part / path.name
            is_config = path.suffix == ".json"
            read = (lambda file: json.loads(file.read_text())) if is_config else Path.read_bytes
            assert read(written) == read(path), path.name


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"run.start is .* which has no unet/.*set run.start= to train from random"):
        start.checksum(tmp_path)


def test_a_model_of_another_shape_is_refused(tokenizer, tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "model")
    torch.manual_seed(0)
    modules = {"unet": unet.make_unet(), "text_encoder": torch.nn.Linear(2, 2)}
    with pytest.raises(ConfigError, match="a model of other shapes"):
        start.load_weights(tmp_path / "model", modules, tokenizer)


def test_the_shipped_tokenizer_stays_readable():
    assert len(CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")("a red ball")["input_ids"]) == 5
