"""Captions say what a scene shows, in words that are one token each."""

import numpy as np
import pytest

from threestudio_ssd.toyworld import ATTRIBUTES, Attributes, sample_attributes
from threestudio_ssd.toyworld.captions import MAX_TOKENS, PREFIXES, SYNONYMS, describe, parse_caption, random_caption


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
    wanted = {"object": 1.0, "color": 0.96, "pattern": 0.95, "ground": 0.85, "time": 0.90}
    for key, share in wanted.items():
        assert said[key] / 2000 == pytest.approx(share, abs=0.025), key


def test_synonyms_mean_the_same():
    assert parse_caption("A cottage in daylight") == {"object": "house", "time": "day"}
    assert parse_caption("a torus") == {"object": "donut"}
    assert parse_caption("a sphere") == {"object": "ball"}
    assert parse_caption("nothing of that kind") == {}


def test_every_word_is_one_token_and_every_caption_fits(tmp_path):
    from transformers import CLIPTokenizer

    from threestudio_ssd.toyworld.tokenizer import build_tokenizer

    build_tokenizer(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    names = [name for names in SYNONYMS.values() for name in names]
    for word in [*names, *(word for words in ATTRIBUTES.values() for word in words)]:
        assert len(tokenizer(word)["input_ids"]) == 3, word
    assert tokenizer("Red  Ball")["input_ids"] == tokenizer("red ball")["input_ids"]
    longest = "a picture of an orange checkered cylinder on grass in daylight"
    assert PREFIXES[1] in longest
    assert len(tokenizer(longest)["input_ids"]) <= MAX_TOKENS
    assert tokenizer.model_max_length == MAX_TOKENS
    unknown = tokenizer("zzyzx qwerty")["input_ids"]
    assert unknown[0] == tokenizer.bos_token_id
