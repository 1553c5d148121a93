"""PIE-Bench: masks, the folder's layout, exact figures against independent computations, a run that resumes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from tests.edit_world import REPOSITORY, SIZE
from threestudio.run import main
from threestudio_ssd.apps import pie_bench
from threestudio_ssd.apps.pie_dataset import (
    TOY_ENTRIES,
    decode_mask,
    encode_mask,
    load_pie_bench,
    write_toy_pie_bench,
)
from threestudio_ssd.apps.pie_metrics import cut_to_square, load_judges, pie_figures, pie_table
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.errors import SceneFormatError


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
    assert len(entries) == len(TOY_ENTRIES) >= 12
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


@pytest.mark.parametrize("as_published", [False, True])
def test_figures_agree_with_independent_ones(judges, as_published):
    source, edited = torch.rand(1, 3, 512, 512), torch.rand(1, 3, 512, 512)
    mask = torch.zeros(512, 512, dtype=torch.bool)
    mask[100:300, 50:400] = True
    found = pie_figures(source, edited, mask, "a blue ball", judges, as_published)
    keep = (~mask).double()
    error = (((source - edited).double() ** 2).mean(1)[0] * keep).sum() / (512 * 512 if as_published else keep.sum())
    assert found["mse"] == pytest.approx(1e4 * float(error), rel=1e-5)
    assert found["psnr"] == pytest.approx(-10 * float(error.log10()), rel=1e-5)
    if as_published:
        pair = edited * ~mask, source * ~mask
        assert found["psnr"] == pytest.approx(float(peak_signal_noise_ratio(*pair, data_range=1.0)), rel=1e-4)
        ssim = structural_similarity_index_measure(*pair, data_range=1.0)
        assert found["ssim"] == pytest.approx(100 * float(ssim), rel=1e-3)


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
    for column in ("structure", "lpips", "mse"):
        assert good[column] < worse[column]
    for column in ("psnr", "ssim", "clip_whole"):
        assert good[column] > worse[column]
    kept = pie_figures(source, source, entry.mask, entry.target_prompt, judges)
    assert (kept["mse"], kept["structure"], kept["psnr"]) == (0, 0, 100)
    assert kept["clip_edited"] < good["clip_edited"]


def test_empty_regions_are_skipped(judges):
    picture = torch.rand(1, 3, 64, 64)
    whole = pie_figures(picture, picture, torch.ones(64, 64, dtype=torch.bool), "a ball", judges)
    assert whole["mse"] is None
    assert whole["clip_edited"] is not None
    none = pie_figures(picture, picture, torch.zeros(64, 64, dtype=torch.bool), "a ball", judges)
    assert none["clip_edited"] is None
    rows = [{"group": 6, **whole}, {"group": 6, **none}]
    assert "| all | 2 | 0.00 | 0.00 | 0.00 |" in pie_table(rows, "x", "note")
    assert "| 6 change colour | 2 |" in pie_table(rows, "x", "note")


def test_strips_are_cut_to_their_last_square():
    strip = torch.arange(12.0).view(1, 1, 2, 6).expand(1, 3, 2, 6)
    assert torch.equal(cut_to_square(strip, 2), strip[..., 4:])
    assert cut_to_square(strip[..., :2], 2).shape[-1] == 2


def words(dataset, out, *more, score="dds"):
    return [
        "--run", "pie-bench", "--config", str(REPOSITORY / "configs/ssd-image.yaml"), f"model={dataset / 'model'}",
        "steps=2", f"system.guidance.score.name={score}", f"run.dataset={dataset}", f"run.out={out}", *more,
    ]  # fmt: skip


def test_a_run_prints_the_columns_and_resumes(dataset, tmp_path, capsys, monkeypatch):
    some = ["run.groups=[6,9]", "run.limit=1"]
    assert main(words(dataset, tmp_path, *some)) == 0
    out = capsys.readouterr().out
    assert "| dds | images | Distance x10^3 ↓ | LPIPS x10^3 ↓ | MSE x10^4 ↓ | CLIP ↑ |" in out
    assert "| all | 2 |" in out
    assert "not with papers" in out
    edited = sorted((tmp_path / "annotation_images").rglob("*.png"))
    assert len(edited) == 2
    assert Image.open(edited[0]).size == (512, 512)
    before = [path.read_bytes() for path in edited]
    rows = (tmp_path / "rows.jsonl").read_text()
    edited[0].unlink()
    assert main(words(dataset, tmp_path, *some)) == 0
    assert [path.read_bytes() for path in edited] == before
    assert (tmp_path / "rows.jsonl").read_text() == rows
    monkeypatch.setattr(pie_bench, "edit_all", None)
    assert main(words(dataset, tmp_path, *some, "run.as_published=true")) == 0
    assert "as published: pictures enter DINO as 0-255" in capsys.readouterr().out
    assert main(words(dataset, tmp_path, *some, score="ssd")) == 2
    assert f"{tmp_path} holds pictures of other settings" in capsys.readouterr().err


def test_pictures_of_another_tool_are_measured(dataset, tmp_path, capsys):
    assert main(words(dataset, tmp_path, f"run.edited={dataset / 'truth_images'}", "run.groups=[0,6]")) == 0
    out = capsys.readouterr().out
    assert "| edited by another tool | images |" in out
    assert "| 6 change colour | 2 |" in out
    assert not (tmp_path / "annotation_images").exists()


def test_vsd_starts_each_picture_with_an_untrained_lora(dataset, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    more = ["system.guidance.lora_network.learning_rate=0.01", "run.limit=1"]
    assert main(words(dataset, alone, *more, "run.groups=[9]", score="vsd")) == 0
    assert main(words(dataset, both, *more, "run.groups=[6,9]", score="vsd")) == 0
    (path,) = alone.rglob("9*.png")
    assert path.read_bytes() == (both / path.relative_to(alone)).read_bytes()


def test_wrong_input_is_named(dataset, tmp_path, capsys):
    assert main(words(tmp_path, tmp_path, f"model={dataset / 'model'}")) == 2
    assert "expected the folder of PIE-Bench, with mapping_file.json and annotation_images/" in capsys.readouterr().err
    assert main(words(dataset, tmp_path, "run.groups=[11]")) == 2
    assert "run.groups=[11] leaves no image; expected groups from 0 to 9" in capsys.readouterr().err
    mapping = json.loads((dataset / "mapping_file.json").read_text())
    first = next(iter(mapping))
    del mapping[first]["mask"]
    (tmp_path / "mapping_file.json").write_text(json.dumps(mapping))
    with pytest.raises(SceneFormatError, match=f"entry {first} has no mask"):
        load_pie_bench(tmp_path)
