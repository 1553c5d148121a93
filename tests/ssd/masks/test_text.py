"""Masks by words: the embedded segmenter finds toy things; the real kinds run on small random networks."""

import gc
import weakref
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from threestudio_ssd.errors import ConfigError, MissingPackageError
from threestudio_ssd.masks import text as text_module
from threestudio_ssd.masks.text import ClipSeg, GroundedSam2, Sam3, load_segmenter, segment
from threestudio_ssd.pretrained import ALIASES
from threestudio_ssd.toyworld.tokenizer import build_tokenizer


@pytest.fixture
def views(generator):
    """Three views that are not square."""
    return torch.rand(3, 3, 40, 56, generator=generator)


class BrightIsFound(text_module.Segmenter):
    """Stands in for a network: finds pixels brighter than a half, on the left only."""

    def find(self, images, text, threshold):
        found = images.mean(1) > 0.5
        found[..., found.shape[-1] // 2 :] = False
        return found


def test_masks_are_per_view_and_may_be_empty_in_some(monkeypatch, views):
    monkeypatch.setattr(text_module, "load_segmenter", lambda *args, **more: BrightIsFound())
    views[1] = 0.0
    masks = segment(views, "the statue")
    assert masks.shape == (3, 40, 56)
    assert masks.dtype == torch.bool
    assert masks[0].any()
    assert not masks[1].any()


def test_nothing_found_in_any_view_is_said(monkeypatch, views):
    monkeypatch.setattr(text_module, "load_segmenter", lambda *args, **more: BrightIsFound())
    with pytest.raises(ConfigError) as caught:
        segment(views * 0, "the statue", "some/model")
    assert caught.value.what == 'mask.text "the statue" is not found in any of 3 views by some/model'
    assert "mask.box" in caught.value.fix


def test_an_empty_text_is_said(views):
    with pytest.raises(ConfigError, match=r"mask\.text is empty"):
        segment(views, "  ")


def test_a_missing_segmenter_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"mask.segmenter .* cannot be read"):
        load_segmenter(str(tmp_path))


def test_another_kind_of_model_is_named(tmp_path):
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a vit model, which finds nothing by words"):
        load_segmenter(str(tmp_path))


def test_a_missing_package_is_named(sam3_folder, monkeypatch):
    from transformers import Sam3Model

    def load(*args, **options):
        raise ImportError("Sam3Model requires the torchvision library")

    monkeypatch.setattr(Sam3Model, "from_pretrained", load)
    with pytest.raises(MissingPackageError, match=r"sam3' needs torchvision.*pip install torchvision"):
        load_segmenter(str(sam3_folder))


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
    ranked = probabilities.flatten().sort().values
    middle = ranked[len(ranked) // 4 : -len(ranked) // 4]
    widest = middle.diff().argmax()
    threshold = (middle[widest : widest + 2]).mean().item()  # no pixel is near it: last bits decide nothing
    assert torch.equal(segmenter.find(views, "the red ball", threshold)[0], probabilities > threshold)


@pytest.mark.parametrize("threshold", [0.01, 1.0])
def test_the_segmenter_is_gone_when_the_masks_are_there(clipseg_folder, views, monkeypatch, threshold):
    """Also when it found nothing; and the memory is given back to the system after that, not before."""
    networks, alive_at_cleanup = [], []

    def load(*args, **options):
        segmenter = load_segmenter(*args, **options)
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
    from threestudio_ssd.training.clip import normalise_pixels
    from threestudio_ssd.training.segmenter import decode

    segmenter = load_segmenter(str(clipseg_folder))
    tokens = segmenter.tokenizer(["the red ball", "sky"] * 2, padding="max_length", max_length=20, return_tensors="pt")
    pictures = views[:2, :, :32, :32]
    expected = segmenter.network(pixel_values=normalise_pixels(pictures.repeat_interleave(2, 0)), **tokens).logits
    torch.testing.assert_close(decode(segmenter.network, pictures, tokens, 2), expected.reshape(4, 32, 32))


TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


@pytest.fixture
def sam3_folder(tmp_path):
    """A SAM 3 of random weights in a folder, as tools write it."""
    from transformers import Sam3Config, Sam3Model

    folder = tmp_path / "sam3"
    folder.mkdir()
    tokenizer = build_tokenizer(folder)
    text = TOWER | {
        "num_hidden_layers": 1, "vocab_size": len(tokenizer), "max_position_embeddings": 32, "projection_dim": 16,
        "eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    trunk = TOWER | {
        "model_type": "sam3_vit_model", "num_hidden_layers": 2, "image_size": 56, "pretrain_image_size": 56,
        "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
    }  # fmt: skip
    vision = {
        "backbone_config": trunk, "fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    config = Sam3Config(
        vision_config=vision, text_config=text, geometry_encoder_config=TOWER | {"num_layers": 1},
        detr_encoder_config=TOWER | {"num_layers": 1}, detr_decoder_config=TOWER | {"num_layers": 1, "num_queries": 5},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip
    torch.manual_seed(9)
    Sam3Model(config).save_pretrained(folder)
    return folder


def test_a_real_sam3_loads_by_folder_and_its_sure_instances_are_joined(sam3_folder, views):
    segmenter = load_segmenter(str(sam3_folder))
    assert isinstance(segmenter, Sam3)
    assert segmenter.size == (56, 56)
    tokens = segmenter.tokenizer(["the red ball"], padding="max_length", max_length=32, return_tensors="pt")
    pixels = 2 * torch.nn.functional.interpolate(views[:1], (56, 56), mode="bilinear", antialias=True) - 1
    inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    outputs = segmenter.network(pixel_values=pixels, **inputs)
    scores = (outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid())[0]
    threshold = scores.sort().values[1:3].mean().item()
    sure = outputs.pred_masks[:, scores > threshold]
    assert 1 <= sure.shape[1] < 5
    expected = torch.nn.functional.interpolate(sure, (40, 56), mode="bilinear", antialias=True)[0] > 0
    assert torch.equal(segmenter.find(views, "the red ball", threshold)[0], expected.any(0))
    assert not segmenter.find(views, "the red ball", 0.999).any()


@pytest.fixture
def dino_folder(tmp_path):
    """A GroundingDINO of random weights with a word tokenizer that has BERT's places of its special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, PreTrainedTokenizerFast

    folder = tmp_path / "dino"
    words = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029, "the": 1, "statue": 2}
    spare = {f"[unused{place}]": place for place in range(1030) if place not in words.values()}
    tokenizer = Tokenizer(models.WordLevel(words | spare, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    text = TOWER | {"model_type": "bert", "num_hidden_layers": 1, "vocab_size": 1030, "max_position_embeddings": 32}
    trunk = {
        "model_type": "swin", "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1], "window_size": 4, "out_indices": [2, 3, 4],
    }  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=trunk, text_config=text, num_queries=7, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2,
        max_text_len=16, disable_custom_kernels=True,
    )  # fmt: skip
    torch.manual_seed(10)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    return folder


def test_a_real_groundingdino_and_sam2_load_by_their_joined_names(dino_folder, sam2, views, tmp_path, monkeypatch):
    sam2.save_pretrained(tmp_path / "sam2")
    monkeypatch.setattr(GroundedSam2, "SHORT_SIDE", 64)
    joined = f"{dino_folder}+{tmp_path / 'sam2'}"
    monkeypatch.setitem(ALIASES, "grounded-sam2", joined)
    segmenter = load_segmenter("grounded-sam2")
    assert isinstance(segmenter, GroundedSam2)
    tokens = segmenter.tokenizer("the statue.", return_tensors="pt")
    assert tokens.input_ids.tolist() == [[101, 1, 2, 1012, 102]]
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    pixels = (torch.nn.functional.interpolate(views[:1], (64, 90), mode="bilinear", antialias=True) - mean) / std
    outputs = segmenter.detector(pixel_values=pixels, **tokens)
    scores = outputs.logits[0].sigmoid().amax(-1)
    threshold = scores.sort().values[3:5].mean().item()
    x, y, width, height = outputs.pred_boxes[0][scores > threshold].unbind(-1)
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1).clamp(0, 1)
    assert len(corners) == 3
    torch.testing.assert_close(segmenter._boxes(views[0], "The Statue.", threshold), corners)
    found = segmenter.find(views, "the statue", threshold)
    assert found.shape == (3, 40, 56)
    assert found.any()
    assert not segmenter.find(views, "the statue", 1.0).any()
    # left out, it need be as sure as is usual for GroundingDINO
    monkeypatch.setattr(GroundedSam2, "CONFIDENCE", threshold)
    assert torch.equal(segment(views, "the statue", joined), found)


def test_how_sure_each_kind_usually_has_to_be():
    assert (ClipSeg.CONFIDENCE, Sam3.CONFIDENCE, GroundedSam2.CONFIDENCE) == (0.5, 0.5, 0.3)


def test_aliases_name_the_kinds_they_stand_for(monkeypatch):
    loaded, asked = [], []

    def download(name, file, *, revision, local_files_only):
        asked.append((name, revision, local_files_only))
        return f"/cache/snapshots/{name[:3]}-{revision}/{file}"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(GroundedSam2, "__init__", lambda self, *places: loaded.append(places))
    detector, sam2 = "IDEA-Research/grounding-dino-base", "facebook/sam2.1-hiera-large"
    for name in ("grounded-sam2", "grounded-sam2/", f"{detector}+{sam2}"):
        load_segmenter(name, revision="v1+v2", is_offline=True)
    assert asked == [(detector, "v1", True), (sam2, "v2", True)] * 3
    places = [(each.location, each.revision, each.is_offline) for each in loaded[0][:2]]
    assert places == [(detector, "IDE-v1", True), (sam2, "fac-v2", True)]
    assert loaded == loaded[:1] * 3
    assert ALIASES["sam3"] == "facebook/sam3"
    assert ALIASES["clipseg"] == "CIDAS/clipseg-rd64-refined"
