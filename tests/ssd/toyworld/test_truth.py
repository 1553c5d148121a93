"""The judge of toy edits: regions, and every figure prefers what is right."""

import pytest
import torch

from threestudio_ssd.toyworld.classifier import load_classifier
from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.truth import judge_images, make_truth, target_probability
from threestudio_ssd.toyworld.views import held_out_orbit

VIEWS = held_out_orbit(64)[:3]


@pytest.mark.parametrize("name", ["blue-ball", "snow", "sunset", "null-ball"])
def test_regions_follow_what_the_edit_is_about(name):
    truth = make_truth(toy_edit(name), 3, VIEWS)
    change = (truth.target - truth.source).abs().amax(1)
    assert change[truth.outside].numel() == 0 or change[truth.outside].max() < 0.03
    assert not (truth.inside & truth.outside).any() or name.startswith("null")
    if name == "sunset":
        assert truth.inside.all()
        assert not truth.outside.any()
    elif not name.startswith("null"):
        assert 0.02 < truth.inside.float().mean() < 0.8
        assert truth.outside.float().mean() > 0.15
        assert change[truth.inside].mean() > 0.1


@pytest.mark.parametrize("name", ["blue-ball", "snow", "sunset"])
def test_every_figure_prefers_the_truth_to_the_source_and_to_a_grey_one(name):
    truth, read = make_truth(toy_edit(name), 3, VIEWS), load_classifier()
    right, source = judge_images(truth.target, truth, read), judge_images(truth.source, truth, read)
    assert right["success"] == 1 > source["success"]
    assert right["truth_psnr"] == 100 > source["truth_psnr"]
    assert right["truth_ssim"] > 0.999 > source["truth_ssim"]
    assert right["truth_distance"] < source["truth_distance"]
    assert right["consistency"] == 1
    assert right["saturation_drift"] == pytest.approx(0, abs=1e-6)
    grey = truth.target.mean(1, keepdim=True).expand_as(truth.target).contiguous()
    assert judge_images(grey, truth, read)["saturation_drift"] < -0.02
    assert target_probability(truth.target, truth, read) > 0.8 > 0.2 > target_probability(truth.source, truth, read)
    if name == "sunset":
        assert right["outside_psnr"] is None
    else:
        assert source["outside_psnr"] == 100
        assert judge_images(grey, truth, read)["outside_psnr"] < 30


def test_a_null_edit_succeeds_where_nothing_changed():
    truth, read = make_truth(toy_edit("null-ball"), 3, VIEWS), load_classifier()
    kept = judge_images(truth.source, truth, read)
    assert (kept["success"], kept["outside_psnr"]) == (1, 100)
    assert target_probability(truth.source, truth, read) is None
    other = make_truth(toy_edit("blue-ball"), 3, VIEWS).target
    assert judge_images(other, truth, read)["success"] == 0


def test_views_that_disagree_are_inconsistent():
    truth = make_truth(toy_edit("blue-ball"), 3, VIEWS)
    mixed = torch.cat([truth.target[:1], truth.source[1:]])
    assert judge_images(mixed, truth)["consistency"] == pytest.approx(2 / 3)
    single = make_truth(toy_edit("blue-ball"), 3, VIEWS[:1])
    assert judge_images(single.target, single)["consistency"] is None
