"""Projection and spherical harmonics against gsplat's own torch functions."""

import importlib

import pytest
import torch

from threestudio_ssd.rasterizers import rasterization

from .scenes import random_scene


@pytest.fixture(scope="module")
def gsplat_torch():
    """gsplat's reference implementations."""
    return importlib.import_module("gsplat.cuda._torch_impl")


@pytest.mark.parametrize("camera_model", ["pinhole", "ortho", "fisheye"])
def test_projection_agrees_with_gsplats_torch_function(gsplat_torch, camera_model):
    scene = random_scene(200, 48, 36, camera_model=camera_model, spread=1.5)
    meta = rasterization(
        **scene.parameters(), Ks=scene.Ks, width=48, height=36, packed=False, rasterize_mode="antialiased",
        camera_model=camera_model,
    )[2]  # fmt: skip
    covars, _ = gsplat_torch._quat_scale_to_covar_preci(scene.quats, scene.scales, compute_preci=False)
    radii, means2d, depths, conics, compensations = gsplat_torch._fully_fused_projection(
        scene.means, covars, scene.viewmats, scene.Ks, 48, 36, calc_compensations=True, camera_model=camera_model
    )
    is_visible = (meta["radii"] > 0).all(-1)
    assert is_visible.sum() > 50
    assert (radii[is_visible] > 0).all()  # theirs are not aware of opacity: never smaller
    assert (meta["radii"][is_visible] <= radii[is_visible]).all()
    torch.testing.assert_close(meta["means2d"][is_visible], means2d[is_visible], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(meta["depths"][is_visible], depths[is_visible])
    torch.testing.assert_close(meta["conics"][is_visible], conics[is_visible], rtol=1e-3, atol=1e-5)
    expected = scene.opacities[None] * compensations
    torch.testing.assert_close(meta["opacities"][is_visible], expected[is_visible], rtol=1e-3, atol=1e-4)
    hidden = ~is_visible & (radii > 0).all(-1)
    # what only ours hides is outside by the radius at which its own opacity fades to 1/255
    a, b, c = conics[hidden].unbind(-1)
    extents = (2 * (expected[hidden] * 255).clamp(min=1).log()).sqrt().clamp(max=3.33)
    reach = (extents[:, None] * (torch.stack([c, a], -1) / (a * c - b * b)[:, None]).sqrt()).ceil()
    size = torch.tensor([48.0, 36.0])
    is_outside = (means2d[hidden] + reach <= 0) | (means2d[hidden] - reach >= size) | (reach == 0)
    assert is_outside.any(-1).all()


def test_gradients_through_meta_agree_with_gsplats_torch_function(gsplat_torch):
    scene = random_scene(60, 48, 36)
    weights = torch.randn(1, 60, 6)
    grads = []
    for is_ours in (True, False):
        given = {k: v.clone().requires_grad_() for k, v in scene.parameters().items()}
        meta = rasterization(**given, Ks=scene.Ks, width=48, height=36, packed=False)[2]
        is_visible = (meta["radii"] > 0).all(-1)[..., None]
        projected = meta["means2d"], meta["depths"], meta["conics"]
        if not is_ours:
            covars, _ = gsplat_torch._quat_scale_to_covar_preci(given["quats"], given["scales"], compute_preci=False)
            _, *projected, _ = gsplat_torch._fully_fused_projection(
                given["means"], covars, given["viewmats"], scene.Ks, 48, 36
            )
        projected = torch.cat([projected[0], projected[1][..., None], projected[2]], -1)
        (torch.where(is_visible, projected, 0.0) * weights).sum().backward()
        grads.append([given[k].grad for k in ("means", "quats", "scales", "viewmats")])
    for ours, theirs in zip(*grads, strict=True):
        assert (ours - theirs).norm() < 1e-3 * theirs.norm()


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3, 4])
def test_spherical_harmonics_agree_with_gsplats_torch_function(gsplat_torch, sh_degree):
    # one opaque flat Gaussian fills the only pixel: the image is its colour
    torch.manual_seed(sh_degree)
    coefficients = torch.randn(1, 25, 3) * 0.1
    for mean in torch.nn.functional.normalize(torch.randn(8, 3), dim=-1) * 2:
        viewmat = torch.eye(4)
        viewmat[:3, 3] = torch.tensor([0.0, 0.0, 5.0]) - mean
        image, alpha, _ = rasterization(
            mean[None], torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 10.0), torch.ones(1), coefficients,
            viewmat[None], torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]]), 1, 1, sh_degree=sh_degree,
        )  # fmt: skip
        dirs = mean - torch.inverse(viewmat)[:3, 3]
        expected = gsplat_torch._spherical_harmonics(sh_degree, dirs[None], coefficients) + 0.5
        torch.testing.assert_close(image[0, 0] / alpha[0, 0], expected.clamp(min=0), rtol=1e-4, atol=1e-5)
