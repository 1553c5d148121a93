"""A shape refitted first, then a score: what docs/findings.md says of doing both."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from threestudio.plugins import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.toy.trials import HELD_OUT_SIZE, Trial
from threestudio_ssd.benchmarks.toy.whole import make_edit, open_edit
from threestudio_ssd.gaussians.io import save_gaussians
from threestudio_ssd.masks import MaskConfig
from threestudio_ssd.metrics import psnr
from threestudio_ssd.toyworld import PART_GROUND, build_scene
from threestudio_ssd.toyworld.capture import write_scene
from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.splat import to_gaussians
from threestudio_ssd.toyworld.truth import make_truth, shots, turned_truth
from threestudio_ssd.toyworld.views import capture_views, held_out_orbit

SCENE_SEED = 5
PAIRS = [("ball-snowman", "snow"), ("cylinder-cone", "wood"), ("ball-cube", "sand")]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def refitted(request, tmp_path_factory):
    """The edit, the new ground, the refitted splat, which of its Gaussians are new, where the new object looks."""
    name, ground = request.param
    edit, place = toy_edit(name), tmp_path_factory.mktemp(name)
    write_scene(place, edit.source, SCENE_SEED)
    own = {
        "system.scene": str(place / "scene.ply"),
        "data.cameras": str(place / "cameras.json"),
        "system.mask.picture": str(place / "masks"),
    }
    job = open_edit(Trial(edit, 0, SCENE_SEED), complete(load_config(REPOSITORY / "configs" / "shape-gs.yaml")), own)
    make_edit(job)
    result, views = job.editable.result().to("cpu"), held_out_orbit(HELD_OUT_SIZE)
    turn_deg = turned_truth(shots(result, views), edit, SCENE_SEED, views).turn_deg
    before = {row.tobytes() for row in to_gaussians(build_scene(edit.source, SCENE_SEED)).means.numpy()}
    is_new = np.array([row.tobytes() not in before for row in result.means.numpy()])
    return edit, ground, result, is_new, turn_deg


def distilled(edit, result, selection, steps, folder):
    """The splat after a run of the default score, which may change the selection alone."""
    save_gaussians(result, folder / "scene.ply")
    np.save(folder / "selection.npy", selection)
    mask = asdict(MaskConfig(saved=str(folder / "selection.npy")))
    own = {"system.scene": str(folder / "scene.ply"), "system.mask": mask}
    cfg = complete(load_config(REPOSITORY / "configs" / "ssd-gs.yaml", cli_args=[f"steps={steps}"]))
    job = open_edit(Trial(edit, 0, SCENE_SEED), cfg, own, capture_views(24, HELD_OUT_SIZE))
    make_edit(job)
    return job.editable.result().to("cpu")


@pytest.mark.slow
def test_what_is_around_a_refitted_object_can_be_distilled_after_it(refitted, tmp_path):
    edit, ground, result, _, turn_deg = refitted
    then = replace(edit, source=edit.target, target=edit.target._replace(ground=ground))
    scene = build_scene(edit.source, SCENE_SEED)
    grounds = {row.tobytes() for row in scene.means[scene.parts == PART_GROUND]}
    is_ground = np.array([row.tobytes() in grounds for row in result.means.numpy()])
    both = distilled(then, result, is_ground, 300, tmp_path)
    views = held_out_orbit(HELD_OUT_SIZE)
    truth = shots(to_gaussians(build_scene(then.target, SCENE_SEED, turn_deg=turn_deg)), views)
    everywhere = torch.ones(len(views), HELD_OUT_SIZE, HELD_OUT_SIZE, dtype=torch.bool)
    alone, together = (float(psnr(shots(each, views), truth, everywhere).mean()) for each in (result, both))
    assert alone < 12
    assert together > 26


@pytest.mark.slow
def test_a_score_makes_a_refitted_object_worse(refitted, tmp_path):
    edit, _, result, is_new, turn_deg = refitted
    views = held_out_orbit(HELD_OUT_SIZE)
    truth = make_truth(edit, SCENE_SEED, views, turn_deg)
    after = distilled(edit, result, is_new, 100, tmp_path)
    alone, then = (float(psnr(shots(each, views), truth.target, truth.inside).mean()) for each in (result, after))
    assert alone > 25
    assert then < alone - 3
