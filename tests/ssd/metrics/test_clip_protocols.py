"""The correct protocol and the released script's: what each computes, and that the latter says so."""

import pytest
import torch

from threestudio_ssd.metrics import clip_directional_similarity, clip_scores, clip_similarity

SOURCE, TARGET = "a red ball on grass", "a blue ball on grass"


@pytest.fixture
def views():
    """Twelve different pictures of the network's size."""
    return torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def test_paired_views_are_the_means_of_the_metrics(random_clip, views):
    scores = clip_scores(views, 1 - views, SOURCE, TARGET, random_clip)
    similarity = clip_similarity(1 - views, TARGET, random_clip).mean()
    directional = clip_directional_similarity(views, 1 - views, SOURCE, TARGET, random_clip).mean()
    assert scores.similarity == pytest.approx(similarity.item(), abs=1e-6)
    assert scores.directional_similarity == pytest.approx(directional.item(), abs=1e-6)
    assert (scores.num_views, scores.protocol) == (12, "paired-views")
    assert scores.model == random_clip.label


def test_paired_views_can_be_fewer(random_clip, views):
    scores = clip_scores(views, 1 - views, SOURCE, TARGET, random_clip, num_views=5)
    assert scores.num_views == 5
    assert scores == clip_scores(views[:5], 1 - views[:5], SOURCE, TARGET, random_clip)


def released(clip, sources, edits, source_prompt, target_prompt, seed, num_views=None):
    return clip_scores(
        sources, edits, source_prompt, target_prompt, clip, protocol="ssd-released-script", num_views=num_views,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def test_released_script_says_what_is_wrong_with_it(random_clip, views):
    scores = released(random_clip, views, 1 - views, SOURCE, TARGET, 0)
    assert scores.protocol == "ssd-released-script"
    for defect in ("0-255", "transposed", "drawn separately", "absolute", "does not measure the edit"):
        assert defect in scores.note


def test_released_script_gives_a_score_to_no_edit_at_all(random_clip, views):
    assert clip_scores(views, views, SOURCE, TARGET, random_clip).directional_similarity == 0
    assert released(random_clip, views, views, SOURCE, TARGET, 0).directional_similarity > 0.01


def test_released_script_draws_the_pairs_by_chance(random_clip, views):
    first = released(random_clip, views, 1 - views, SOURCE, TARGET, 0, num_views=6)
    assert first == released(random_clip, views, 1 - views, SOURCE, TARGET, 0, num_views=6)
    assert first != released(random_clip, views, 1 - views, SOURCE, TARGET, 1, num_views=6)
    assert first.num_views == 6


def test_released_script_cannot_tell_an_edit_from_its_opposite(random_clip, views):
    forth = released(random_clip, views, 1 - views, SOURCE, TARGET, 0).directional_similarity
    undone = released(random_clip, views, 1 - views, TARGET, SOURCE, 0).directional_similarity
    assert forth == pytest.approx(undone, abs=1e-6)


def test_released_script_feeds_0_255_and_transposed_pictures(random_clip, views):
    scores = released(random_clip, views, views, SOURCE, TARGET, 0)
    features = random_clip.embed_prepared(random_clip.prepare(255 * views.transpose(2, 3)))
    expected = (features @ random_clip.embed_texts([TARGET])[0]).abs().mean()
    assert scores.similarity == pytest.approx(expected.item(), abs=1e-6)


def test_an_unknown_protocol_is_refused(random_clip, views):
    with pytest.raises(Exception, match="protocol"):
        clip_scores(views, views, SOURCE, TARGET, random_clip, protocol="other")
