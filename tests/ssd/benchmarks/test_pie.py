"""PIE-Bench: masks, the folder's layout, exact figures against independent computations, a run that resumes."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from tests.edit_world import REPOSITORY, SIZE
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.apps.pie_bench import PieBench
from threestudio_ssd.benchmarks.pie import run
from threestudio_ssd.benchmarks.pie.dataset import decode_mask, encode_mask, load_pie_bench
from threestudio_ssd.benchmarks.pie.metrics import COLUMNS, Judges, cut_to_square, load_judges, pie_figures, pie_table
from threestudio_ssd.benchmarks.pie.toy import TOY_ENTRIES, write_toy_pie_bench
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.guidance import EditGuidance
from threestudio_ssd.metrics import Lpips, load_clip, load_lpips, load_structure_model
from threestudio_ssd.metrics.lpips_backbones import BACKBONES, Backbone

CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pie")
    write_toy_pie_bench(folder, render_size=64)
    save_components(random_components(image_size=SIZE), folder / "model")
    return folder


@pytest.fixture(scope="module")
def judges():
    return load_judges("tiny-clip", "tiny-clip", "tiny")


def test_masks_are_runs_with_a_border():
    mask = decode_mask([8, 3, 17, 100], size=6)
    expected = np.zeros(36, bool)
    expected[8:11] = expected[17:] = True
    expected = expected.reshape(6, 6)
    expected[[0, -1]] = expected[:, [0, -1]] = True
    assert np.array_equal(mask.numpy(), expected)
    assert decode_mask([]).sum() == 4 * 511
    inner = torch.zeros(512, 512, dtype=torch.bool)
    inner[40:90, 30:200] = inner[300:310, 1:511] = True
    runs = encode_mask(inner)
    assert len(runs) == 2 * 60
    border = decode_mask([])
    assert torch.equal(decode_mask(runs), inner | border)
    assert encode_mask(torch.ones(4, 4, dtype=torch.bool)) == [0, 16]


def test_the_toy_folder_has_the_layout_and_all_ten_groups(dataset):
    entries = load_pie_bench(dataset)
    assert len(entries) == len(TOY_ENTRIES) >= 60
    assert min(sum(entry.group == group for entry in entries) for group in range(10)) >= 6
    assert {entry.group for entry in entries} == set(range(10))
    raw = json.loads((dataset / "mapping_file.json").read_text())
    assert any("[" in item["editing_prompt"] for item in raw.values())
    for entry in entries:
        with Image.open(dataset / "annotation_images" / entry.image_path) as picture:
            assert picture.size == (512, 512)
        assert "[" not in entry.source_prompt + entry.target_prompt
        assert entry.source_prompt != entry.target_prompt
        assert 0.02 < entry.mask.float().mean() <= 1
    ball = next(entry for entry in entries if entry.target_prompt == "a photo of a blue ball on grass")
    assert (ball.blended_word, ball.group) == ("red blue", 0)
    with Image.open(dataset / "annotation_images" / ball.image_path) as picture:
        inside = np.asarray(picture)[ball.mask.numpy()].mean(0)
    assert inside[0] > inside[2] + 40


@pytest.fixture
def squeeze(monkeypatch, tmp_path):
    """LPIPS with random feature weights that keep the activations' size: ours, and torchmetrics' with its map."""
    backbone = Backbone(*BACKBONES["squeeze"][:2])
    for weight in (each for each in backbone.parameters() if each.ndim == 4):
        torch.nn.init.kaiming_normal_(weight)
    torch.save(backbone.state_dict(), tmp_path / BACKBONES["squeeze"][2])
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda name, pretrained: backbone.features)
    reference = torchmetrics_lpips._NoTrainLpips(net="squeeze", spatial=True)
    return load_lpips("squeeze", str(tmp_path)), lambda *pair: reference(*pair, normalize=True)[0, 0]


def keys_similarity(network, picture, factor):
    """Self-similarity of the last block's keys in double precision; as published (255) pixels are sampled, 5 to 1."""
    small = torch.nn.functional.interpolate(picture, (64, 64), mode="bilinear", antialias=True)
    small = (small if factor == 1 else picture[..., 2::5, 2::5]) * factor
    states = network(pixel_values=(small - CLIP_MEAN) / CLIP_STD, output_hidden_states=True).hidden_states
    block = network.encoder.layers[-1]
    keys = block.self_attn.k_proj(block.layer_norm1(states[-2]))[0].double()
    keys = keys / keys.norm(dim=1, keepdim=True)
    return keys @ keys.T


def clip_by_hand(clip, picture, prompt, as_published):
    """100 cos; as published the picture is 8-bit and resized by the imaging library, else by bare bicubic sampling."""
    if as_published:
        pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
        small = torch.from_numpy(np.array(Image.fromarray(pixels).resize((64, 64), Image.BICUBIC))).permute(2, 0, 1)
        small = small[None] / 255
    else:
        small = torch.nn.functional.interpolate(picture, (64, 64), mode="bicubic")
    image = clip.network.get_image_features(pixel_values=(small - CLIP_MEAN) / CLIP_STD).pooler_output
    length = clip.network.config.text_config.max_position_embeddings
    tokens = clip.tokenizer([prompt], padding="max_length", max_length=length, return_tensors="pt")
    text = clip.network.get_text_features(**tokens).pooler_output
    return 100 * float(torch.cosine_similarity(image, text))


@torch.no_grad()
@pytest.mark.parametrize("as_published", [False, True])
def test_figures_agree_with_independent_ones(squeeze, toy_pairs, as_published):
    """Every column at its reported scale, of noisy pictures that resizing with and without antialiasing tells apart."""
    ours, reference = squeeze
    clip, structure = dataclasses.replace(load_clip(), antialias=False), load_structure_model("tiny-clip")
    up = [torch.nn.functional.interpolate(each[:1], (320, 320)) for each in (toy_pairs.sources, toy_pairs.targets)]
    source, edited = ((each + 0.4 * torch.randn(each.shape)).clamp(0, 1) for each in up)
    mask = torch.zeros(320, 320, dtype=torch.bool)
    mask[60:280, 40:290] = True
    prompt, judges = toy_pairs.target_prompts[0], Judges(clip, structure, ours)
    figures = pie_figures(source, edited, mask, prompt, judges, as_published)
    assert set(figures) == set(COLUMNS)
    keep = (~mask).double()
    error = (((source - edited).double() ** 2).mean(1)[0] * keep).sum() / (320 * 320 if as_published else keep.sum())
    assert figures["mse"] == pytest.approx(1e4 * float(error), rel=1e-5)
    assert figures["psnr"] == pytest.approx(-10 * float(error.log10()), rel=1e-5)
    if as_published:
        pair = edited * ~mask, source * ~mask
        assert figures["psnr"] == pytest.approx(float(peak_signal_noise_ratio(*pair, data_range=1.0)), rel=1e-4)
        ssim = structural_similarity_index_measure(*pair, data_range=1.0)
        distance = reference(*pair).mean()
    else:
        pair = torch.where(mask, source, edited), source
        _, full = structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)
        ssim, distance = full.mean(1)[0][~mask].mean(), reference(*pair)[~mask].mean()
    assert figures["ssim"] == pytest.approx(100 * float(ssim), rel=1e-3)
    if not as_published:
        assert figures["perceptual"] == pytest.approx(1e3 * float(distance), rel=1e-3)
    else:  # the mean of a map that was enlarged is not the mean of the map
        assert figures["perceptual"] == pytest.approx(1e3 * float(distance), rel=0.1)
    pair = [keys_similarity(structure.network, each, 255 if as_published else 1) for each in (edited, source)]
    assert figures["structure"] == pytest.approx(1e3 * float((pair[0] - pair[1]).square().mean()), rel=1e-3)
    whole, inside = (clip_by_hand(clip, each, prompt, as_published) for each in (edited, edited * mask))
    assert figures["clip_whole"] == pytest.approx(whole, abs=0.1)
    assert figures["clip_edited"] == pytest.approx(inside, abs=0.1)
    assert min(whole, inside) > 5
    assert abs(clip_by_hand(clip, edited, prompt, not as_published) - whole) > 1


def test_a_worse_edit_scores_worse_in_every_column(judges, dataset):
    entry = next(entry for entry in load_pie_bench(dataset) if entry.group == 6)
    source, truth = (
        torch.from_numpy(np.asarray(Image.open(dataset / place / entry.image_path), np.float32) / 255).permute(2, 0, 1)[
            None
        ]
        for place in ("annotation_images", "truth_images")
    )
    good = pie_figures(source, truth, entry.mask, entry.target_prompt, judges)
    worse = pie_figures(source, truth.flip(1).roll(90, -1), entry.mask, entry.target_prompt, judges)
    for column in ("structure", "perceptual", "mse"):
        assert good[column] < worse[column]
    for column in ("psnr", "ssim", "clip_whole"):
        assert good[column] > worse[column]
    kept = pie_figures(source, source, entry.mask, entry.target_prompt, judges)
    assert (kept["mse"], kept["structure"], kept["psnr"]) == (0, 0, 100)
    assert kept["clip_edited"] < good["clip_edited"]


@pytest.mark.parametrize(("as_published", "psnr", "mean"), [(False, 100.0, "80.00"), (True, float("inf"), "inf")])
def test_an_untouched_background_counts_as_published_or_as_100_db(judges, as_published, psnr, mean):
    """The published script's PSNR is torchmetrics', infinite, and so is its mean; all else is the best there is."""
    source, mask = torch.rand(1, 3, 64, 64), torch.zeros(64, 64, dtype=torch.bool)
    mask[16:48, 16:48] = True
    edited = torch.where(mask, 1 - source, source)
    figures = pie_figures(source, edited, mask, "a ball", judges, as_published)
    assert (figures["mse"], figures["psnr"]) == (0, psnr)
    assert figures["ssim"] == pytest.approx(100)
    assert figures["structure"] > 0
    if as_published:
        pair = edited * ~mask, source * ~mask
        assert float(peak_signal_noise_ratio(*pair, data_range=1.0)) == psnr
    rows = [{"group": 6, **figures}, {"group": 6, **figures, "psnr": 60.0}]
    assert f"| {mean} |" in pie_table(rows, "x", "note", judges.heads).splitlines()[2]


def test_empty_regions_are_skipped(judges):
    picture = torch.rand(1, 3, 64, 64)
    whole = pie_figures(picture, picture, torch.ones(64, 64, dtype=torch.bool), "a ball", judges)
    assert whole["mse"] is None
    assert whole["clip_edited"] is not None
    none = pie_figures(picture, picture, torch.zeros(64, 64, dtype=torch.bool), "a ball", judges)
    assert none["clip_edited"] is None
    rows = [{"group": 6, **whole}, {"group": 6, **none}]
    table = pie_table(rows, "x", "note", judges.heads)
    assert "| all | 2 | 0.00 | 0.00 | 0.00 |" in table
    assert "| 6 change colour | 2 |" in table


def test_heads_name_the_judge(judges):
    """A column has the published name only where the published kind of network made it."""
    embedded = pie_table([], "x", "note", judges.heads).splitlines()[0]
    assert embedded == (
        "| x | images | tiny-clip self-similarity x10^3 ↓ | tiny-clip distance x10^3 ↓ | MSE x10^4 ↓ | tiny-clip ↑ | "
        "PSNR ↑ | SSIM x10^2 ↑ | tiny-clip edited ↑ |"
    )
    assert judges.stand_ins == ["clip_model", "structure_model", "lpips_net"]
    clip, structure = (
        dataclasses.replace(judge, label=label)
        for judge, label in ((judges.clip, "openai/clip-vit-large-patch14"), (judges.structure, "structure distance"))
    )
    published = Judges(clip, structure, Lpips("squeeze", []))
    assert published.stand_ins == []
    assert published.heads == {figure: head for figure, (head, _) in COLUMNS.items()}
    assert "LPIPS" not in embedded
    assert published.heads["perceptual"] == "LPIPS x10^3"


def test_strips_are_cut_to_their_last_square():
    strip = torch.arange(12.0).view(1, 1, 2, 6).expand(1, 3, 2, 6)
    assert torch.equal(cut_to_square(strip, 2), strip[..., 4:])
    assert cut_to_square(strip[..., :2], 2).shape[-1] == 2


def words(dataset, out, *more, score="dds"):
    return [
        "--run", "pie-bench", "--config", str(REPOSITORY / "configs/ssd-image.yaml"), f"model={dataset / 'model'}",
        "steps=2", f"system.guidance.score.name={score}", f"run.dataset={dataset}", f"run.out={out}",
        "clip_model=tiny-clip", "structure_model=tiny-clip", "lpips_net=tiny", *more,
    ]  # fmt: skip


def test_a_run_prints_the_columns_and_resumes(dataset, tmp_path, capsys, monkeypatch):
    few = ["run.groups=[6,9]", "run.limit=1"]
    assert main(words(dataset, tmp_path, *few)) == 0
    out = capsys.readouterr().out
    assert "| dds | images | tiny-clip self-similarity x10^3 ↓ | tiny-clip distance x10^3 ↓ | MSE x10^4 ↓ |" in out
    assert "with embedded networks" not in out
    assert "| all | 2 |" in out
    assert "not with papers" in out
    edited = sorted((tmp_path / "annotation_images").rglob("*.png"))
    assert len(edited) == 2
    assert Image.open(edited[0]).size == (512, 512)
    before = [path.read_bytes() for path in edited]
    rows = (tmp_path / "rows.jsonl").read_text()
    edited[0].unlink()
    assert main(words(dataset, tmp_path, *few)) == 0
    assert [path.read_bytes() for path in edited] == before
    assert (tmp_path / "rows.jsonl").read_text() == rows
    monkeypatch.setattr(run, "edit_all", None)
    assert main(words(dataset, tmp_path, *few, "run.as_published=true")) == 0
    out = capsys.readouterr().out
    assert "as published: pictures enter DINO as 0-255" in out
    assert (
        "run.as_published=true with embedded networks: those figures compare with no paper; set "
        "run.clip_model=ViT-L/14 run.structure_model=facebook/dino-vitb8 run.lpips_net=squeeze" in out
    )
    assert main(words(dataset, tmp_path, *few, score="ssd")) == 2
    assert capsys.readouterr().err == (
        f'error: {tmp_path} was made with system.guidance.score.name "dds", and now it is "ssd"; expected one folder '
        "for each setting; set run.out to another folder\n"
    )


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("data/tiny-ldm", {}, {"clip_model": "tiny-clip", "structure_model": "tiny-clip", "lpips_net": "tiny"}),
        ("data/tiny-ldm", {"clip_model": "ViT-L/14"},
         {"clip_model": "ViT-L/14", "structure_model": "tiny-clip", "lpips_net": "tiny"}),
        ("owner/model", {}, {"clip_model": "ViT-L/14", "structure_model": "facebook/dino-vitb8",
                             "lpips_net": "squeeze"}),
        ("owner/model", {"lpips_net": "tiny"},
         {"clip_model": "ViT-L/14", "structure_model": "facebook/dino-vitb8", "lpips_net": "tiny"}),
    ],
)  # fmt: skip
def test_a_real_model_is_judged_by_the_published_networks(model, given, expected):
    assert run.judge_names(PieBench(given).cfg, model) == expected


def test_judges_that_cannot_be_had_are_said_before_any_edit(dataset, tmp_path, capsys):
    missing = ["clip_model=owner/no-clip/no", f"run.edited={dataset / 'truth_images'}"]
    for more in (missing[:1], missing):
        assert main(words(dataset, tmp_path, *more)) == 2
        assert "clip_model folder 'owner/no-clip/no' does not exist" in capsys.readouterr().err
    assert not (tmp_path / "annotation_images").exists()


def test_pictures_of_another_tool_are_measured(dataset, tmp_path, capsys):
    assert (
        main(words(dataset, tmp_path, f"run.edited={dataset / 'truth_images'}", "run.groups=[0,6]", "run.limit=2")) == 0
    )
    out = capsys.readouterr().out
    assert "| edited by another tool | images |" in out
    assert "| 6 change colour | 2 |" in out
    assert not (tmp_path / "annotation_images").exists()


def test_rows_belong_to_the_pictures_that_they_were_measured_on(dataset, tmp_path, capsys):
    """A replaced picture is measured again, alone; a line that was cut off is too, and is said."""
    edited, out = shutil.copytree(dataset / "truth_images", tmp_path / "edited"), tmp_path / "out"
    asked = words(dataset, out, f"run.edited={edited}", "run.groups=[6]", "run.limit=2")
    assert main(asked) == 0
    file = out / "rows.jsonl"
    first = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(first) == 2
    entry = next(entry for entry in load_pie_bench(dataset) if entry.key == first[0]["key"])
    Image.open(dataset / "annotation_images" / entry.image_path).save(edited / entry.image_path, quality=60)
    assert main(asked) == 0
    second = [json.loads(line) for line in file.read_text().splitlines()]
    assert second[:2] == first
    assert [row["key"] for row in second[2:]] == [entry.key]
    assert second[2]["mse"] < 0.5 * first[0]["mse"]
    table = (out / "table.md").read_text()
    file.write_text(file.read_text()[:-30])
    capsys.readouterr()
    assert main(asked) == 0
    assert f"{file}: line 3 is cut off; its picture is measured again." in capsys.readouterr().out
    assert [json.loads(line) for line in file.read_text().splitlines()] == second
    assert (out / "table.md").read_text() == table


def test_rows_that_were_counted_otherwise_are_not_taken(dataset, tmp_path):
    """Both countings of one folder stand beside each other; an infinite figure is kept as JSON can say it."""
    entry = next(entry for entry in load_pie_bench(dataset) if entry.group == 6)
    edited, place = tmp_path / "edited", dataset / "annotation_images" / entry.image_path
    (edited / entry.image_path).parent.mkdir(parents=True)
    shutil.copy(place, edited / entry.image_path)
    judges = load_judges("tiny-clip", "tiny-clip", "tiny")
    measured = [run.measure([entry], dataset, edited, tmp_path, judges, way)[0] for way in (False, True)]
    assert [row["psnr"] for row in measured] == [100.0, "inf"]
    file = tmp_path / "rows-as-published.jsonl"
    kept = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert kept == measured[1]
    assert run.measure([entry], dataset, edited, tmp_path, judges, True) == measured[1:]
    for counted in ("as another version of this program did", None):  # rows of before had no such word
        older = {**kept, "psnr": 3.0, "counted": counted}
        file.write_text(json.dumps(older) + "\n")
        assert run.measure([entry], dataset, edited, tmp_path, judges, True) == measured[1:]
    assert "| inf |" in pie_table(measured[1:], "x", "note", judges.heads)


def experiment(dataset, *changes):
    """The image config that ``words`` starts, complete."""
    given = [f"model={dataset / 'model'}", "steps=2", *changes]
    return complete(load_config(REPOSITORY / "configs/ssd-image.yaml", cli_args=given))


def test_a_folder_of_edits_belongs_to_one_dataset(dataset, tmp_path):
    """Its pictures and its mapping file are among the settings, and where it lies is not."""
    cfg = experiment(dataset)
    one, other, path = tmp_path / "one", tmp_path / "other", tmp_path / "out" / "settings.json"
    for folder in (one, other):
        shutil.copytree(dataset / "annotation_images", folder / "annotation_images")
        shutil.copy(dataset / "mapping_file.json", folder)
    run.keep_settings(path, cfg, one)
    kept = path.read_bytes()
    for folder in (one, other):
        run.keep_settings(path, cfg, folder)
        assert path.read_bytes() == kept
    picture = next(each for each in (other / "annotation_images").rglob("*") if each.is_file())
    picture.write_bytes(picture.read_bytes() + b" ")
    with pytest.raises(ConfigError, match="was made with pictures "):
        run.keep_settings(path, cfg, other)
    mapping = json.loads((one / "mapping_file.json").read_text())
    next(iter(mapping.values()))["editing_prompt"] = "a photo of a green ball"
    (one / "mapping_file.json").write_text(json.dumps(mapping))
    with pytest.raises(ConfigError, match="was made with mapping_sha256 "):
        run.keep_settings(path, cfg, one)


@pytest.mark.parametrize(
    "change",
    [
        "system.lambda_detail=0", "system.num_steps=3", "system.seed=1", "system.parametrisation=pixel",
        "system.latent_steps=adam", "system.learning_rate=0.5", "data.size=32",
        "system.prompt_processor.negative_prompt=grey", "system.guidance.t_min_frac=0.1",
        "system.guidance.score.enhance_weight=1", "system.guidance.lora_network.rank=2",
    ],
)  # fmt: skip
def test_images_of_other_settings_are_not_taken(dataset, tmp_path, change):
    """Any key that an edit follows, and the message names it."""
    path = tmp_path / "settings.json"
    run.keep_settings(path, experiment(dataset), dataset)
    with pytest.raises(ConfigError) as error:
        run.keep_settings(path, experiment(dataset, change), dataset)
    assert f" {change.partition('=')[0]} " in error.value.what


def test_prompts_and_picture_of_the_config_do_not_count(dataset, tmp_path):
    """The benchmark has its own."""
    path = tmp_path / "settings.json"
    run.keep_settings(path, experiment(dataset), dataset)
    run.keep_settings(path, experiment(dataset, "picture=other.png", "target_prompt=a cat"), dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mask_picture=README.md",
         'system.mask_picture is "README.md", which PIE-Bench does not read; expected null; '
         "set system.mask_picture=null"),
        ("system.weights=a.ckpt",
         'system.weights is "a.ckpt", which PIE-Bench does not read; expected null; set system.weights=null'),
        ("trainer.max_steps=1", "trainer.max_steps is 1, which PIE-Bench does not read; expected 2; "
         "set trainer.max_steps=2"),
        ("trainer.gradient_clip_val=1.0", "trainer.gradient_clip_val is 1.0, which PIE-Bench does not read; "
         "expected a config without this key; leave trainer.gradient_clip_val out"),
        ("system.optimizer.name=SGD", 'system.optimizer.name is "SGD", which PIE-Bench does not read; '
         "expected a config without this key; leave system.optimizer.name out"),
    ],
)  # fmt: skip
def test_a_key_that_the_benchmark_does_not_read_is_refused(dataset, tmp_path, capsys, change, message):
    assert main(words(dataset, tmp_path, change)) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_keys_that_show_or_store_a_run_are_taken(dataset, tmp_path):
    """They cannot change a result."""
    harmless = ["name=mine", "trainer.log_every_n_steps=7", "system.clip_model=ViT-L/14"]
    assert main(words(dataset, tmp_path, *harmless, "run.groups=[6]", "run.limit=1")) == 0


def test_an_edit_hears_the_config_s_negative_prompt_and_size(dataset):
    """Both were ignored without a word."""
    entry = next(entry for entry in load_pie_bench(dataset) if entry.group == 6)
    source = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    edits = []
    for changes in ([], ["system.prompt_processor.negative_prompt=a blue cube on snow"], ["data.size=16"]):
        cfg = experiment(dataset, "system.guidance.score.name=nfsd", "system.learning_rate=1", *changes)
        edits.append(run.edit_some(EditGuidance(cfg.system.guidance), [entry], source, cfg))
    assert (edits[0] - edits[1]).abs().max() > 1e-4
    assert edits[0].shape[-2:] == (SIZE, SIZE * 3 // 2)
    assert edits[2].shape[-2:] == (16, 24)


def test_vsd_starts_each_picture_with_an_untrained_lora(dataset, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    more = ["system.guidance.lora_network.learning_rate=0.01", "run.limit=1"]
    assert main(words(dataset, alone, *more, "run.groups=[9]", score="vsd")) == 0
    assert main(words(dataset, both, *more, "run.groups=[6,9]", score="vsd")) == 0
    (path,) = alone.rglob("9*.png")
    assert path.read_bytes() == (both / path.relative_to(alone)).read_bytes()


def editor_words(dataset, out, *more):
    return [
        "--run", "pie-bench", "--config", str(REPOSITORY / "configs/editor-image.yaml"), f"model={dataset / 'model'}",
        "system.editing.editor.num_steps=2", "system.editing.editor.min_steps=2", f"run.dataset={dataset}",
        f"run.out={out}", "run.groups=[6,9]", "run.limit=1", "clip_model=tiny-clip", "structure_model=tiny-clip",
        "lpips_net=tiny", *more,
    ]  # fmt: skip


def test_an_editor_in_place_of_a_score(dataset, tmp_path, capsys):
    """Each image as it would be alone, with its own prompts; kept results belong to every key of the editor."""
    assert main(editor_words(dataset, tmp_path / "both")) == 0
    assert "| sdedit | images | tiny-clip self-similarity" in capsys.readouterr().out
    edited = sorted((tmp_path / "both" / "annotation_images").rglob("*.png"))
    assert len(edited) == 2
    assert main(editor_words(dataset, tmp_path / "alone", "run.groups=[9]")) == 0
    alone = (tmp_path / "alone").rglob("9*.png")
    assert next(alone).read_bytes() == next(path for path in edited if path.name.startswith("9")).read_bytes()
    capsys.readouterr()
    assert main(editor_words(dataset, tmp_path / "both", "system.editing.editor.guidance_scale=4")) == 2
    assert "system.editing.editor.guidance_scale 3.0, and now it is 4.0" in capsys.readouterr().err
    assert main(editor_words(dataset, tmp_path / "both", "strength=0.5")) == 2
    assert "system.strength 0.8, and now it is 0.5" in capsys.readouterr().err


def test_keys_that_an_editor_s_benchmark_does_not_take(dataset, tmp_path, capsys):
    assert main(editor_words(dataset, tmp_path, "mask_picture=README.md")) == 2
    assert 'system.mask_picture is "README.md", which PIE-Bench does not read' in capsys.readouterr().err
    words = [each for each in editor_words(dataset, tmp_path) if "_steps=2" not in each]
    assert main([*words, "editor=folder", "system.editing.editor.folder=a"]) == 2
    assert "expected an editor with a network; set run.edited to the edited images" in capsys.readouterr().err


def test_an_instruction_goes_to_the_editor_that_reads_one(dataset, tmp_path, monkeypatch):
    asked = {}

    class Stop(Exception):
        pass

    def load(keys, device, prompts):
        asked["prompts"] = prompts
        raise Stop

    monkeypatch.setattr(run, "load_editor", load)
    entry = next(entry for entry in load_pie_bench(dataset) if entry.group == 6)
    for editor, field in (("ip2p", "instruction"), ("sdedit", "target_prompt")):
        words = [f"model={dataset / 'model'}", f"editor={editor}"]
        cfg = complete(load_config(REPOSITORY / "configs/editor-image.yaml", cli_args=words))
        with pytest.raises(Stop):
            run.by_editor([entry], cfg)
        assert asked["prompts"].target == getattr(entry, field)


def test_wrong_input_is_named(dataset, tmp_path, capsys):
    assert main(words(tmp_path, tmp_path, f"model={dataset / 'model'}")) == 2
    assert "expected the folder of PIE-Bench, with mapping_file.json and annotation_images/" in capsys.readouterr().err
    assert main(words(dataset, tmp_path, "run.groups=[11]")) == 2
    assert "run.groups=[11] leaves no image; expected groups from 0 to 9" in capsys.readouterr().err
    assert main(words(dataset, tmp_path, "run.limit=-1")) == 2
    assert "run.limit is -1; expected at least 0; set run.limit=0" in capsys.readouterr().err
    assert main(words(dataset, tmp_path, "data.size=-5")) == 2
    assert "data.size is -5; expected pixels, or 0" in capsys.readouterr().err
    mapping = json.loads((dataset / "mapping_file.json").read_text())
    first = next(iter(mapping))
    del mapping[first]["mask"]
    (tmp_path / "mapping_file.json").write_text(json.dumps(mapping))
    with pytest.raises(SceneFormatError, match=f"entry {first} has no mask"):
        load_pie_bench(tmp_path)
