"""The CPU rasteriser against the dense float64 reference: images within 1e-4, gradients within 1e-3."""

import pytest
import torch

from threestudio_ssd.rasterizers import rasterization

from .dense_reference import render_dense
from .scenes import HARD_SCENES, Scene, random_scene

NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")


def compare(scene: Scene, **options) -> None:
    """Render both ways, compare images, alphas and all gradients of a random projection of them."""
    generator = torch.Generator().manual_seed(7)
    background = torch.rand(1, scene.num_channels, generator=generator)
    ours = {**scene.parameters(), "backgrounds": background}
    ours = {k: v.clone().requires_grad_() for k, v in ours.items()}
    exact = {k: v.detach().double().requires_grad_() for k, v in ours.items()}
    image, alpha, meta = rasterization(
        *(ours[k] for k in NAMES[:6]), scene.Ks, scene.width, scene.height, backgrounds=ours["backgrounds"],
        sh_degree=scene.sh_degree, **options,
    )  # fmt: skip
    dense, dense_alpha, _ = render_dense(
        *(exact[k] for k in NAMES[:5]), exact["viewmats"][0], scene.Ks[0].double(), scene.width, scene.height,
        sh_degree=scene.sh_degree, background=exact["backgrounds"][0],
        camera_model=options.get("camera_model", "pinhole"),
        antialiased=options.get("rasterize_mode") == "antialiased", eps2d=options.get("eps2d", 0.3),
        depth_channel=options.get("render_mode") == "RGB+D",
    )  # fmt: skip
    assert (image[0] - dense).abs().max() < 1e-4
    assert (alpha[0] - dense_alpha).abs().max() < 1e-4
    weights = torch.randn(dense.shape, generator=generator)
    alpha_weights = torch.randn(dense_alpha.shape, generator=generator)
    ((image[0] * weights).sum() + (alpha[0] * alpha_weights).sum()).backward()
    ((dense * weights).sum() + (dense_alpha * alpha_weights).sum()).backward()
    for name in NAMES:
        if exact[name].grad is None:  # nothing was drawn
            assert ours[name].grad is None or not ours[name].grad.any()
            continue
        error = (ours[name].grad - exact[name].grad).norm()
        assert error <= 1e-3 * exact[name].grad.norm() + 1e-7, f"{name}: {error} of {exact[name].grad.norm()}"


@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3, 4])
def test_random_scenes_match_the_dense_reference(sh_degree):
    compare(random_scene(num_gaussians=300, width=45, height=37, sh_degree=sh_degree))


@pytest.mark.parametrize("name", HARD_SCENES)
def test_hard_scenes_match_the_dense_reference(name):
    compare(HARD_SCENES[name]())


@pytest.mark.parametrize("camera_model", ["pinhole", "ortho", "fisheye"])
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_camera_models_and_antialiasing_match_the_dense_reference(camera_model, rasterize_mode):
    scene = random_scene(num_gaussians=120, width=40, height=33, camera_model=camera_model)
    compare(scene, camera_model=camera_model, rasterize_mode=rasterize_mode)
