"""Editors on a picture by the command: run folder, mask, report, the folder that stops and goes on, wrong keys."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.edit_world import REPOSITORY, SIZE, write_clip
from threestudio.run import main
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components

CONFIG = REPOSITORY / "configs" / "editor-image.yaml"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A picture wider than tall, a mask of its left half, models of random weights."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(60, 200, (SIZE, 48, 3), dtype=np.uint8)).save(folder / "picture.png")
    mask = np.zeros((SIZE, 48), np.uint8)
    mask[:, :24] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    save_components(random_components(image_size=SIZE), folder / "model")
    save_components(random_components(image_size=SIZE, in_channels=8), folder / "ip2p")
    write_clip(folder / "clip")
    return folder


def words(world, out, *more):
    return [
        "--config", str(CONFIG), f"picture={world / 'picture.png'}", f"model={world / 'model'}", "source_prompt=a ball",
        "target_prompt=a cube", "use_timestamp=false", "tag=edit", f"exp_root_dir={out}", "trainer.accelerator=cpu",
        f"system.clip_model={world / 'clip'}", "trainer.enable_progress_bar=false", *more,
    ]  # fmt: skip


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.int64)


def test_a_run_leaves_picture_grid_and_report(world, tmp_path, capsys):
    few = ["system.editing.editor.num_steps=5", f"mask_picture={world / 'mask.png'}"]
    assert main(words(world, tmp_path, *few)) == 0
    save = tmp_path / "editor-image" / "edit" / "save"
    assert capsys.readouterr().out.strip().endswith("edited.png")
    edited, source = pixels(save / "edited.png"), pixels(world / "picture.png")
    assert np.array_equal(edited[:, 24:], source[:, 24:])
    assert np.abs(edited[:, :24] - source[:, :24]).mean() > 1
    assert pixels(save / "grid.png").shape == (SIZE, 2 * 48, 3)
    report = json.loads((save / "report.json").read_text())
    assert f"CLIP similarity {report['clip_directional_similarity']:+.3f}" in (save / "report.html").read_text()
    assert (report["editor"], report["strength"], report["network_calls"]) == ("SDEdit", 0.8, 4)
    assert (report["noise_predictions"], report["steps"], report["psnr_outside"]) == (8, 1, 100)


@pytest.mark.parametrize(
    "more",
    [
        ["editor=inversion", "system.editing.editor.num_steps=5"],
        ["editor=null-text-p2p", "system.editing.editor.num_steps=2", "system.editing.editor.inversion.inner_steps=2"],
        ["editor=ip2p", "system.editing.editor.num_steps=2", "system.editing.editor.min_steps=2"],
        ["editor=distillation", "system.editing.editor.num_steps=2", "system.editing.editor.learning_rate=0.5"],
        ["editor=pipeline", "system.editing.editor.num_inference_steps=2"],
    ],
    ids=lambda more: more[0],
)
def test_every_editor_runs_on_a_picture(world, tmp_path, more):
    model = [f"model={world / 'ip2p'}"] if "editor=ip2p" in more else []
    assert main(words(world, tmp_path, *more, *model)) == 0
    save = tmp_path / "editor-image" / "edit" / "save"
    assert np.abs(pixels(save / "edited.png") - pixels(world / "picture.png")).mean() > 1


def test_a_folder_stops_the_run_and_the_next_one_takes_what_was_edited(world, tmp_path, capsys):
    folder = tmp_path / "by-hand"
    more = ["editor=folder", f"system.editing.editor.folder={folder}", f"system.editing.editor.image_size={SIZE}"]
    assert main(words(world, tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: 1 views were written to {folder / 'views'}; expected edited pictures")
    assert error.count("\n") == 1
    view = Image.open(folder / "views" / "picture.png")
    (folder / "edited").mkdir()
    Image.fromarray(255 - np.asarray(view)).save(folder / "edited" / "picture.png")
    assert main(words(world, tmp_path, *more)) == 0
    edited = pixels(tmp_path / "editor-image" / "edit" / "save" / "edited.png")
    assert np.array_equal(edited, 255 - pixels(world / "picture.png"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("editor=sdedti", "system.editing.editor.name is 'sdedti'; expected one of sdedit,"),
        ("strength=1.5", "system.strength is 1.5; expected above 0, at most 1; set system.strength=0.8"),
        ("target_prompt=", "target_prompt is empty; expected a sentence"),
        ("system.num_steps=3", "system.num_steps is 3; expected 1, since an editor makes steps of its own"),
        ("system.editing.batch_size=0", "system.editing.batch_size is 0; expected at least 1"),
        ("system.editing.modle=a", "unknown key system.editing.modle"),
        ("picture=nothing.png", "nothing.png"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(world, tmp_path, capsys, change, message):
    assert main(words(world, tmp_path / "out", change)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
