"""A GLB file written here, drawn by Babylon.js in a browser, looks as it is rendered here."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import REPOSITORY, toy_cameras, toy_parts
from threestudio_ssd.gaussians import rotated, save_gaussians
from threestudio_ssd.gaussians.sh import C0
from threestudio_ssd.gaussians.transform import turn_to_y_up
from threestudio_ssd.metrics import psnr
from threestudio_ssd.rendering import render_bchw

MODULES = REPOSITORY / ".venv" / "node" / "node_modules"
"""Where ``make setup-dev`` puts Babylon.js."""
SIZE = 256


@pytest.fixture
def draw(page, tmp_path):
    """Draws a file of ``tmp_path`` from a camera of the scene that it was written from: (h w 3)."""
    kinds = {".html": "text/html", ".js": "text/javascript", ".glb": "model/gltf-binary"}

    def answer(route):
        name = route.request.url.removeprefix("http://site/")
        file = next(each / name for each in (Path(__file__).parent, MODULES, tmp_path) if (each / name).is_file())
        route.fulfill(path=file, content_type=kinds[file.suffix])

    def drawn(name, camera):
        axes = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        view = axes @ camera.viewmats[0].float() @ torch.from_numpy(turn_to_y_up("-y").T).float()
        fov = 2 * math.atan(SIZE / 2 / float(camera.Ks[0, 1, 1]))
        assert page.evaluate("(args) => draw(...args)", [name, view.T.flatten().tolist(), fov]) == 1
        page.screenshot(path=tmp_path / "shot.png")
        return torch.from_numpy(np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")) / np.float32(255))

    page.route("http://site/**", answer)
    page.set_viewport_size({"width": SIZE, "height": SIZE})
    page.goto("http://site/babylon.html")
    return drawn


def faulty(scene):
    """The same splat as it looks where a writer or reader is wrong."""
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    colors = (0.5 + C0 * scene.sh0).clamp(0, 1)
    return {
        "mirrored": scene.replace(means=scene.means * mirror),
        "upside down": rotated(scene, torch.diag(torch.tensor([1.0, -1.0, -1.0]))),
        "rotations w last": scene.replace(raw_quats=scene.raw_quats.roll(1, dims=1)),
        "colour in linear light": scene.replace(sh0=(colors**2.2 - 0.5) / C0),
        "colour of the far side": scene.replace(shN=-scene.shN),
        "no view-dependent colour": scene.with_sh_degree(0),
        "red and blue exchanged": scene.replace(sh0=scene.sh0.flip(-1), shN=scene.shN.flip(-1)),
    }


@pytest.mark.skipif(
    not (MODULES / "babylonjs-loaders").is_dir(), reason="needs Babylon.js: rm .venv/.tried-node && make setup-dev"
)
def test_babylon_draws_the_same_pictures(draw, tmp_path):
    scene = toy_parts(2)[0].with_sh_degree(3)
    scene = scene.replace(shN=0.1 * torch.randn(scene.shN.shape))
    save_gaussians(scene, tmp_path / "scene.glb")
    cameras = toy_cameras(3, SIZE)
    shots = torch.stack([draw("scene.glb", cameras[view]) for view in range(3)]).permute(0, 3, 1, 2)

    def agreement(other):
        return float(psnr(shots, render_bchw(other, cameras, torch.zeros(3))).min())

    assert agreement(scene) > 30
    for name, wrong in faulty(scene).items():
        assert agreement(wrong) < 26, name
