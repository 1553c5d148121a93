"""The structure distance on small networks of random weights, against a numpy computation from their weights."""

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.metrics import load_structure_model, structure_distance

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    """A two-layer ViT of random weights in the format of the published one."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(6)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=32, patch_size=8,
        initializer_range=0.3,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def numpy_distance(network, first, second, factor=1.0):
    """Keys of the last block from its input and weights, self-similarity and MSE in double precision."""
    layer = network.layers[-1]
    weight, bias = (value.double().numpy() for value in (layer.attention.k_proj.weight, layer.attention.k_proj.bias))
    similarities = []
    for pictures in (first, second):
        pixels = (factor * pictures.double().numpy() - MEAN[:, None, None]) / STD[:, None, None]
        states = network(pixel_values=torch.from_numpy(pixels).float(), output_hidden_states=True).hidden_states
        normed = layer.layernorm_before(states[-2]).double().numpy()
        keys = normed @ weight.T + bias
        keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
        similarities.append(keys @ keys.transpose(0, 2, 1))
    return ((similarities[0] - similarities[1]) ** 2).mean((1, 2))


@pytest.mark.parametrize(("is_input_0_255", "factor"), [(False, 1.0), (True, 255.0)])
def test_agrees_with_numpy(vit_folder, pictures, is_input_0_255, factor):
    first, second = pictures[..., :32, :32], pictures[..., 16:, 16:]
    model = load_structure_model(str(vit_folder))
    value = structure_distance(first, second, model, is_input_0_255=is_input_0_255)
    with torch.no_grad():
        expected = numpy_distance(model.network, first, second, factor)
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6)


def test_the_0_255_quirk_changes_the_number(vit_folder, pictures):
    model = load_structure_model(str(vit_folder))
    right = structure_distance(pictures, 1 - pictures, model)
    published = structure_distance(pictures, 1 - pictures, model, is_input_0_255=True)
    assert ((right - published).abs() > 0.01 * right).all()


@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_is_of_the_kind_that_was_asked_for(vit_folder, antialias):
    """A checkerboard of single pixels: averaged it is grey, so that its inverse is the same; sampled it is not."""
    model, board = load_structure_model(str(vit_folder)), torch.zeros(1, 3, 96, 96)
    board[..., ::2, 1::2] = board[..., 1::2, ::2] = 1
    board[..., :40] = 0.2  # something that stays, or all keys would be alike
    inverse = torch.where(torch.arange(96) < 40, board, 1 - board)
    value = float(structure_distance(inverse, board, model, antialias=antialias))
    # 96 -> 32: the middle of each third pixel, or a triangle of 3 pixels to each side
    if antialias:
        offsets = torch.arange(96)[None] - (torch.arange(32)[:, None] * 3 + 1)
        weights = (3 - offsets.abs()).clamp_min(0).float()
        weights = weights / weights.sum(1, keepdim=True)
        small = [weights @ each @ weights.T for each in (inverse, board)]
    else:
        small = [each[..., 1::3, 1::3] for each in (inverse, board)]
    with torch.no_grad():
        expected = float(numpy_distance(model.network, *small)[0])
    assert value == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert (value > 1e-3) == (not antialias)


def test_a_worse_edit_scores_higher(vit_folder, pictures, noise):
    model = load_structure_model(str(vit_folder))
    values = [structure_distance((pictures + level * noise).clamp(0, 1), pictures, model) for level in (0, 0.03, 0.3)]
    torch.testing.assert_close(values[0], torch.zeros(2), rtol=0, atol=1e-9)
    assert (values[0] < values[1]).all()
    assert (values[1] < values[2]).all()


def test_the_shorter_side_becomes_the_networks_and_the_longer_is_limited(vit_folder):
    model = load_structure_model(str(vit_folder))
    assert model.keys(torch.rand(1, 3, 64, 64)).shape == (1, 17, 24)
    assert model.keys(torch.rand(1, 3, 64, 96)).shape == (1, 1 + 4 * 6, 24)
    assert model._prepare(torch.rand(1, 3, 64, 640)).shape[-1] == round(32 * 480 / 224)


def test_the_label_tells_other_networks_from_dino(vit_folder):
    assert "not DINO" in load_structure_model(str(vit_folder)).label


def test_a_clip_serves_offline(clip_folder, pictures, noise):
    model = load_structure_model(str(clip_folder))
    near, far = (structure_distance((pictures + level * noise).clamp(0, 1), pictures, model) for level in (0.01, 0.3))
    assert (near < far).all()
    assert "not DINO" in model.label


def test_a_missing_model_is_named():
    with pytest.raises(ConfigError, match="structure_model folder 'data/no-such-dino' does not exist"):
        load_structure_model("data/no-such-dino")
