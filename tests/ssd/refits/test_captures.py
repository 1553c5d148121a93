"""Real captures, edited through the folder: pictures whose hue was turned, against Gaussians whose hue was."""

import pytest
import torch

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data import ViewPlan
from threestudio_ssd.images import save_image
from threestudio_ssd.metrics import psnr
from threestudio_ssd.refits.scene_refit import SceneRefit
from threestudio_ssd.rendering import coverage, render_bchw

SIDE, INSIDE = 256, 0.5
TURN = [1, 2, 0]
"""Red becomes green, green blue, blue red: a third of a turn of the hue."""
CAPTURES = {
    "plant": [
        "mask.box=[-0.3,-0.55,-0.35,0.3,0.14,0.35]",
        "data.radius_scale=[1.05,1.3]",
        "scene=data/plant/plant.ply",
    ],
    "playbot": ["mask.box=[-0.6,-1.15,-0.4,0.6,-0.18,0.4]", "data.up=-y", "scene=data/playbot/playbot_31k.ply"],
    "banana": ["mask.picture=data/banana/masks", "cameras=data/banana", "scene=data/banana/banana.spz"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURES)
def test_a_turn_of_the_hue_comes_back_as_if_the_gaussians_had_been_turned(name, tmp_path, monkeypatch):
    """Within 1.5 dB inside, over held-out views; what is outside stays."""
    monkeypatch.chdir(REPOSITORY)
    cfg = complete(load_config("configs/folder-gs.yaml", cli_args=[
        *CAPTURES[name], f"folder={tmp_path}", "target_prompt=turned", f"system.editing.editor.image_size={SIDE}",
        "system.background=[1,1,1]", "steps=200",
    ]))  # fmt: skip
    job = SceneRefit(cfg.system)
    job.open(ViewPlan(cfg.data))
    is_selected, cameras, sources = job.selection.is_selected, job.editing.cameras, job.editing.sources
    edited = turned(sources, coverage(job.scene, is_selected, cameras)[:, None])
    (tmp_path / "edited").mkdir()
    for view, image in zip(cameras.names, edited, strict=True):
        save_image(tmp_path / "edited" / f"{view}.png", image.permute(1, 2, 0))
    job.edit.prepare()
    job.edit.make_steps()

    views = job.views.test.scaled(SIDE / int(torch.stack([job.views.test.widths, job.views.test.heights]).min()))
    recolored = job.scene.replace(**{
        name: torch.where(is_selected[:, None, None], values[..., TURN], values)
        for name, values in (("sh0", job.scene.sh0), ("shN", job.scene.shN))
    })  # fmt: skip
    before, ours, theirs = (
        render_bchw(each, views, job.background).clamp(0, 1) for each in (job.scene, job.editable.result(), recolored)
    )
    shares = coverage(job.scene, is_selected, views)[:, None]
    truth, inside = turned(before, shares), shares[:, 0] > INSIDE
    lost = psnr(theirs, truth, inside).mean() - psnr(ours, truth, inside).mean()
    assert lost < 1.5
    assert psnr(ours, before, shares[:, 0] < 0.02).mean() > 50


def turned(images, shares):
    """Images with their hue turned, as far as the shares say."""
    return images.lerp(images[:, TURN], shares)
