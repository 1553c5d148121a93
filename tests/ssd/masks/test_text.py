"""Masks by words: the embedded segmenter finds toy things; the real kinds run on small random networks."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from threestudio_ssd.errors import ConfigError, MissingPackageError
from threestudio_ssd.masks import text as text_module
from threestudio_ssd.masks.text import ClipSeg, GroundedSam2, Sam3, load_segmenter, segment
from threestudio_ssd.toyworld.tokenizer import build_tokenizer


@pytest.fixture
def views(generator):
    """Three views that are not square."""
    return torch.rand(3, 3, 40, 56, generator=generator)


class BrightIsFound:
    """Stands in for a network: finds pixels brighter than a half, on the left only."""

    def find(self, images, text, threshold):
        found = images.mean(1) > 0.5
        found[..., found.shape[-1] // 2 :] = False
        return found


def test_masks_are_per_view_and_may_be_empty_in_some(monkeypatch, views):
    monkeypatch.setattr(text_module, "load_segmenter", lambda segmenter, device: BrightIsFound())
    views[1] = 0.0
    masks = segment(views, "the statue")
    assert masks.shape == (3, 40, 56)
    assert masks.dtype == torch.bool
    assert masks[0].any()
    assert not masks[1].any()


def test_nothing_found_in_any_view_is_said(monkeypatch, views):
    monkeypatch.setattr(text_module, "load_segmenter", lambda segmenter, device: BrightIsFound())
    with pytest.raises(ConfigError) as caught:
        segment(views * 0, "the statue", "some/model")
    assert caught.value.what == 'mask.text "the statue" is not found in any of 3 views by some/model'
    assert "mask.box" in caught.value.fix


def test_an_empty_text_is_said(views):
    with pytest.raises(ConfigError, match=r"mask\.text is empty"):
        segment(views, "  ")


def test_a_missing_segmenter_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_segmenter(str(tmp_path))


def test_another_kind_of_model_is_named(tmp_path):
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a vit model, which finds nothing by words"):
        load_segmenter(str(tmp_path))


def test_a_missing_package_is_named():
    def load(source):
        raise ImportError("Sam3Model requires the torchvision library")

    with pytest.raises(MissingPackageError, match=r"facebook/sam3 needs torchvision.*pip install torchvision"):
        text_module._load(load, "facebook/sam3")


def sam3_outputs(has_presence):
    masks = torch.full((1, 3, 10, 14), -5.0)
    masks[0, 0, :, :4] = 5.0
    masks[0, 1, :, 4:8] = 5.0
    masks[0, 2, :, 8:] = 5.0
    presence = torch.tensor([[3.0]]) if has_presence else None
    return SimpleNamespace(pred_logits=torch.tensor([[4.0, -4.0, 4.0]]), presence_logits=presence, pred_masks=masks)


def bare(kind, **parts):
    """A segmenter around parts made here, not loaded."""
    segmenter = kind.__new__(kind)
    vars(segmenter).update(parts)
    return segmenter


def tokenise(*args, **kwargs):
    inputs = SimpleNamespace(input_ids=torch.zeros(1, 4).long(), attention_mask=torch.ones(1, 4).long())
    return SimpleNamespace(to=lambda device: inputs)


def test_sam3_joins_the_instances_that_are_sure(views):
    seen = []

    def network(pixel_values, input_ids, attention_mask):
        seen.append(pixel_values)
        return sam3_outputs(has_presence=True)

    masks = bare(Sam3, network=network, tokenizer=tokenise, size=(28, 28)).find(views, "a cat", 0.5)
    assert masks.shape == (3, 40, 56)
    columns = masks.any(1)[0]
    assert columns[:14].all()
    assert not columns[18:30].any()
    assert columns[34:].all()
    assert seen[0].shape == (1, 3, 28, 28)
    assert -1 <= seen[0].min() < -0.3
    assert 0.3 < seen[0].max() <= 1


def test_sam3_finds_nothing_where_the_concept_is_absent(views):
    def network(**inputs):
        outputs = sam3_outputs(has_presence=True)
        outputs.presence_logits = torch.tensor([[-6.0]])
        return outputs

    masks = bare(Sam3, network=network, tokenizer=tokenise, size=(28, 28)).find(views, "a cat", 0.5)
    assert not masks.any()


@pytest.fixture(scope="module")
def sam2():
    """A SAM 2 of random weights, as small as its parts allow."""
    from transformers import Sam2Config, Sam2Model

    backbone = {
        "hidden_size": 8, "image_size": [64, 64], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "global_attention_blocks": [3],
        "window_size_per_stage": [8, 4, 4, 4],
        "window_positional_embedding_background_size": [2, 2],
    }  # fmt: skip
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone}, "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16,
    }  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    torch.manual_seed(7)
    return Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)).eval()


def test_grounded_sam2_asks_a_real_sam2_for_masks_in_the_detected_boxes(views, sam2):
    asked = []

    def detector(pixel_values, input_ids, attention_mask):
        asked.append(pixel_values.shape)
        logits = torch.tensor([[[2.0, -9.0], [-2.0, -9.0]]])
        boxes = torch.tensor([[[0.25, 0.5, 0.3, 0.6], [0.8, 0.8, 0.1, 0.1]]])
        return SimpleNamespace(logits=logits, pred_boxes=boxes)

    class Tokens(dict):
        def to(self, device):
            return self

    texts = []

    def tokenizer(text, return_tensors):
        texts.append(text)
        return Tokens(input_ids=torch.zeros(1, 4).long(), attention_mask=torch.ones(1, 4).long())

    segmenter = bare(GroundedSam2, detector=detector, tokenizer=tokenizer, network=sam2, size=(64, 64))
    boxes = segmenter._boxes(views[0], "The Statue", 0.5)
    torch.testing.assert_close(boxes, torch.tensor([[0.1, 0.2, 0.4, 0.8]]))
    assert texts == ["the statue."]
    assert asked == [(1, 3, 800, 1120)]
    masks = segmenter.find(views, "the statue", 0.5)
    pixels = torch.nn.functional.interpolate(views[:1], (64, 64), mode="bilinear", antialias=True)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    pixels = (pixels - mean) / std
    expected = sam2(pixel_values=pixels, input_boxes=64 * boxes[None], multimask_output=False).pred_masks[0, 0]
    expected = torch.nn.functional.interpolate(expected[None], (40, 56), mode="bilinear", antialias=True)[0, 0] > 0
    assert torch.equal(masks[0], expected)
    assert not segmenter.find(views, "the statue", 0.95).any()


@pytest.fixture
def clipseg_folder(tmp_path):
    """A CLIPSeg of random weights in a folder, as tools write it."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    tokenizer = build_tokenizer(tmp_path)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    text = tower | {
        "vocab_size": len(tokenizer), "max_position_embeddings": 20, "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    config = CLIPSegConfig(
        text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 8}, projection_dim=16, reduce_dim=8,
        extract_layers=[0, 1], decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    torch.manual_seed(8)
    CLIPSegForImageSegmentation(config).save_pretrained(tmp_path)
    settings = '{"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    (tmp_path / "preprocessor_config.json").write_text(settings)
    return tmp_path


def test_clipseg_loads_by_folder_and_agrees_with_the_network(clipseg_folder, views):
    segmenter = load_segmenter(str(clipseg_folder))
    assert isinstance(segmenter, ClipSeg)
    tokens = segmenter.tokenizer(["the red ball"], padding="max_length", max_length=20, return_tensors="pt")
    pixels = 2 * torch.nn.functional.interpolate(views[:1], (32, 32), mode="bilinear", antialias=True) - 1
    logits = segmenter.network(pixel_values=pixels, **tokens).logits.reshape(1, 1, 32, 32)
    probabilities = torch.nn.functional.interpolate(logits, (40, 56), mode="bilinear").sigmoid()[0, 0]
    threshold = probabilities.median().item()
    assert torch.equal(segmenter.find(views, "the red ball", threshold)[0], probabilities > threshold)


@pytest.mark.parametrize("threshold", [0.01, 1.0])
def test_the_segmenter_is_gone_when_the_masks_are_there(clipseg_folder, views, monkeypatch, threshold):
    """Also when it found nothing; and the memory is given back to the system after that, not before."""
    networks, alive_at_cleanup = [], []

    def load(*args):
        segmenter = load_segmenter(*args)
        networks.append(weakref.ref(segmenter.network))
        return segmenter

    def cleanup():
        gc.collect()
        alive_at_cleanup.extend(network() for network in networks)

    monkeypatch.setattr(text_module, "load_segmenter", load)
    monkeypatch.setattr(text_module, "cleanup", cleanup)
    if threshold == 1.0:
        with pytest.raises(ConfigError, match="is not found in any of 3 views"):
            segment(views, "the red ball", str(clipseg_folder), threshold)
    else:
        assert segment(views, "the red ball", str(clipseg_folder), threshold).any()
    assert len(networks) == 1
    assert alive_at_cleanup == [None]


def test_training_decodes_what_the_librarys_forward_decodes(clipseg_folder, views):
    from threestudio_ssd.apps.make_tiny_clip import normalise_pixels
    from threestudio_ssd.apps.make_tiny_seg import decode

    segmenter = load_segmenter(str(clipseg_folder))
    tokens = segmenter.tokenizer(["the red ball", "sky"] * 2, padding="max_length", max_length=20, return_tensors="pt")
    pictures = views[:2, :, :32, :32]
    expected = segmenter.network(pixel_values=normalise_pixels(pictures.repeat_interleave(2, 0)), **tokens).logits
    torch.testing.assert_close(decode(segmenter.network, pictures, tokens, 2), expected.reshape(4, 32, 32))
