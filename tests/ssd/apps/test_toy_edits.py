"""Edits with known outcome: the list, and a judge that tells right from wrong."""

import numpy as np
import torch

from threestudio_ssd.apps.make_toy_data import write_scene_shards
from threestudio_ssd.apps.tiny_quality import sample
from threestudio_ssd.apps.toy_edits import as_table, judge
from threestudio_ssd.apps.training import Worker
from threestudio_ssd.diffusion.random import random_backbone
from threestudio_ssd.toyworld import build_scene
from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.splat import to_gaussians


def test_the_judge_prefers_the_truth(tmp_path):
    edit = toy_edit("blue-ball")
    truth, source = (to_gaussians(build_scene(a, 3)) for a in (edit.target, edit.source))
    right = judge(edit, truth, tmp_path, 3)
    wrong = judge(edit, source, tmp_path, 3)
    assert right["success"] == 1
    assert wrong["success"] == 0
    assert right["psnr_truth_after"] > 60 > wrong["psnr_truth_after"]
    assert wrong["outside_psnr"] == 100
    assert (tmp_path / "strip.png").exists()
    row = right | {"source_prompt": "a", "target_prompt": "b", "seconds": 1.0}
    assert "| a → b | 1.00 |" in as_table([row])


def test_sampling_follows_its_prompts():
    backbone = random_backbone()
    images = sample(backbone, ["a red ball", "a blue ball"], 2.0, 3)
    assert images.shape[0] == 2
    assert torch.equal(images, sample(backbone, ["a red ball", "a blue ball"], 2.0, 3))
    assert not torch.equal(images[1], sample(backbone, ["a red ball", "a red cat"], 2.0, 3)[1])


def test_data_shards_are_reproducible(tmp_path):
    for folder in ("a", "b"):
        write_scene_shards(Worker(0, 1), tmp_path / folder, 1, 2)
    first, second = (np.load(tmp_path / folder / "shard_000.npz") for folder in ("a", "b"))
    assert first["images"].shape == (6, 64, 64, 3)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert 0.02 < first["object_masks"].mean() < 0.6
