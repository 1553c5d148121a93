"""Captions say what a scene shows, in words that are one token each."""

import numpy as np
import pytest

from threestudio_ssd.toyworld import ATTRIBUTES, Attributes, orbit_camera, sample_attributes
from threestudio_ssd.toyworld.captions import (
    FRAMINGS,
    MAX_TOKENS,
    PREFIXES,
    SIDES,
    SYNONYMS,
    VIEW_SHARE,
    describe,
    describe_empty,
    framed_prefix,
    framing_of,
    parse_caption,
    random_caption,
    random_view_caption,
    view_words,
)
from threestudio_ssd.toyworld.shapes import object_surface


@pytest.mark.parametrize(
    ("attributes", "caption"),
    [
        (Attributes(), "a photo of a red ball on grass"),
        (Attributes(color="orange"), "a photo of an orange ball on grass"),
        (Attributes("house", "white", "dotted", "snow", "night"), "a photo of a white dotted house on snow at night"),
        (Attributes("car", "pink", "striped", "wood", "sunset"), "a photo of a pink striped car on wood at sunset"),
    ],
)
def test_full_captions(attributes, caption):
    assert describe(attributes) == caption


def test_captions_are_read_back():
    rng = np.random.default_rng(0)
    for _ in range(200):
        attributes = sample_attributes(rng)
        named = parse_caption(describe(attributes))
        assert all(getattr(attributes, key) == value for key, value in named.items())
        assert {"object", "color", "ground"} <= set(named)
        assert ("pattern" in named) == (attributes.pattern != "plain")
        assert ("time" in named) == (attributes.time != "day")


def test_random_captions_never_say_what_is_not_there_and_leave_out_a_little():
    rng = np.random.default_rng(0)
    said = dict.fromkeys(ATTRIBUTES, 0)
    for _ in range(2000):
        attributes = Attributes("house", "red", "striped", "sand", "night")
        named = parse_caption(random_caption(attributes, rng))
        assert all(getattr(attributes, key) == value for key, value in named.items())
        for key in named:
            said[key] += 1
    wanted = {"object": 1.0, "color": 0.96, "pattern": 1.0, "ground": 0.85, "time": 1.0}
    for key, share in wanted.items():
        assert said[key] / 2000 == pytest.approx(share, abs=0.025), key


def test_what_goes_without_saying_goes_unsaid_only_where_it_holds():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        attributes = sample_attributes(rng)
        named = parse_caption(random_view_caption(attributes, bool(rng.uniform() < 0.8), "", 90, 20, rng))
        assert "time" in named or attributes.time == "day"
        assert "pattern" in named or attributes.pattern == "plain" or "object" not in named


def test_synonyms_mean_the_same():
    assert parse_caption("A cottage in daylight") == {"object": "house", "time": "day"}
    assert parse_caption("a torus") == {"object": "donut"}
    assert parse_caption("a sphere") == {"object": "ball"}
    assert parse_caption("nothing of that kind") == {}


@pytest.mark.parametrize(
    ("thing", "azimuth_deg", "elevation_deg", "words"),
    [
        ("car", 0, 14.9, "seen low from the front"),
        ("car", -359, 15, "seen raised from the front"),
        ("house", 90, 24.9, "seen raised from the left"),
        ("snowman", 180, 35, "seen steeply from the back"),
        ("car", 315, 34.9, "seen high from the front right"),
        ("car", 22.5, 60, "seen overhead from left of front"),
        ("car", 67.5, 25, "seen high from front of left"),
        ("car", -22.5, -5, "seen low from right of front"),
        ("cube", 182, 10, "seen low from a side"),
        ("cube", -45, 10, "seen low from a corner"),
        ("cube", 70, 10, "seen low from right of a corner"),
        ("cube", 110, 10, "seen low from left of a corner"),
        ("ball", 70, 10, "seen low"),
        ("", 70, 50, "seen overhead"),
    ],
)
def test_words_of_a_view(thing, azimuth_deg, elevation_deg, words):
    assert view_words(thing, azimuth_deg, elevation_deg) == words


def test_every_side_is_a_sixteenth_of_the_way_round():
    quarters = np.arange(-360, 1080, 0.5) / 2
    seen = [view_words("car", azimuth_deg, 10).removeprefix("seen low from ") for azimuth_deg in quarters]
    assert {side: seen.count(side) for side in SIDES} == dict.fromkeys(SIDES, 180)


def test_a_camera_left_of_a_corner_has_the_corner_to_its_right():
    camera = orbit_camera(22.5, 10)
    assert view_words("cube", 22.5, 10) == "seen low from left of a corner"
    columns = [(camera.viewmat @ np.array([x, y, 0.9, 1.0]))[0] for x, y in ((1, 1), (1, -1))]
    assert 0 < columns[0] < 0.6 < -columns[1]


@pytest.mark.parametrize(("thing", "part"), [("house", (0.07, 0.07, 0.08)), ("snowman", (0.95, 0.45, 0.08))])
def test_door_and_nose_are_at_the_front(thing, part):
    surface = object_surface(thing, 3200, np.random.default_rng(0))
    x, y, z = surface.points[np.all(surface.rgbs == part, 1) & (surface.points[:, 2] < 1.9)].mean(0)
    assert view_words(thing, np.degrees(np.arctan2(y, x)), 0) == "seen low from the front"
    assert z < 1.9


def test_most_captions_tell_where_the_view_is_from():
    rng = np.random.default_rng(0)
    attributes = Attributes("car", "red", "striped", "sand", "night")
    captions = [random_view_caption(attributes, True, "", 90, 20, rng) for _ in range(2000)]
    told = [caption.endswith(" seen raised from the left") for caption in captions]
    assert np.mean(told) == pytest.approx(VIEW_SHARE, abs=0.03)
    assert not any("seen" in caption for caption, is_told in zip(captions, told, strict=True) if not is_told)
    balls = [random_view_caption(attributes._replace(object="ball"), True, "", 90, 20, rng) for _ in range(50)]
    assert {caption.partition(" seen ")[2] for caption in balls} == {"", "raised"}


@pytest.mark.parametrize(
    ("share", "offset", "framing"),
    [(0.5, 0.1, ""), (0.63, 0.9, "closeup"), (0.37, 0.9, "panorama"), (0.5, 0.26, "snapshot"), (0.5, 0.24, "")],
)
def test_framings(share, offset, framing):
    assert framing_of(share, offset) == framing


def test_a_photo_has_its_object_in_the_middle_and_other_framings_are_told():
    rng, attributes = np.random.default_rng(0), Attributes("ball", "red", "striped", "sand", "night")
    begins = [random_view_caption(attributes, True, "closeup", 0, 0, rng).partition(" red ")[0] for _ in range(1000)]
    assert set(begins) >= {"a closeup of a", "a"}
    assert not [begin for begin in begins if "photo" in begin or "picture" in begin or "render" in begin]
    assert np.mean([begin.startswith(framed_prefix("closeup")) for begin in begins]) == pytest.approx(0.75, abs=0.05)
    assert framed_prefix("") == PREFIXES[0]


def test_captions_without_an_object_name_ground_and_time_alone():
    assert describe_empty("grass", "night") == "a photo of grass at night"
    assert describe_empty("snow", "day", prefix="") == "snow"
    rng = np.random.default_rng(0)
    captions = {random_view_caption(Attributes("car", "red", "dotted", "sand", "night"), False, "closeup", 0, 40, rng)
                for _ in range(400)}  # fmt: skip
    wanted = {"empty sand at night", "a photo of sand at night seen steeply", "a render of empty sand at night"}
    assert wanted <= captions
    for caption in captions:
        assert set(parse_caption(caption)) == {"ground", "time"}
        assert parse_caption(caption)["ground"] == "sand"


def test_every_word_is_one_token_and_every_caption_fits(tmp_path):
    from transformers import CLIPTokenizer

    from threestudio_ssd.toyworld.tokenizer import build_tokenizer

    build_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    names = [name for names in SYNONYMS.values() for name in names]
    places = "seen low raised high steeply overhead from the front left of back right a side corner empty".split()
    for word in [*names, *places, *FRAMINGS[1:], *(word for words in ATTRIBUTES.values() for word in words)]:
        assert len(tokenizer(word)["input_ids"]) == 3, word
    assert tokenizer("Red  Ball")["input_ids"] == tokenizer("red ball")["input_ids"]
    longest = "a picture of an orange checkered cube on grass in daylight seen overhead from left of a corner"
    assert PREFIXES[1] in longest
    assert longest.endswith(view_words("cube", 20, 50))
    assert len(tokenizer(longest)["input_ids"]) <= MAX_TOKENS
    assert tokenizer.model_max_length == MAX_TOKENS
    unknown = tokenizer("zzyzx qwerty")["input_ids"]
    assert unknown[0] == tokenizer.bos_token_id
