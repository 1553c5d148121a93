"""Instructions: they name what changes, in words the tokenizer has."""

import numpy as np
import pytest

from threestudio_ssd.toyworld import ATTRIBUTES, Attributes, sample_attributes
from threestudio_ssd.toyworld.captions import MAX_TOKENS
from threestudio_ssd.toyworld.instructions import instructions, random_change, random_instruction, random_other
from threestudio_ssd.toyworld.tokenizer import build_tokenizer

SOURCE = Attributes("ball", "red", "plain", "grass", "day")


def test_instructions_name_what_changes():
    assert "make it blue" in instructions(SOURCE, SOURCE._replace(color="blue"))
    assert "turn the ball orange" in instructions(SOURCE, SOURCE._replace(color="orange"))
    assert "an orange ball" in instructions(SOURCE, SOURCE._replace(color="orange"))
    assert "put it on snow" in instructions(SOURCE, SOURCE._replace(ground="snow"))
    assert "at night" in instructions(SOURCE, SOURCE._replace(time="night"))
    night = SOURCE._replace(time="night")
    assert {"by day", "in daylight"} <= set(instructions(night, SOURCE))
    with pytest.raises(ValueError, match="one attribute must differ"):
        instructions(SOURCE, SOURCE)


def test_every_instruction_fits_the_tokenizer(tmp_path):
    tokenizer = build_tokenizer(tmp_path)
    longest = 0
    for name, words in ATTRIBUTES.items():
        for thing in ATTRIBUTES["object"]:
            source = SOURCE._replace(object=thing)
            for word in set(words) - {getattr(source, name)}:
                for text in instructions(source, source._replace(**{name: word})):
                    ids = tokenizer(text).input_ids
                    longest = max(longest, len(ids))
                    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    assert longest <= MAX_TOKENS


def test_changes_are_spread_over_attributes():
    rng = np.random.default_rng(0)
    names = [random_change(sample_attributes(rng), rng)[1] for _ in range(200)]
    assert {names.count(name) > 20 for name in ATTRIBUTES} == {True}
    target, name = random_change(SOURCE, rng)
    assert [each for each in ATTRIBUTES if getattr(target, each) != getattr(SOURCE, each)] == [name]
    assert random_instruction(SOURCE, target, rng) in instructions(SOURCE, target)


def test_another_word_is_any_but_the_one():
    rng = np.random.default_rng(0)
    words = {random_other("time", "day", rng) for _ in range(50)}
    assert words == {"night", "sunset"}
