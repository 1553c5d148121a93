"""A new object in a box: it stays inside, the scene keeps its bytes, and a run writes what an edit writes."""

import json

import pytest
import torch

from tests.edit_world import QUIET, REPOSITORY, SIZE, toy_parts, vertex_rows
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.edits.scene_add import extents
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians import rotation_matrices
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.masks import load_selection
from threestudio_ssd.report.edit_report import verdicts_of
from threestudio_ssd.systems.scene_add import SceneAddSystem

BOX = [1.2, -0.6, 0.0, 2.2, 0.4, 1.0]


def experiment(world, out, **more):
    words = {
        "scene": world / "scene.ply", "cameras": world / "cameras.json", "model": world / "model", "box": BOX,
        "source_prompt": "a photo of grass", "target_prompt": "a photo of a red ball on grass",
        "system.clip_model": world / "clip", "exp_root_dir": out, "use_timestamp": "false", "tag": "add",
        "trainer.accelerator": "cpu", "steps": 6, "system.num_start": 60, "data.num_train_views": 4,
        "data.num_test_views": 2, "data.test_size": 24, "data.video_frames": 0, "system.preview_every": 0,
        "data.size": SIZE, "system.growth.start": 2, "system.growth.stop": 4, "system.growth.every": 2, **QUIET, **more,
    }  # fmt: skip
    path = REPOSITORY / "configs" / "add-gs.yaml"
    return complete(load_config(path, cli_args=[f"{key}={value}" for key, value in words.items()]))


@pytest.fixture(scope="module")
def added(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("added")
    assert run_experiment(experiment(world, out), ["train", "test", "export"]) == 0
    return out / "add-gs" / "add" / "save"


def test_the_scene_keeps_its_bytes_and_the_object_follows(world, added):
    before, after = vertex_rows(world / "scene.ply"), vertex_rows(added / "edited.ply")
    assert after[: len(before)] == before
    assert len(after) >= len(before) + 55
    is_new = load_selection(added / "edited_selection.npy", len(after))
    assert is_new[len(before) :].all()
    assert not is_new[: len(before)].any()


def test_the_object_stays_in_its_box(world, added):
    count = len(load_gaussians(world / "scene.ply"))
    new = load_gaussians(added / "edited.ply").select(slice(count, None))
    low, high = torch.tensor(BOX).view(2, 3)
    reach = 2 * extents(new)
    assert (new.means - reach >= low - 1e-4).all()
    assert (new.means + reach <= high + 1e-4).all()
    assert new.scales.max() <= 0.15 * 1.0 + 1e-5


def test_the_report_compares_with_the_scene_without_it(world, added):
    report = json.loads((added / "report.json").read_text())
    count = len(load_gaussians(world / "scene.ply"))
    assert report["num_gaussians_before"] == count
    assert report["num_gaussians_after"] == count + report["num_selected"]
    assert report["change_inside"] > 0.02
    assert report["psnr_outside"] > 30
    assert report["verdicts"] == verdicts_of(report)


def test_extents_are_those_of_the_covariances(generator):
    scene, _ = toy_parts(keep_every=50)
    turned = scene.replace(raw_quats=torch.randn(len(scene), 4, generator=generator))
    axes = rotation_matrices(turned.quats) @ torch.diag_embed(turned.scales)
    torch.testing.assert_close(extents(turned), (axes @ axes.mT).diagonal(dim1=1, dim2=2).sqrt())
    assert not torch.allclose(extents(turned), turned.scales)


def test_the_start_fills_most_of_the_box(world, tmp_path):
    system = SceneAddSystem(experiment(world, tmp_path, **{"system.num_start": 500}).system)
    start = system.job.start_object()
    low, high = torch.tensor(BOX).view(2, 3)
    torch.testing.assert_close(start.means.mean(dim=0), (low + high) / 2, atol=0.1, rtol=0)
    assert (start.means.amax(dim=0) > (low + high) / 2 + 0.35).all()
    assert ((start.means - (low + high) / 2).norm(dim=1) <= 0.4001).all()
    again = SceneAddSystem(experiment(world, tmp_path, **{"system.num_start": 500}).system).job.start_object()
    assert torch.equal(start.means, again.means)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"box": "[]"}, "box is empty"),
        ({"box": "[0,0,0,1,1,0]"}, "box is [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]"),
        ({"system.num_start": 3}, "system.num_start is 3"),
        ({"system.start_size": 1.5}, "system.start_size is 1.5"),
        ({"system.start_opacity": 1}, "system.start_opacity is 1.0"),
    ],
)
def test_objects_that_cannot_be_placed(world, tmp_path, more, what):
    with pytest.raises(ConfigError) as error:
        SceneAddSystem(experiment(world, tmp_path, **more).system)
    assert error.value.what == what
