"""Words that a small model has never met."""

import pytest

from threestudio.plugins import REPOSITORY
from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.toyworld.captions import describe
from threestudio_ssd.toyworld.instructions import instructions
from threestudio_ssd.toyworld.tokenizer import known_words
from threestudio_ssd.toyworld.vocabulary import Attributes

EMBEDDED = ("tiny-ldm", "tiny-ip2p")


@pytest.fixture(scope="module", params=EMBEDDED)
def embedded(request):
    return load_backbone(REPOSITORY / "data" / request.param)


def test_the_embedded_models_say_which_words_they_have_met(embedded):
    assert embedded.text_encoders.tokenizers[0].init_kwargs["known_words"] == known_words()


def test_words_that_an_embedded_model_has_never_met_are_named_once(embedded, warnings_seen):
    embedded.warn_of_unknown_words(["a photo of a Dragon on grass, 2 lamps", "a dragon"])
    assert len(warnings_seen) == 1
    assert 'has never met "dragon", "lamps", so' in warnings_seen[0]


def test_captions_and_instructions_are_known(embedded, warnings_seen):
    before, after = (
        Attributes("ball", "orange", "striped", "sand", "night"),
        Attributes("house", "orange", "striped", "sand", "night"),
    )
    embedded.warn_of_unknown_words([describe(before), describe(after), *instructions(before, after), ""])
    assert warnings_seen == []


def test_a_model_that_does_not_say_what_it_knows_is_not_doubted(backbone, warnings_seen):
    backbone.warn_of_unknown_words(["a dragon"])
    assert warnings_seen == []
