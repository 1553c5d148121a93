"""The shipped captures, edited for a few steps by their own configs: the selection changes, the rest does not."""

import numpy as np
import pytest
import torch

from tests.e2e.test_edit import launch
from tests.edit_world import REPOSITORY
from threestudio_ssd.gaussians import load_gaussians, rotation_matrices

CAPTURES = {"plant": ".ply", "playbot": ".ply", "banana": ".spz"}
FEW = ("steps=3", "data.num_train_views=4", "data.video_frames=0", "use_timestamp=false", "tag=few")


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_is_edited_by_its_config(name, tmp_path):
    words = ["--config", f"configs/{name}.yaml", *FEW, f"exp_root_dir={tmp_path}", "trainer.accelerator=cpu"]
    done = launch(*words, folder=REPOSITORY)
    assert done.returncode == 0, done.stderr
    save = tmp_path / name / "few" / "save"
    edited = save / f"edited{CAPTURES[name]}"
    assert done.stdout.splitlines()[-1] == str(edited)
    source = REPOSITORY / "data" / name / {"playbot": "playbot_31k.ply"}.get(name, f"{name}{CAPTURES[name]}")
    before, after = load_gaussians(source), load_gaussians(edited)
    is_selected = torch.from_numpy(np.load(save / "selection.npy")).bool()
    assert 0.05 < is_selected.float().mean() < 0.95
    for field in ("means", "log_scales", "raw_quats", "logit_opacities", "sh0", "shN"):
        assert torch.equal(getattr(before, field)[~is_selected], getattr(after, field)[~is_selected]), field
    has_moved = (before.sh0 != after.sh0).flatten(1).any(dim=1)
    assert has_moved[is_selected].float().mean() > 0.5
    shown_by_viser(after)


def shown_by_viser(gaussians):
    """The viewer takes the scene."""
    import viser

    turns = rotation_matrices(gaussians.quats).numpy()
    spread = turns @ (np.eye(3) * gaussians.scales.numpy()[:, None, :] ** 2) @ turns.transpose(0, 2, 1)
    colors = np.clip(0.5 + 0.28209479 * gaussians.sh0[:, 0].numpy(), 0, 1)
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        opacities = gaussians.opacities.numpy()[:, None]
        server.scene.add_gaussian_splats("/edited", gaussians.means.numpy(), spread, colors, opacities)
    finally:
        server.stop()
