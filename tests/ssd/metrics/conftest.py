"""Pictures with structure, and a CLIP of random weights made in memory."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate


def make_pictures(count=2, size=48, seed=0):
    """Smooth coloured patches in [0.1, 0.9]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    return 0.1 + 0.8 * interpolate(coarse, (size, size), mode="bilinear")


@pytest.fixture
def pictures():
    """(2 3 48 48) in [0.1, 0.9]."""
    return make_pictures()


@pytest.fixture
def noise(pictures):
    """Unit noise of the pictures' shape."""
    return torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A folder with a small CLIP of random weights and a tokenizer."""
    from transformers import CLIPConfig, CLIPModel

    from threestudio_ssd.toyworld.tokenizer import build_tokenizer

    folder = tmp_path_factory.mktemp("random-clip")
    tokenizer = build_tokenizer(folder)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = tower | {
        "vocab_size": len(tokenizer), "max_position_embeddings": 20, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    vision = tower | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(3)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    return folder


@pytest.fixture
def random_clip(clip_folder):
    """The random CLIP as the metrics load it."""
    from threestudio_ssd.metrics import load_clip

    return load_clip(str(clip_folder))


def _unit(features):
    features = features.double().numpy()
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def _numpy_features(clip, pictures, texts):
    """Features by the network, all else by numpy in double precision, for pictures of the network's size."""
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = (pictures.double().numpy() - mean[:, None, None]) / std[:, None, None]
    tokens = clip.tokenizer(texts, padding="max_length", max_length=20, return_tensors="pt")
    with torch.no_grad():
        images = clip.network.get_image_features(pixel_values=torch.from_numpy(pixels).float()).pooler_output
        words = clip.network.get_text_features(**tokens).pooler_output
    return _unit(images), _unit(words)


@pytest.fixture
def numpy_features():
    """Features of pictures and texts, computed apart from the metrics."""
    return _numpy_features
