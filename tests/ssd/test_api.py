"""The Python call: the same bytes as the command, a run in pieces, progress, errors before any work."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
import torch

import threestudio_ssd as ssd
from tests.edit_world import REPOSITORY, SIZE, run
from threestudio.errors import CheckpointError
from threestudio_ssd.api import NotFiniteError

SMOKE = "configs/smoke/edit.yaml"
SOURCE, TARGET = "a photo of a red ball on grass", "a photo of a blue ball on grass"


def edit_of(world, **more):
    """The smoke edit by the Python call."""
    words = {
        "cameras": world / "cameras.json", "source": SOURCE, "target": TARGET, "model": world / "model", "steps": 4,
        "mask": ssd.Mask(picture=str(world / "masks")), "config": SMOKE,
    }  # fmt: skip
    return ssd.edit_scene(world / "scene.ply", **{**words, **more})


def test_the_same_words_give_the_bytes_of_launch_py(world, tmp_path):
    progress = []
    edit = edit_of(world)
    edit.run(on_step=progress.append)
    edit.save(tmp_path / "edited.ply")
    assert [each.step for each in progress] == [1, 2, 3, 4]
    assert progress[0].remaining_seconds > 0 == progress[-1].remaining_seconds
    assert progress[0].facts["timestep"] > progress[-1].facts["timestep"]
    code, folder = run(world, tmp_path, "train", "export")
    assert code == 0
    assert (tmp_path / "edited.ply").read_bytes() == (folder / "save" / "edited.ply").read_bytes()


def test_a_run_in_pieces_and_in_two_processes_is_the_run(world):
    whole, first, second = (edit_of(world) for _ in range(3))
    whole.run()
    first.run(1)
    first.run(on_step=lambda progress: progress.step < 3)
    assert (first.step, first.num_steps) == (3, 4)
    second.load_state_dict(first.state_dict())
    second.run()
    assert second.step == 4
    assert torch.equal(second.result().sh0, whole.result().sh0)
    assert torch.equal(second.result().means, whole.result().means)


def test_what_is_not_selected_stays_and_images_show_the_change(world):
    edit = edit_of(world, changes={"data.num_test_views": 2})
    before = edit.images(2, before=True)
    edit.run()
    assert before.shape == edit.images(2).shape == (2, 48, 48, 3)
    assert not torch.equal(before, edit.images(2))
    kept = ~edit.is_selected
    assert 0 < kept.sum() < len(edit.source)
    assert torch.equal(edit.result().sh0[kept], edit.source.sh0[kept])


def test_an_image_is_edited_like_a_scene(world, tmp_path):
    from PIL import Image

    Image.new("RGB", (SIZE, SIZE), (200, 40, 40)).save(tmp_path / "in.png")
    edit = ssd.edit_image(tmp_path / "in.png", source=SOURCE, target=TARGET, model=world / "model", steps=3)
    edit.run()
    edit.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (SIZE, SIZE)
    assert edit.result().shape == (SIZE, SIZE, 3)


def test_an_edit_that_runs_away_is_an_error_and_saves_nothing(world, tmp_path):
    edit = edit_of(world, changes={"system.lambda_guidance": 1e39})
    with pytest.raises(NotFiniteError, match="the edit is not finite after step 4"):
        edit.run()
    with pytest.raises(NotFiniteError):
        edit.save(tmp_path / "edited.ply")
    assert not (tmp_path / "edited.ply").exists()


@pytest.mark.parametrize("steps_at_once", [1, 2])
def test_a_null_edit_changes_nothing_to_the_last_bit(world, steps_at_once):
    """The source is encoded as the edit is: an encoder's last bits depend on how many images it gets."""
    changes = {"system.guidance.score": {"name": "dds"}, "data.batch_size": steps_at_once}
    edit = edit_of(world, target=SOURCE, changes=changes)
    edit.run()
    assert edit.step == edit.num_steps
    assert torch.equal(edit.result().sh0, edit.source.sh0)


def test_a_state_is_a_copy_and_one_of_another_edit_is_refused_whole(world):
    edit = edit_of(world)
    edit.run(2)
    state = edit.state_dict()
    middle = edit.result().sh0.clone()
    edit.run()
    end = edit.result().sh0.clone()
    edit.load_state_dict(state)
    assert torch.equal(edit.result().sh0, middle)
    for broken in ({}, {**state, "optimizers": []}, {**state, "edit": {}}):
        with pytest.raises(CheckpointError, match="does not fit"):
            edit.load_state_dict(broken)
        assert torch.equal(edit.result().sh0, middle)
    edit.run()
    assert torch.equal(edit.result().sh0, end)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"changes": {"system.lamda_detail": 1}}, "unknown key system.lamda_detail"),
        ({"changes": {"lambda_detail": 1}}, f"config {SMOKE} has no key lambda_detail"),
        ({"changes": {"trainer.max_steps": 2}}, "trainer.max_steps says nothing"),
        ({"steps": 0}, "steps is 0"),
        ({"target": " "}, "target_prompt is empty"),
        ({"config": "configs/ssd-image.yaml"}, "config configs/ssd-image.yaml has no key"),
        ({"mask": ssd.Mask(box=[9, 9, 9, 10, 10, 10])}, "the mask (box [9"),
    ],
)
def test_mistakes_are_one_line(world, more, what):
    with pytest.raises(ValueError, match=re.escape(what)) as error:
        edit_of(world, **more)
    assert error.value.what.startswith(what)
    assert error.value.fix


def test_a_mask_is_every_key_of_the_config_s(world):
    """So a mask of the call never mixes with the one that a config ships."""
    from threestudio.utils.config_files import read_file

    names = {field.name for field in dataclasses.fields(ssd.Mask)}
    assert set(read_file("configs/ssd-gs.yaml").mask) <= names


def test_an_editable_install_maps_the_plugin_to_its_folder():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert set(settings["packages"]) == {"threestudio", "threestudio_ssd"}
    folder = REPOSITORY / settings["package-dir"]["threestudio_ssd"]
    assert folder / "__init__.py" == Path(ssd.__file__).resolve()
