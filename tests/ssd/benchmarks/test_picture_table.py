"""``--run reproduce-table2``: rows of every kind on a few toy images, table and sheets, taken up again, refused."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.edit_world import REPOSITORY, SIZE
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.pie import table
from threestudio_ssd.benchmarks.pie.table import experiment_of
from threestudio_ssd.benchmarks.pie.toy import TOY_ENTRIES, write_toy_pie_bench
from threestudio_ssd.benchmarks.toy.items import methods_from
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.editors import EDITORS
from threestudio_ssd.editors.branches import TwoBranches

CONFIG = REPOSITORY / "configs" / "tables" / "table2.yaml"
FEW = (12, 18, 30, 36)  # something added, removed, turned and recoloured
SHORT = (
    "system.methods.ddim-p2p=[configs/editor-image.yaml,editor=ddim-p2p,strength=1,system.editing.editor.num_steps=2]",
    "system.methods.dds=[configs/published/dds-image.yaml,steps=2]",
    "methods=[ddim-p2p,dds]",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pie")
    write_toy_pie_bench(folder, render_size=64, numbers=FEW)
    save_components(random_components(image_size=SIZE), folder / "model")
    return folder


def words(dataset, out, *more):
    given = [f"dataset={dataset}", f"model={dataset / 'model'}", f"out={out}", *SHORT, "batch=3", *more]
    judges = ["clip_model=tiny-clip", "structure_model=tiny-clip", "lpips_net=tiny"]
    return ["--run", "reproduce-table2", *given, *judges]


def test_entries_that_come_go_and_turn_have_prompts_and_truths(dataset):
    mapping = json.loads((dataset / "mapping_file.json").read_text())
    added, removed, turned, _ = mapping.values()
    assert added["original_prompt"] == "a photo of grass"
    assert added["editing_prompt"] == "a photo of [a red ball] on grass"
    assert (removed["editing_prompt"], removed["editing_instruction"]) == ("a photo of sand", "remove the car")
    assert turned["original_prompt"].endswith("seen low from right of back")
    assert turned["editing_prompt"].endswith("[seen low from back of left]")
    assert turned["blended_word"] == "car car"
    for item in mapping.values():
        with Image.open(dataset / "truth_images" / item["image_path"]) as truth:
            assert truth.size == (512, 512)
    assert len(TOY_ENTRIES) == 60


def test_a_table_of_rows_of_every_kind_goes_on_where_it_was_stopped(dataset, tmp_path, capsys, monkeypatch):
    assert main(words(dataset, tmp_path, "limit=1")) == 0
    out = capsys.readouterr().out
    assert "| method | tiny-clip self-similarity x10^3 ↓ |" in out
    assert "| PSNR to truth, inside ↑ | PSNR to truth ↑ | CPU s an image |" in out
    for row in ("4 of 4 images", "| no edit | 0.00 | 0.00 | 0.00 |", "| the truth |", "| ddim-p2p |", "| dds |"):
        assert row in out
    assert "| method | add object | delete object | change pose | change colour |" in out
    assert "| SSD + CDS | 6.9 | 32.15 | 24.21 | 25.12 |" in out
    truth = next(line for line in out.splitlines() if line.startswith("| the truth |"))
    assert "| 100.00 | 100.00 | - |" in truth
    for group in (2, 3, 5, 6):
        with Image.open(tmp_path / f"sheet-{group}.png") as sheet:
            assert sheet.width > 4 * 96
    edited = sorted((tmp_path / "dds" / "annotation_images").rglob("*.png"))
    costs = [json.loads(line) for line in (tmp_path / "dds" / "costs.jsonl").read_text().splitlines()]
    assert len(edited) == len(costs) == 4
    assert all(cost["cpu_seconds"] > 0 for cost in costs)
    edited[1].unlink()
    assert main(words(dataset, tmp_path, "methods=[ddim-p2p]")) == 0
    assert "3 of 4 images: those that every method has" in capsys.readouterr().out
    assert main(words(dataset, tmp_path)) == 0
    assert edited[1].is_file()
    monkeypatch.setattr(table, "edit_all", None)
    assert main(words(dataset, tmp_path)) == 0
    capsys.readouterr()
    assert main(words(dataset, tmp_path, "seed=7")) == 2
    assert "was made with seed 1234, and now it is 7" in capsys.readouterr().err


def test_images_side_by_side_are_as_they_would_be_alone(dataset, tmp_path):
    for batch in (1, 4):
        assert main(words(dataset, tmp_path / str(batch), f"batch={batch}", "groups=[2,6]")) == 0
    for path in (tmp_path / "1").rglob("annotation_images/**/*.png"):
        other = tmp_path / "4" / path.relative_to(tmp_path / "1")
        one, four = (np.asarray(Image.open(each), np.int64) for each in (path, other))
        assert np.abs(one - four).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch=0", "system.batch is 0; expected at least 1; set system.batch=1"),
        ("methods=[ddim-p2]", "system.chosen has ddim-p2; expected some of: ddim-p2p"),
        (
            "system.methods.dds=[configs/baselines/dds.yaml]",
            "method dds is a config of ssd-gs-system; expected a config of a picture",
        ),
        ("system.published.SSD=[1,2]", "system.published.SSD is [1, 2]; expected distance, LPIPS, MSE and CLIP"),
        ("dataset=nowhere", "expected the folder of PIE-Bench, with mapping_file.json and annotation_images/"),
    ],
)
def test_what_cannot_be_run_is_said_before_any_work(dataset, tmp_path, capsys, change, message):
    assert main(words(dataset, tmp_path, change)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "table.md").exists()


def test_every_row_of_the_paper_is_a_method():
    """Each builds, with published constants; ours are the loop of CDS with the weights of the equations."""
    cfg = complete(load_config(CONFIG))
    methods = {method.name: method for method in methods_from(cfg.system.methods)}
    assert len(cfg.system.published) == 10
    systems = {name: experiment_of(method, cfg.system.overrides).system for name, method in methods.items()}
    inverted = {name: system.editing.editor.name for name, system in systems.items() if "editing" in system}
    assert len(inverted) == 8
    assert all(name == editor and issubclass(EDITORS[editor], TwoBranches) for name, editor in inverted.items())
    assert {systems[name].strength for name in inverted} == {1.0}
    by_score = (("dds", "dds", 0), ("dds-cds", "dds", 3), ("ssd", "ssd-paper", 0), ("ssd-cds", "ssd-paper", 3))
    for name, score, weight in by_score:
        guidance = systems[name].guidance
        assert (guidance.score.name, guidance.cds.weight, systems[name].num_steps) == (score, weight, 200)
