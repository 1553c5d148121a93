"""CLIP similarity against a numpy computation; preparation of pictures; the embedded CLIP judges known edits."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.metrics import check_clip, clip_similarity, edited_region_similarity, load_clip, read_clip


def test_agrees_with_numpy(random_clip, pictures, numpy_features):
    pictures = pictures[..., :32, :32]
    texts = ["a red ball", "a blue cube on snow"]
    images, words = numpy_features(random_clip, pictures, texts)
    np.testing.assert_allclose(clip_similarity(pictures, texts, random_clip), (images * words).sum(-1), atol=1e-5)
    expected = (images * words[:1]).sum(-1)
    np.testing.assert_allclose(clip_similarity(pictures, texts[0], random_clip), expected, atol=1e-5)


def test_pictures_are_stretched_to_the_square_not_cropped(random_clip):
    wide = torch.zeros(1, 3, 40, 80)
    wide[..., 40:] = 1.0
    prepared = random_clip.prepare(wide)
    assert prepared.shape[-2:] == (32, 32)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    torch.testing.assert_close(prepared[0, :, 5, 2], -mean / std)
    torch.testing.assert_close(prepared[0, :, 5, -3], (1 - mean) / std)


def test_bicubic_without_antialiasing_as_in_the_published_metric(random_clip, pictures):
    expected = torch.nn.functional.interpolate(pictures, (32, 32), mode="bicubic", align_corners=False)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    expected = (expected - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(random_clip.prepare(pictures), expected)
    assert not random_clip.antialias


def test_a_worse_edit_scores_lower(toy_pairs):
    """Six target prompts: the scene they describe, against another edit and against the source."""
    right, wrong, none = (
        clip_similarity(each, toy_pairs.target_prompts)
        for each in (toy_pairs.targets, toy_pairs.wrongs, toy_pairs.sources)
    )
    assert (right > wrong + 0.2).all()
    assert (right > none + 0.2).all()
    assert right.min() > 0.7
    assert wrong.max() < 0.55


def test_pictures_in_0_255_are_refused(random_clip, pictures):
    with pytest.raises(ValueError, match="divide by 255"):
        clip_similarity(pictures * 255, "a ball", random_clip)


def test_prompts_must_fit_in_number(random_clip, pictures):
    with pytest.raises(ValueError, match="3 prompts for 2 pictures"):
        clip_similarity(pictures, ["a", "b", "c"], random_clip)


def test_a_missing_model_is_named():
    with pytest.raises(ConfigError, match=r"clip_model folder '\./nowhere' does not exist"):
        load_clip("./nowhere")


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_clip(str(tmp_path))


@pytest.fixture
def copied(clip_folder, tmp_path):
    """A copy of the random CLIP, to damage."""
    return shutil.copytree(clip_folder, tmp_path / "clip")


def test_a_check_costs_no_memory(clip_folder):
    check_clip(str(clip_folder))
    assert {weight.device.type for weight in read_clip(str(clip_folder), "meta").network.parameters()} == {"meta"}


@pytest.mark.parametrize("ask", [check_clip, load_clip])
def test_weights_cut_off_in_the_middle_are_named(copied, ask):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be read"):
        ask(str(copied))


@pytest.mark.parametrize("ask", [check_clip, load_clip])
def test_missing_weights_are_not_filled_with_random_numbers(copied, ask):
    weights = load_file(copied / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 weights are missing, visual_projection\.weight first"):
        ask(str(copied))


def test_a_hub_id_that_is_not_in_the_cache_is_named_offline():
    with pytest.raises(ConfigError, match="clip_model 'owner/no-such-clip' cannot be fetched"):
        check_clip("owner/no-such-clip", offline=True)


def test_the_edited_region_alone(random_clip, pictures):
    masks = pictures[:, 0] > 0.5
    masks[1] = False
    value = edited_region_similarity(pictures, masks, "a ball", random_clip)
    expected = clip_similarity(pictures * masks[:, None], "a ball", random_clip)
    torch.testing.assert_close(value[0], expected[0])
    assert value[1].isnan()
