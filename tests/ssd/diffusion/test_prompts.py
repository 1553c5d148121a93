"""Prompt embeddings: rows, null prompts, words that do not fit."""

import pytest
import torch

from threestudio_ssd.diffusion import PromptEmbeds, random_backbone
from threestudio_ssd.diffusion.prompts import dropped_words
from threestudio_ssd.diffusion.random import letter_tokenizer


@pytest.fixture
def embeds():
    return PromptEmbeds(torch.arange(12.0).reshape(3, 2, 2), torch.arange(3.0).reshape(3, 1))


def test_rows_are_indexed(embeds):
    assert len(embeds) == 3
    for index, expected in [
        (1, [1]),
        (slice(1, None), [1, 2]),
        ([2, 0], [2, 0]),
        (torch.tensor([2, 2]), [2, 2]),
        (-1, [2]),
    ]:
        found = embeds[index]
        assert torch.equal(found.hidden, embeds.hidden[expected])
        assert torch.equal(found.pooled, embeds.pooled[expected])


def test_rows_are_concatenated_repeated_and_expanded(embeds):
    joined = PromptEmbeds.cat([embeds[2], embeds[:2]])
    assert joined.pooled.flatten().tolist() == [2, 0, 1]
    assert embeds.repeat(2).pooled.flatten().tolist() == [0, 1, 2, 0, 1, 2]
    assert embeds[1].expand(3).pooled.flatten().tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="only a single prompt can be expanded, these are 3"):
        embeds.expand(2)
    with pytest.raises(ValueError, match="with and without pooled"):
        PromptEmbeds.cat([embeds, PromptEmbeds(embeds.hidden)])
    assert embeds.to(torch.float64).pooled.dtype == torch.float64


def test_one_clip_gives_its_last_layer(backbone):
    embeds = backbone.encode_prompts(["", "a red ball"])
    ids = backbone.text_encoders.tokenizers[0](["", "a red ball"], padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(embeds.hidden, backbone.text_encoders.networks[0](ids).last_hidden_state)
    assert embeds.pooled is None
    assert not torch.allclose(embeds.hidden[0], embeds.hidden[1])


def test_two_clips_give_their_last_layers_but_one_and_the_second_pooled():
    backbone = random_backbone(kind="sdxl")
    embeds = backbone.encode_prompts(["", "a red ball"])
    first, second = backbone.text_encoders.networks
    ids = backbone.text_encoders.tokenizers[0](["", "a red ball"], padding="max_length", return_tensors="pt").input_ids
    outputs = [network(ids, output_hidden_states=True) for network in (first, second)]
    assert torch.equal(embeds.hidden, torch.cat([output.hidden_states[-2] for output in outputs], dim=-1))
    assert torch.equal(embeds.pooled, outputs[1].text_embeds)
    backbone.text_encoders.zero_empty_prompts = True
    zeroed = backbone.encode_prompts(["", "a red ball"])
    assert zeroed.hidden[0].abs().max() == zeroed.pooled[0].abs().max() == 0
    assert torch.equal(zeroed[1].hidden, embeds[1].hidden)


@pytest.mark.parametrize("has_t5", [False, True])
def test_stable_diffusion_3_joins_two_clips_and_a_t5(has_t5, warnings_seen):
    from transformers import T5Config, T5EncoderModel

    backbone = random_backbone(kind="sd3")
    texts, prompts = backbone.text_encoders, ["", "a red ball " * 10]
    t5 = T5EncoderModel(T5Config(vocab_size=600, d_model=64, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).eval()
    if has_t5:
        texts.networks[2], texts.tokenizers[2] = t5, letter_tokenizer(model_max_length=512)
    embeds = backbone.encode_prompts(prompts)
    ids = texts.tokenizers[0](prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    clips = [network(ids, output_hidden_states=True) for network in texts.networks[:2]]
    assert embeds.hidden.shape == (2, 77 + 256, 64)
    assert torch.equal(embeds.hidden[:, :77], torch.cat([clip.hidden_states[-2] for clip in clips], dim=-1))
    assert torch.equal(embeds.pooled, torch.cat([clip.text_embeds for clip in clips], dim=-1))
    assert (embeds.hidden[:, 77:].abs().max() > 0) == has_t5
    assert len(warnings_seen) == (not has_t5)  # the T5 reads what the CLIPs cannot


def test_embedding_a_prompt_does_not_depend_on_its_neighbours(backbone):
    together = backbone.encode_prompts(["", "a red ball", "a much longer prompt of a blue ball"])
    assert torch.allclose(backbone.encode_prompts(["a red ball"]).hidden, together[1].hidden, atol=1e-6)


def test_words_that_do_not_fit_are_named(backbone, warnings_seen):
    fits = "x" * 75
    backbone.encode_prompts([fits, ""])
    assert warnings_seen == []
    embeds = backbone.encode_prompts([f"{fits[:70]} red ball on snow"])
    assert embeds.hidden.shape == (1, 77, 32)
    assert warnings_seen == [
        f'The prompt "{fits[:70]} red ball on snow" has 85 tokens but the model reads 77: "ball on snow" is dropped.'
    ]


@pytest.mark.parametrize(
    ("prompt", "dropped"),
    [
        ("abc def", ""),
        ("abc def gh", "gh"),
        ("abc defgh", "defgh"),
        ("abcdefgh", "abcdefgh"),
        ("abc def  gh", "gh"),
    ],
)
def test_a_word_cut_in_two_counts_as_dropped(prompt, dropped):
    assert dropped_words(letter_tokenizer(model_max_length=8), prompt)[1] == dropped


def test_several_prompts_that_do_not_fit_are_one_warning(backbone, warnings_seen):
    backbone.encode_prompts(["x" * 90, "", "x" * 80 + " ball"])
    assert len(warnings_seen) == 1
    assert warnings_seen[0].startswith(f'The prompt "{"x" * 90}" has')
    assert warnings_seen[0].endswith(" The same holds for 1 more.")
