"""Textual inversions: a new word gives its own embeddings, and leaves other prompts as they were."""

import pytest
import torch
from safetensors.torch import save_file

from threestudio_ssd.diffusion import Backbone, load_backbone
from threestudio_ssd.diffusion.random import letter_tokenizer, random_components
from threestudio_ssd.diffusion.textual_inversion import Embedding, add_embeddings
from threestudio_ssd.errors import ConfigError, SceneFormatError


@pytest.fixture
def rows(generator):
    return torch.randn(3, 32, generator=generator)


@pytest.mark.parametrize("count", [1, 3])
def test_a_word_is_read_as_its_embeddings(tmp_path, rows, count):
    """The token rows of a prompt with the new word are the file's, one after another."""
    path = tmp_path / "clown.safetensors"
    save_file({"emb_params": rows[:count].clone()}, path)
    components, plain = random_components(), random_components()
    add_embeddings(components, [f"{path}:<clown>"])
    assert components.embeddings == [f"{path}:<clown>"]
    taught, before = Backbone(components), Backbone(plain)
    texts = taught.text_encoders
    ids = texts.token_ids(0, ["a <clown>"])[0].tolist()
    added = [index for index in ids if index >= len(plain.tokenizers[0])]
    assert len(added) == count
    table = texts.networks[0].get_input_embeddings().weight
    assert torch.equal(table[added], rows[:count])
    one, other = taught.encode_prompts(["a cat"]), before.encode_prompts(["a cat"])
    assert torch.equal(one.hidden, other.hidden)
    assert not torch.equal(taught.encode_prompts(["a <clown>"]).hidden, before.encode_prompts(["a <clown>"]).hidden)


def test_a_file_for_two_text_encoders(tmp_path, rows):
    """SDXL's have one tensor for each encoder; here both are of one width, so both get the first."""
    path = tmp_path / "clown.safetensors"
    save_file({"clip_l": rows[:1].clone(), "clip_g": torch.zeros(1, 48)}, path)
    components = random_components(kind="sdxl")
    components.tokenizers = [letter_tokenizer() for _ in range(2)]
    add_embeddings(components, [str(path)])
    for tokenizer, network in zip(components.tokenizers, components.text_networks, strict=True):
        index = tokenizer.convert_tokens_to_ids("clown")
        assert torch.equal(network.get_input_embeddings().weight[index], rows[0])


def test_a_loaded_backbone_says_its_embeddings(tmp_path, model_folder, rows):
    path = tmp_path / "clown.safetensors"
    save_file({"emb_params": rows[:1].clone()}, path)
    backbone = load_backbone(model_folder, embeddings=[f"{path}:clown"])
    assert backbone.provenance["embeddings"] == [f"{path}:clown"]


def test_what_is_refused(tmp_path, rows):
    with pytest.raises(ConfigError, match="embeddings has 'a.pt'; expected the path of a .safetensors file"):
        Embedding.of("a.pt")
    path = tmp_path / "a.safetensors"
    save_file({"emb_params": torch.zeros(1, 999)}, path)
    with pytest.raises(SceneFormatError, match="has width 999, as no text encoder of 'random-sd-epsilon'"):
        add_embeddings(random_components(), [path])
    save_file({"emb_params": rows[:1].clone()}, path)
    components = random_components()
    add_embeddings(components, [f"{path}:clown"])
    with pytest.raises(ConfigError, match="the word 'clown' cannot be added"):
        add_embeddings(components, [f"{path}:clown"])
    path.write_text("nothing")
    with pytest.raises(SceneFormatError, match="cannot be read \\(SafetensorError"):
        add_embeddings(random_components(), [path])
