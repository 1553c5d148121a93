"""What the prompt of a view says of where it is from."""

import pytest
import torch
from omegaconf import OmegaConf

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.cameras import orbit_cameras
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.refits.view_words import (
    ViewWordsConfig,
    all_view_words,
    check_view_words,
    phrases_of,
    view_words,
)
from threestudio_ssd.toyworld.captions import CUBE_SIDES, HEIGHTS, OBJECTS_WITH_FRONT, SIDES
from threestudio_ssd.toyworld.views import words_of_views

OF_EMBEDDED = [
    {"of": list(OBJECTS_WITH_FRONT), "say": [f"from {side}" for side in SIDES]},
    {"of": ["cube"], "say": [f"from {side}" for side in CUBE_SIDES] * 4},
]
HEIGHTS_OF_EMBEDDED = [{"from_deg": int(least_deg), "say": f"seen {word}"} for word, least_deg in HEIGHTS]
UP, CENTER = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 0.9])


def keys(**values):
    return OmegaConf.merge(OmegaConf.structured(ViewWordsConfig), values)


def ring(elevation_deg):
    return orbit_cameras(CENTER, 5.0, elevation_deg, torch.arange(16) * 22.5 + 3, 40.0, 64, 64, up="+z")


@pytest.mark.parametrize("thing", ["car", "house", "snowman", "cube", "ball"])
@pytest.mark.parametrize("elevation_deg", [10.0, 24.0, 40.0])
def test_the_words_that_the_embedded_model_was_trained_with_can_be_said(thing, elevation_deg):
    cfg = keys(sides=OF_EMBEDDED, heights=HEIGHTS_OF_EMBEDDED)
    cameras, target = ring(elevation_deg), f"a photo of a red {thing} on grass"
    words = view_words(cfg, target, cameras, CENTER, UP)
    assert words == words_of_views(cameras, thing, 0.0)
    assert set(words) <= set(all_view_words(cfg, target))


def test_objects_that_no_entry_names_have_none():
    assert phrases_of(keys(sides=OF_EMBEDDED), "a photo of a red ball on grass") == []
    assert phrases_of(keys(), "a photo of a red car on grass") == []
    assert all_view_words(keys(sides=OF_EMBEDDED), "a photo of a red ball on grass") == []
    assert view_words(keys(sides=OF_EMBEDDED), "a ball", ring(10.0), CENTER, UP) == [""] * 16


@pytest.mark.parametrize("target", ["A photo of a Car.", "a car, red, on grass", "(car)"])
def test_a_word_is_read_whatever_stands_beside_it(target):
    cfg = keys(sides=[{"of": ["Car"], "say": [", front view", ", back view"]}])
    assert phrases_of(cfg, target) == [", front view", ", back view"]
    assert phrases_of(cfg, target.replace("ar", "art")) == []


def test_any_object_may_have_four_sides_and_its_front_may_look_anywhere():
    sides = [", front view", ", side view", ", back view", ", side view"]
    cfg = keys(sides=[{"say": sides}], heights=[{"from_deg": 60, "say": ", from above"}], front_deg=90.0)
    cameras = orbit_cameras(CENTER, 5.0, [10.0, 10.0, 10.0, 70.0], [0.0, 90.0, 180.0, 270.0], 40.0, 64, 64, up="+z")
    azimuths = torch.atan2(cameras.centers[:, 1], cameras.centers[:, 0]).rad2deg().round() % 360
    words = dict(zip(azimuths.int().tolist(), view_words(cfg, "a teapot", cameras, CENTER, UP), strict=True))
    begins = {angle: ", from above" * (angle == azimuths[3].int()) for angle in words}
    assert words == {
        90: f"{begins[90]}, front view", 180: f"{begins[180]}, side view", 270: f"{begins[270]}, back view",
        0: f"{begins[0]}, side view",
    }  # fmt: skip


def test_what_is_no_list_of_phrases_is_refused():
    for wrong in (
        ", front view",
        {"say": []},
        {"say": [1, 2]},
        {"say": ", front view"},
        {"of": "car", "say": ["a"]},
        {},
    ):
        with pytest.raises(ConfigError, match=r"system\.view_words\.sides\[0\] is"):
            check_view_words(keys(sides=[wrong]))


@pytest.mark.parametrize(
    "wrong",
    [[", from above"], [{"say": "above"}], [{"from_deg": "60", "say": "above"}], [{"from_deg": 60, "say": 3}],
     [{"from_deg": 100, "say": "above"}], [{"from_deg": True, "say": "above"}]],
)  # fmt: skip
def test_what_is_no_height_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"system\.view_words\.heights\[0\] is"):
        check_view_words(keys(heights=wrong))


def test_heights_in_another_order_are_refused():
    heights = [{"from_deg": 60, "say": "above"}, {"from_deg": 30, "say": "high"}]
    with pytest.raises(ConfigError, match=r"heights begin at \[60, 30\] degrees"):
        check_view_words(keys(heights=heights))
    check_view_words(keys(heights=heights[::-1]))


def test_the_preset_for_shapes_says_what_the_embedded_model_learned_and_only_to_it():
    preset = REPOSITORY / "configs" / "shape-gs.yaml"
    own, drawn, other = (
        complete(load_config(preset, cli_args=given)).system.view_words
        for given in ([], ["model=data/tiny-ldm"], ["model=other"])
    )
    said = {word: list(each.say) for each in own.sides for word in each.of}
    assert said == {word: each["say"] for each in OF_EMBEDDED for word in each["of"]}
    assert list(own.heights) == HEIGHTS_OF_EMBEDDED
    assert drawn == own
    assert list(other.sides) == list(other.heights) == []


def test_the_preset_for_shapes_edits_with_the_instruct_pix2pix_unless_a_model_is_named():
    preset = REPOSITORY / "configs" / "shape-gs.yaml"
    own, ip2p = (complete(load_config(preset, cli_args=given)).system for given in (["model=data/tiny-ldm"], []))
    assert [each.editing.editor.name for each in (own, ip2p)] == ["sdedit", "ip2p-unguided"]
    assert ip2p.view_words == own.view_words
    assert [len(each.rounds) for each in (own, ip2p)] == [3, 1], "one is enough where views agree from the start"
    assert [each.editing.consistency.name for each in (own, ip2p)] == ["none", "ray-map"]
    assert not any(each.get("resize") or each.get("relight") for each in ip2p.rounds)
