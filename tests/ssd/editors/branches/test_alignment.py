"""Words and tokens: which columns a word fills, and which of them stand for which."""

import pytest
import torch

from threestudio_ssd.diffusion import load_backbone, random_backbone
from threestudio_ssd.diffusion.clip_tokenizer import clip_tokenizer
from threestudio_ssd.diffusion.prompts import TextEncoders
from threestudio_ssd.diffusion.words import prompt_words
from threestudio_ssd.editors.branches.alignment import refined, replaced


def words(*texts, tokenizer=None):
    """With CLIP's own merges, unless another tokenizer is given."""
    tokenizer = tokenizer or clip_tokenizer()
    found = prompt_words(TextEncoders([tokenizer], [None], torch.device("cpu")), texts)
    return [found[text] for text in texts]


@pytest.mark.parametrize("kind", ["clip", "letters", "tiny"])
def test_the_columns_of_words_are_those_of_their_tokens(kind):
    backbones = {"letters": random_backbone, "tiny": lambda: load_backbone("data/tiny-ldm", device="cpu")}
    tokenizer = clip_tokenizer() if kind == "clip" else backbones[kind]().text_encoders.tokenizers[0]
    text = "A photo of a sea-green donut, at night"
    (found,) = words(text, tokenizer=tokenizer)
    ids = tokenizer(text, padding="max_length", truncation=True)["input_ids"]
    assert found.length == len(ids) == tokenizer.model_max_length
    columns = found.columns_of("DONUT")
    spelt = tokenizer("donut", add_special_tokens=False)["input_ids"]
    assert [ids[column] for column in columns] == spelt[: len(columns)]
    if found.end < found.length:
        assert ids[found.end] == tokenizer.eos_token_id
    assert found.columns_of("snow") == found.columns_of("") == []
    assert found.columns_of("at night") == [*found.columns_of("at"), *found.columns_of("night")]


def test_refined_words_keep_their_columns_and_new_ones_have_none():
    source, target = words("a photo of a cat on grass", "a photo of a fluffy siamese cat on the grass")
    alignment = refined(source, target)
    for word in ("photo", "cat", "grass"):
        old, new = source.columns_of(word), target.columns_of(word)
        assert alignment.share[new].tolist() == [1.0] * len(new)
        assert alignment.mapper[old, new].tolist() == [1.0] * len(new)
    for word in ("fluffy", "siamese", "the"):
        assert alignment.share[target.columns_of(word)].sum() == 0
        assert alignment.mapper[:, target.columns_of(word)].sum() == 0
    assert alignment.mapper[source.end, target.end] == alignment.mapper[0, 0] == 1


def test_replaced_words_share_the_columns_of_the_word_in_their_place():
    source, target = words("a cat on grass", "a schnauzer on grass")
    alignment = replaced(source, target)
    (old,), new = source.columns_of("cat"), target.columns_of("schnauzer")
    assert len(new) > 1
    assert alignment.mapper[old, new].tolist() == [1 / len(new)] * len(new)
    weights = torch.rand(2, 3, 5, source.length)
    carried = alignment.carried(weights, torch.rand(2, 3, 5, source.length))
    torch.testing.assert_close(carried[..., new].sum(-1), weights[..., old])
    with pytest.raises(ValueError, match="zip"):
        replaced(*words("a cat", "a black cat"))


def test_the_same_prompt_is_the_identity():
    (prompt,) = words("a photo of a schnauzer")
    for alignment in (refined(prompt, prompt), replaced(prompt, prompt)):
        torch.testing.assert_close(alignment.mapper, torch.eye(prompt.length))
        assert alignment.share.min() == 1


def test_what_does_not_fit_into_the_length_has_no_columns():
    (found,) = words(" ".join(["word"] * 100))
    assert found.columns[:75] == tuple((place,) for place in range(1, 76))
    assert set(found.columns[75:]) == {()}
