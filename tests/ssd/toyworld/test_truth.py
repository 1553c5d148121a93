"""The truth of toy edits: regions, parts and backdrop."""

import pytest

from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.truth import make_truth
from threestudio_ssd.toyworld.views import held_out_orbit
from threestudio_ssd.toyworld.world import PART_GROUND, PART_OBJECT, PART_SKY

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


def test_parts_and_backdrop_show_the_target():
    truth = make_truth(toy_edit("snow"), 3, VIEWS)
    ground, sky = (truth.target.movedim(1, -1)[truth.parts == part].mean(0) for part in (PART_GROUND, PART_SKY))
    assert ground.min() > 0.7
    assert sky[2] > sky[0] + 0.2
    change = (truth.backdrop - truth.target).abs().amax(1)
    assert change[truth.parts == PART_OBJECT].mean() > 0.3
    assert change[truth.parts == PART_SKY].mean() < 0.03
