"""The Python call: the same bytes as the command, a run in pieces, progress, errors before any work."""

import dataclasses
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import torch
from PIL import Image

import threestudio_ssd as ssd
from tests import oracle
from tests.edit_world import QUIET, REPOSITORY, SIZE, run
from tests.oracle import Oracle
from threestudio.errors import CheckpointError
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.api import NotFiniteError
from threestudio_ssd.editors import EDITORS
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians

SMOKE = "configs/smoke/edit.yaml"
SOURCE, TARGET = "a photo of a red ball on grass", "a photo of a blue ball on grass"


def edit_of(world, scene="scene.ply", **more):
    """The smoke edit by the Python call."""
    words = {
        "cameras": world / "cameras.json", "source": SOURCE, "target": TARGET, "model": world / "model", "steps": 4,
        "mask": ssd.Mask(picture=str(world / "masks")), "config": SMOKE,
    }  # fmt: skip
    return ssd.edit_scene(world / scene, **{**words, **more})


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


def refit_of(place, **more):
    words = {
        "cameras": place / "cameras.json", "target": "a red cone", "mask": ssd.Mask(picture=str(place / "masks")),
        "steps": 12, "config": "configs/idu-gs.yaml",
        "changes": {
            "system.editing.editor": {"name": "oracle"}, "data.num_train_views": 6, "data.num_test_views": 2,
            "system.closing.num_steps": 0, "system.rounds": [
                {"strength": 0.9, "steps": 4, "carve": "views"},
                {"strength": 0.3, "steps": 8, "carve": "renders", "relight": True},
            ],
        },
    }  # fmt: skip
    return ssd.refit_scene(place / "scene.ply", **{**words, **more})


@pytest.mark.parametrize(("model", "steps"), [("data/tiny-ip2p", 70), ("data/tiny-ldm", 280)])
def test_a_refit_has_as_many_steps_as_its_config_says(model, steps):
    run = ssd.refit_scene(
        REPOSITORY / "data/toy-scene/scene.ply", target="a red cube", source="a red ball", model=model,
        mask=ssd.Mask(box=[-1, -1, 0.1, 1, 1, 2]), changes={"system.closing.num_steps": 0},
    )  # fmt: skip
    assert run.num_steps == steps


def test_a_refit_gives_the_bytes_of_launch_py_and_can_be_stopped(world, tmp_path, monkeypatch):
    monkeypatch.setitem(EDITORS, "oracle", Oracle)
    edited = []
    edit = refit_of(world, on_views=lambda number, names, images: edited.append((number, len(names), images.shape)))
    edit.run(5)
    state = edit.state_dict()
    edit.run()
    edit.save(tmp_path / "edited.ply")
    assert [each[:2] for each in edited] == [(0, 6), (1, 6), (1, 6)]  # once more in the light of the source
    assert edited[0][2] == (6, 3, oracle.SIZE, oracle.SIZE)
    assert edit.images(2).shape[0] == 2
    words = {
        "scene": world / "scene.ply", "cameras": world / "cameras.json", "mask.picture": world / "masks",
        "target_prompt": "a red cone", "steps": 12, "system.editing.editor.name": "oracle", "tag": "run",
        "data.num_train_views": 6, "data.num_test_views": 2, "use_timestamp": "false", "exp_root_dir": tmp_path,
        "system.closing.num_steps": 0,
        "system.rounds": "[{strength: 0.9, steps: 4, carve: views},"
                         " {strength: 0.3, steps: 8, carve: renders, relight: true}]",
        "trainer.accelerator": "cpu", "system.preview_every": 0, **QUIET,
    }  # fmt: skip
    cfg = load_config(REPOSITORY / "configs/idu-gs.yaml", cli_args=[f"{key}={value}" for key, value in words.items()])
    assert run_experiment(complete(cfg), ["train", "export"]) == 0
    expected = (tmp_path / "idu-gs" / "run" / "save" / "edited.ply").read_bytes()
    assert (tmp_path / "edited.ply").read_bytes() == expected
    again = refit_of(world)
    again.load_state_dict(state)
    again.run()
    again.save(tmp_path / "again.ply")
    assert (tmp_path / "again.ply").read_bytes() == expected


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"mask": None}, "the mask selects all"),
        ({"target": " "}, "target_prompt is empty"),
        ({"config": SMOKE, "changes": {}}, f"config {SMOKE} is of ssd-gs-system"),
    ],
)
def test_mistakes_in_a_refit_are_one_line(world, monkeypatch, more, what):
    monkeypatch.setitem(EDITORS, "oracle", Oracle)
    with pytest.raises(ValueError, match=re.escape(what)) as error:
        refit_of(world, **more)
    assert error.value.expected
    assert error.value.fix


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
    edit = image_edit_of(world, tmp_path)
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


@pytest.mark.parametrize("colors", ["free", "bounded"])
def test_a_null_edit_of_a_scene_out_of_range_changes_nothing_either(world, tmp_path, colors):
    """Pixels beyond white and black, view-dependent colours, the detail term: still the same bytes."""
    scene = load_gaussians(world / "scene.ply").with_sh_degree(1)
    draws = torch.Generator().manual_seed(0)
    sh0, shN = (part + 4 * torch.randn(part.shape, generator=draws) for part in (scene.sh0, scene.shN))
    save_gaussians(scene.replace(sh0=sh0, shN=shN), tmp_path / "scene.ply")
    changes = {"system.guidance.score": {"name": "dds"}, "system.lambda_detail": 1, "system.colors": colors}
    edit = edit_of(world, scene=tmp_path / "scene.ply", target=SOURCE, changes=changes)
    edit.run()
    edit.save(tmp_path / "edited.ply")
    assert (tmp_path / "edited.ply").read_bytes() == (tmp_path / "scene.ply").read_bytes()


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
        ({"mask": ssd.Mask(any_of=[ssd.Mask(box=[0, 0, 0, 1, 1, 1], threshold=0.9)])},
         "unknown key system.mask.any_of[0].threshold"),
        ({"seed": -1}, "seed is -1"),
        ({"config": "no.yaml"}, "the config no.yaml does not exist"),
        ({"changes": {"data..crop": 4}}, "changes has the key 'data..crop'"),
        ({"changes": {"data.crop": object}}, "data.crop is <class 'object'>, of type type"),
        ({"changes": {"system.lambda_anchor": {"sh0": {1}}}}, "system.lambda_anchor.sh0 is {1}, of type set"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(world, more, what):
    with pytest.raises(ValueError, match=re.escape(what)) as error:
        edit_of(world, **more)
    assert error.value.what.startswith(what)
    assert error.value.expected
    assert error.value.fix


def image_edit_of(world, folder, **more):
    Image.new("RGB", (SIZE, SIZE), (200, 40, 40)).save(folder / "in.png")
    words = {"source": SOURCE, "target": TARGET, "model": world / "model", "steps": 3}
    return ssd.edit_image(folder / "in.png", **{**words, **more})


@pytest.mark.parametrize("kind", ["scene", "image"])
def test_mistakes_while_it_runs_are_one_line(world, tmp_path, kind):
    edit, suffix = (edit_of(world), ".ply") if kind == "scene" else (image_edit_of(world, tmp_path), ".png")
    (tmp_path / "there").with_suffix(suffix).mkdir()
    calls = [
        (lambda: edit.run(-1), "num_steps is -1"),
        (lambda: edit.save(f"/proc/no/edited{suffix}"), f"/proc/no/edited{suffix} cannot be written (No such file"),
        (lambda: edit.save(tmp_path / f"there{suffix}"), f"there{suffix} cannot be written (it is a folder)"),
        (lambda: edit.save(tmp_path / "edited.xyz"), "edited.xyz: unknown suffix '.xyz'"),
        (lambda: edit.save(tmp_path / "edited"), "edited: unknown suffix ''"),
    ]
    if kind == "scene":
        calls.append((lambda: edit.images(0), "count is 0"))
    before = sorted(tmp_path.iterdir())
    for call, what in calls:
        with pytest.raises(ValueError, match=re.escape(what)) as error:
            call()
        assert error.value.expected
        assert error.value.fix
    assert edit.step == 0
    assert sorted(tmp_path.iterdir()) == before


def test_an_image_does_not_move_at_a_rate_of_zero(world, tmp_path):
    with pytest.raises(ValueError, match=r"system.learning_rate is 0; expected above 0"):
        image_edit_of(world, tmp_path, changes={"system.learning_rate": 0})


WRONG_TYPES = {
    "scene(mask='masks/')": "mask is 'masks/', of type str",
    "scene(mask={'text': 'ball'})": "mask is {'text': 'ball'}, of type dict",
    "scene(mask=ssd.Mask(box={1, 2}))": "mask.box is {1, 2}, of type set",
    "image(mask=['mask.png'])": "mask is ['mask.png'], of type list",
    "refit(on_views=3)": "on_views is 3, of type int",
    "refit(mask='masks/')": "mask is 'masks/', of type str",
    "scene(target=3)": "target is 3, of type int",
    "image(target=None)": "target is None, of type NoneType",
    "scene(source=None)": "source is None, of type NoneType",
    "scene(cameras=3)": "cameras is 3, of type int",
    "scene(model=None)": "model is None, of type NoneType",
    "scene(steps='2')": "steps is '2', of type str",
    "image(steps=2.5)": "steps is 2.5, of type float",
    "scene(steps=True)": "steps is True, of type bool",
    "scene(strength='much')": "strength is 'much', of type str",
    "scene(config=None)": "config is None, of type NoneType",
    "scene(changes=['data.crop=selection'])": "changes is ['data.crop=selection'], of type list",
    "scene(changes={3: 4})": "changes has the key 3",
    "scene(changes={'system.num_steps': 4})": "changes sets system.num_steps, which an argument sets",
    "scene(changes={'source_prompt': 'a'})": "changes sets source_prompt, which an argument sets",
    "edit.run('2')": "num_steps is '2', of type str",
    "edit.run(on_step=3)": "on_step is 3, of type int",
    "edit.images('2')": "count is '2', of type str",
    "edit.save(None)": "path is None, of type NoneType",
    "edit.run(np.int64(3), on_step=lambda progress: np.bool_(progress.step < 2))": None,
    "steps_made(2)": None,
    "edit.images(np.int64(1)) is None": None,
}
"""What is called -> what is wrong with it, if anything is."""
CALLS = """
import json, sys
import numpy as np
import torch
import threestudio
import threestudio_ssd as ssd

world, calls = sys.argv[1], json.loads(sys.argv[2])
words = {"source": "a red ball", "target": "a blue ball", "model": f"{world}/model"}

def scene(**more):
    mask, config = ssd.Mask(picture=f"{world}/masks"), "configs/smoke/edit.yaml"
    given = {"cameras": f"{world}/cameras.json", "mask": mask, "config": config, "steps": 4, **words, **more}
    return ssd.edit_scene(f"{world}/scene.ply", **given)

def refit(**more):
    return ssd.refit_scene(f"{world}/scene.ply", **{**words, **more})

def image(**more):
    return ssd.edit_image("data/toy-scene/view.png", **{**words, **more})

def steps_made(count):
    assert edit.step == count

box = np.array([-2.0, -2, -2, 2, 2, 2])
changes = {
    "system.lambda_anchor.sh0": np.float32(0.5), "data.elevation_deg": np.array([5, 45]),
    "system.learning_rates": {"sh0": torch.tensor(0.1)},
}
edit = scene(steps=np.int64(4), seed=np.uint8(0), mask=ssd.Mask(box=box), changes=changes)
said = {}
for call in calls:
    try:
        eval(call)
        said[call] = None
    except ValueError as error:
        assert error.expected and error.fix
        said[call] = error.what
print(json.dumps(said))
"""


def test_wrong_types_are_one_line_and_numpy_s_are_taken(world):
    """In a process of its own, since tests check annotations before any line of ours can say so."""
    command = [sys.executable, "-c", CALLS, str(world), json.dumps(list(WRONG_TYPES))]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == WRONG_TYPES


def test_a_mask_of_masks(world):
    """A part may be an ``ssd.Mask`` or its keys; it is the same selection."""
    box, ball = [-2, -2, 0, 2, 2, 2], [0, 0, 1, 0.5]
    parts = [
        [ssd.Mask(box=box), ssd.Mask(any_of=[ssd.Mask(sphere=ball)])],
        [{"box": box}, {"any_of": [{"sphere": ball}]}],
    ]
    first, second = (edit_of(world, mask=ssd.Mask(any_of=part, none_of=part[1:])).is_selected for part in parts)
    assert torch.equal(first, second)
    assert 0 < first.sum() < len(first)


def test_a_prompt_is_a_text_whatever_it_looks_like(world):
    for prompt in ("a ${seed} ball", "${nowhere}", "\\${seed}", "null", "a ${", "#1 ball"):
        edit = edit_of(world, target=prompt)
        assert edit._job.prompts.cfg.target_prompt == prompt


def test_a_mask_is_every_key_of_the_config_s(world):
    """So a mask of the call never mixes with the one that a config ships."""
    from threestudio.utils.config_files import read_file

    names = {field.name for field in dataclasses.fields(ssd.Mask)}
    assert set(read_file("configs/ssd-gs.yaml").mask) <= names


def test_an_editable_install_maps_the_plugin_to_its_folder(monkeypatch):
    settings = {}
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(setuptools, "setup", lambda **keys: settings.update(keys))
    runpy.run_path("setup.py")
    assert {"threestudio", "threestudio_ssd"} <= set(settings["packages"])
    folder = REPOSITORY / settings["package_dir"]["threestudio_ssd"]
    assert folder / "__init__.py" == Path(ssd.__file__).resolve()
