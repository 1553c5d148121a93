"""Carving a ball whose silhouettes are known, how many views must agree, and reading colours off views."""

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.gaussians import Gaussians
from threestudio_ssd.masks.region import Region
from threestudio_ssd.metrics import mask_iou
from threestudio_ssd.refits.carve import INSET, carved, seen_colors, surface_gaussians
from threestudio_ssd.refits.hull import Hull
from threestudio_ssd.refits.scene_refit import CarveConfig
from threestudio_ssd.rendering import coverage, render_bchw

REGION = Region(torch.eye(3), torch.tensor([0.0, 0, 1.4]), torch.tensor([1.4, 1.4, 1.4]))
RADIUS = 0.9


def ball_masks(cameras, radius=RADIUS):
    """Silhouettes of a ball about (0, 0, 1): pixels whose ray passes it nearer than its radius."""
    height, width = int(cameras.heights[0]), int(cameras.widths[0])
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    masks = []
    for viewmat, K in zip(cameras.viewmats, cameras.Ks, strict=True):
        rays = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)], dim=-1)
        center = viewmat[:3, :3] @ torch.tensor([0.0, 0, 1]) + viewmat[:3, 3]
        rays = torch.nn.functional.normalize(rays, dim=-1)
        masks.append((center - (rays @ center)[..., None] * rays).norm(dim=-1) < radius)
    return torch.stack(masks)[:, None].float()


def test_a_ball_is_carved_from_its_silhouettes():
    cameras = toy_cameras(24, 96)
    points, normals = carved(Hull(REGION, cameras, ball_masks(cameras), 0.08), 1.0)
    away = points - torch.tensor([0.0, 0, 1])
    radii = away.norm(dim=1)
    assert radii.min() > RADIUS - 0.15
    assert radii.median() < RADIUS + 0.08
    sides = away[:, 2].abs() < 0.3  # the poles are seen by no camera of this ring
    assert (torch.nn.functional.normalize(away, dim=1)[sides] * normals[sides]).sum(dim=1).quantile(0.1) > 0.9


def test_one_wrong_view_of_many_does_not_cut_and_half_of_them_do():
    cameras = toy_cameras(24, 64)
    masks = ball_masks(cameras)
    masks[3] = 0
    assert len(carved(Hull(REGION, cameras, masks, 0.1), 0.9)[0]) > 300
    masks[::2] = 0
    assert len(carved(Hull(REGION, cameras, masks, 0.1), 0.9)[0]) == 0


def moved(masks, generator, pixels):
    """Each silhouette moved to some side, as views that were edited one by one show an object."""
    steps = torch.randint(-pixels, pixels + 1, (len(masks), 2), generator=generator).tolist()
    return torch.stack([mask.roll(step, dims=(1, 2)) for mask, step in zip(masks, steps, strict=True)])


def mean_radius(hull, agreement):
    inside = hull.points[hull.is_inside(agreement).flatten()]
    return float((len(inside) * hull.spacing**3 * 3 / (4 * torch.pi)) ** (1 / 3))


@pytest.mark.parametrize("pixels", [0, 3, 6])
def test_as_many_views_must_agree_as_give_their_outlines(generator, pixels):
    cameras = toy_cameras(24, 96)
    hull = Hull(REGION, cameras, moved(ball_masks(cameras), generator, pixels), 0.06)
    assert mean_radius(hull, hull.best_agreement()) == pytest.approx(RADIUS, rel=0.07)
    if pixels == 6:  # of views that do not agree, a fixed share is wrong both ways
        assert mean_radius(hull, 0.5) > 1.1 * RADIUS
        assert mean_radius(hull, 1.0) < 0.8 * RADIUS


def test_a_few_views_of_another_size_do_not_change_the_object(generator):
    cameras = toy_cameras(24, 96)
    masks = ball_masks(cameras)
    masks[:4] = ball_masks(cameras, RADIUS * 1.3)[:4]
    masks[4:8] = ball_masks(cameras, RADIUS * 0.6)[4:8]
    hull = Hull(REGION, cameras, masks, 0.06)
    assert mean_radius(hull, hull.best_agreement()) == pytest.approx(RADIUS, rel=0.07)


def test_large_views_are_looked_at_in_part_and_say_the_same():
    small, large = (toy_cameras(12, size) for size in (96, 384))
    agreements = [Hull(REGION, each, ball_masks(each), 0.08).best_agreement() for each in (small, large)]
    assert agreements[0] == pytest.approx(agreements[1], abs=0.1)


def test_views_that_show_nothing_carve_nothing():
    cameras = toy_cameras(12, 48)
    hull = Hull(REGION, cameras, torch.zeros(12, 1, 48, 48), 0.1)
    assert len(carved(hull, hull.best_agreement())[0]) == 0


def test_what_few_views_see_is_not_carved():
    cameras = toy_cameras(24, 64).cropped(16, 16, 16, 16)  # a quarter of each view
    seen = carved(Hull(REGION, cameras, torch.ones(24, 1, 16, 16), 0.1), 1.0)[0]
    local = torch.stack(
        [(seen @ m[:3, :3].T + m[:3, 3]) @ K.T for m, K in zip(cameras.viewmats, cameras.Ks, strict=True)]
    )
    pixels = local[..., :2] / local[..., 2:]
    assert (((pixels >= 0) & (pixels < 16)).all(dim=2).sum(dim=0) >= 12).all()


def test_carved_discs_have_the_outlines_that_they_were_carved_from():
    cameras = toy_cameras(24, 128)
    masks = ball_masks(cameras)
    spacing = CarveConfig.spacing * REGION.size
    points, normals = carved(Hull(REGION, cameras, masks, spacing), 1.0)
    discs = surface_gaussians(points, normals, spacing, CarveConfig.opacity, CarveConfig.flatness)
    shown = coverage(discs, torch.ones(len(discs), dtype=torch.bool), cameras) > 0.5
    assert float(mask_iou(shown, masks[:, 0] > 0.5).mean()) > 0.95
    assert float(shown.sum() / masks.sum()) == pytest.approx(1.0, abs=0.04)


def test_discs_lie_just_within_the_surface():
    normals = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    normals[0] = torch.tensor([0.0, 0, -1])
    discs = surface_gaussians(torch.zeros(50, 3), normals, 0.1, 0.9, 0.2)
    assert torch.allclose(discs.means, -INSET * 0.1 * normals)
    from threestudio_ssd.gaussians import rotation_matrices

    thin = rotation_matrices(discs.quats)[:, :, 2]
    assert torch.allclose((thin * normals).sum(dim=1).abs(), torch.ones(50), atol=1e-5)
    assert torch.allclose(discs.opacities, torch.full((50,), 0.9))
    assert torch.allclose(discs.scales[:, 2] / discs.scales[:, 0], torch.full((50,), 0.2))


def test_colours_are_read_off_the_views_that_show_a_gaussian():
    gaussians, is_object = toy_parts(keep_every=6)
    cameras = toy_cameras(6, 48)
    images, covered = render_bchw(gaussians, cameras, torch.zeros(3)), coverage(gaussians, is_object, cameras)
    rgbs = seen_colors(gaussians, is_object, cameras, images, (covered > 0.9).float()[:, None])
    true = 0.5 + 0.28209479 * gaussians.sh0[is_object][:, 0]
    assert (rgbs - true).abs().mean() < 0.04
    hidden = Gaussians(**{name: t[is_object] for name, t in gaussians.parameters().items()})
    nothing = seen_colors(hidden, torch.ones(len(hidden), dtype=torch.bool), cameras, images, torch.zeros(6, 1, 48, 48))
    assert torch.equal(nothing, torch.full_like(nothing, 0.5))
