"""Editing a picture with every score there is, from config to files, alone and with the contrastive term."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.edit_world import REPOSITORY, SIZE, SOURCE, TARGET, channels_for, write_clip
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.scores import CDS, SCORES

STEPS = 2
BRANCHES = {
    "sds": 2, "dds": 4, "csd": 2, "nfsd": 3, "pds": 4, "dream-catalyst": 4, "ssd": 4, "ssd-focused": 4, "ssd-ip2p": 4,
    "ssd-settled": 4, "ssd-local": 4, "vsd": 4, "piva": 8, "dream-catalyst-ip2p": 5,
}  # fmt: skip
"""Predictions of a step, counted by hand; VSD and Piva with those of the LoRA. Any other score: its branches."""
CONTRASTED = {
    "sds": 3, "dds": 4, "csd": 3, "nfsd": 4, "pds": 4, "dream-catalyst": 4, "ssd": 5, "ssd-focused": 4, "ssd-ip2p": 5,
    "ssd-settled": 4.5, "ssd-local": 4.5, "vsd": 5, "piva": 8, "dream-catalyst-ip2p": 5,
}  # fmt: skip
"""The same with the contrastive term, which needs (source, source prompt) and (target, target prompt); ssd-settled
and ssd-local have one more in half of the steps."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A picture, and models of random weights: one that reads a picture, one that does not."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(60, 200, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    for channels in (4, 8):
        save_components(random_components(image_size=SIZE, in_channels=channels), folder / f"model-{channels}")
    write_clip(folder / "clip")
    return folder


@pytest.mark.parametrize("contrast", [0, 3])
@pytest.mark.parametrize("score", SCORES)
def test_every_score_edits_a_picture(world, tmp_path, score, contrast):
    words = {
        "picture": world / "picture.png", "model": world / f"model-{channels_for(score)}", "steps": STEPS,
        "use_timestamp": "false", "tag": "edit", "exp_root_dir": tmp_path, "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false", "system.clip_model": world / "clip",
        "source_prompt": SOURCE, "target_prompt": TARGET,
        "system.guidance.score.name": score, "system.guidance.cds.weight": contrast, "system.learning_rate": 0.1,
    }  # fmt: skip
    cfg = load_config(REPOSITORY / "configs" / "ssd-image.yaml", cli_args=[f"{key}={words[key]}" for key in words])
    assert run_experiment(complete(cfg), ["train", "test", "export"]) == 0
    save = tmp_path / "ssd-image" / "edit" / "save"
    report = json.loads((save / "report.json").read_text())
    assert report["score"]["name"] == score
    assert report["steps"] == STEPS
    branches = {*SCORES[score]().branches, *(CDS.branches if contrast else ())}
    expected = (CONTRASTED if contrast else BRANCHES).get(score, len(branches))
    assert report["noise_predictions"] == STEPS * expected
    assert report["change_inside"] > 1 / 255
    with Image.open(save / "edited.png") as picture:
        assert picture.size == (SIZE, SIZE)
