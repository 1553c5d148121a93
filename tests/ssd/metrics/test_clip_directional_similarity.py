"""The directional similarity: definition, symmetry, what it is for no edit, and known edits by the embedded CLIP."""

import numpy as np
import pytest
import torch

from threestudio_ssd.metrics import clip_direction_consistency, clip_directional_similarity

SOURCE, TARGET = "a red ball on grass", "a blue ball on grass"


def test_agrees_with_numpy(random_clip, pictures, numpy_features):
    edited, source = pictures[..., :32, :32], pictures[..., 16:, 16:]
    after, words = numpy_features(random_clip, edited, [SOURCE, TARGET])
    before, _ = numpy_features(random_clip, source, [SOURCE])
    change, text = after - before, words[1] - words[0]
    expected = (change @ text) / np.linalg.norm(change, axis=-1) / np.linalg.norm(text)
    value = clip_directional_similarity(source, edited, SOURCE, TARGET, random_clip)
    np.testing.assert_allclose(value, expected, atol=1e-4)


def test_exchanging_source_and_edit_everywhere_changes_nothing(random_clip, pictures):
    source, edited = pictures, 1 - pictures
    forth = clip_directional_similarity(source, edited, SOURCE, TARGET, random_clip)
    back = clip_directional_similarity(edited, source, TARGET, SOURCE, random_clip)
    torch.testing.assert_close(forth, back)


def test_the_sign_is_kept(random_clip, pictures):
    forth = clip_directional_similarity(pictures, 1 - pictures, SOURCE, TARGET, random_clip)
    undone = clip_directional_similarity(pictures, 1 - pictures, TARGET, SOURCE, random_clip)
    torch.testing.assert_close(forth, -undone)
    assert forth.abs().min() > 1e-3


def test_no_edit_is_zero_and_not_nan(random_clip, pictures):
    same = clip_directional_similarity(pictures, pictures, SOURCE, TARGET, random_clip)
    assert torch.equal(same, torch.zeros(2))
    one_of_two = torch.stack([pictures[0], 1 - pictures[1]])
    value = clip_directional_similarity(pictures, one_of_two, SOURCE, TARGET, random_clip)
    assert value[0] == 0
    assert value[1] != 0


def test_equal_prompts_are_zero(random_clip, pictures):
    value = clip_directional_similarity(pictures, 1 - pictures, SOURCE, SOURCE, random_clip)
    assert torch.equal(value, torch.zeros(2))


def test_a_worse_edit_scores_lower(toy_pairs):
    """Six edits: the scene that the prompt describes against another that it does not."""
    prompts = toy_pairs.source_prompts, toy_pairs.target_prompts
    right, wrong = (
        clip_directional_similarity(toy_pairs.sources, each, *prompts) for each in (toy_pairs.targets, toy_pairs.wrongs)
    )
    assert (right > wrong + 0.2).all()
    assert right.min() > 0.8
    assert wrong.max() < 0.6


def test_pictures_in_0_255_are_refused(random_clip, pictures):
    with pytest.raises(ValueError, match="divide by 255"):
        clip_directional_similarity(pictures * 255, pictures, SOURCE, TARGET, random_clip)


def test_consistency_compares_neighbours(random_clip):
    sources = torch.rand(4, 3, 32, 32)
    value = clip_direction_consistency(sources, 1 - sources, random_clip)
    assert value.shape == (3,)
    assert value.abs().max() <= 1 + 1e-5
    repeated = sources[:1].expand(3, -1, -1, -1)
    torch.testing.assert_close(clip_direction_consistency(repeated, 1 - repeated, random_clip), torch.ones(2))
