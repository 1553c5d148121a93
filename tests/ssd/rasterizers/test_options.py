"""Options, batching, meta, broken input and threads."""

import math

import pytest
import torch

from threestudio_ssd.rasterizers import autograd, rasterization
from threestudio_ssd.rasterizers.cpu import rasterization_cpu

from .dense_reference import render_dense
from .scenes import Scene, camera, random_scene
from .test_blending import compare

GSPLAT_META = {
    "batch_ids", "camera_ids", "gaussian_ids", "radii", "means2d", "depths", "conics", "opacities", "tile_width",
    "tile_height", "tiles_per_gauss", "isect_ids", "flatten_ids", "isect_offsets", "width", "height", "tile_size",
    "n_batches", "n_cameras",
}  # fmt: skip


def render(scene: Scene, **options):
    given = {**scene.parameters(), "Ks": scene.Ks, "sh_degree": scene.sh_degree, **options}
    return rasterization(width=scene.width, height=scene.height, **given)


def two_cameras(scene: Scene) -> Scene:
    second, K = camera(scene.width, scene.height, distance=3.0)
    second[0, 0, 3] += 0.4
    scene.viewmats, scene.Ks = torch.cat([scene.viewmats, second]), torch.cat([scene.Ks, K])
    return scene


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("sh_degree", [None, 1])
def test_batches_and_cameras_equal_single_renders_to_the_bit(packed, sh_degree):
    scenes = [two_cameras(random_scene(40, 21, 18, sh_degree=sh_degree, seed=seed)) for seed in (0, 1)]
    stacked = {k: torch.stack([getattr(s, k) for s in scenes]).requires_grad_() for k in scenes[0].parameters()}
    Ks = torch.stack([s.Ks for s in scenes])
    images, alphas, meta = rasterization(**stacked, Ks=Ks, width=21, height=18, sh_degree=sh_degree, packed=packed)
    assert images.shape == (2, 2, 18, 21, 3)
    assert alphas.shape == (2, 2, 18, 21, 1)
    assert (meta["n_batches"], meta["n_cameras"]) == (2, 2)
    (images.square().sum() + alphas.sum()).backward()
    for b, scene in enumerate(scenes):
        single = {k: v.clone().requires_grad_() for k, v in scene.parameters().items()}
        total = 0.0
        for c in range(2):
            views = {**single, "viewmats": single["viewmats"][c : c + 1]}
            image, alpha, _ = rasterization(
                **views, Ks=scene.Ks[c : c + 1], width=21, height=18, sh_degree=sh_degree, packed=not packed
            )
            assert torch.equal(image[0], images[b, c])
            total = total + image.square().sum() + alpha.sum()
        total.backward()
        for name, tensor in single.items():
            torch.testing.assert_close(stacked[name].grad[b], tensor.grad, rtol=1e-5, atol=1e-5)


def test_colors_per_view_equal_shared_ones_view_by_view():
    scene = two_cameras(random_scene(40, 20, 20))
    per_view = torch.stack([scene.colors, scene.colors.flip(-1)]).requires_grad_()
    images = render(scene, colors=per_view)[0]
    assert torch.equal(images[0], render(scene)[0][0])
    assert torch.equal(images[1], render(scene, colors=scene.colors.flip(-1))[0][1])
    images[0].sum().backward()
    assert per_view.grad[0].abs().sum() > 0
    assert per_view.grad[1].abs().sum() == 0


def test_many_channels_are_blended_in_chunks_alike():
    scene = random_scene(60, 24, 17, num_channels=7)
    background = torch.rand(1, 7)
    images = render(scene, channel_chunk=4, backgrounds=background)[0]
    for k in range(7):
        one = render(scene, colors=scene.colors[:, k : k + 1], backgrounds=background[:, k : k + 1])[0]
        torch.testing.assert_close(images[..., k], one[..., 0])


def test_color_and_depth_match_the_dense_reference():
    compare(random_scene(80, 30, 22), render_mode="RGB+D")


def test_depth_modes_agree_with_one_another():
    scene = random_scene(80, 30, 22)
    both, alphas, _ = render(scene, render_mode="RGB+D", backgrounds=torch.rand(1, 3))
    assert torch.equal(render(scene, render_mode="D", backgrounds=torch.rand(1, 3))[0], both[..., 3:])
    expected = both[..., 3:] / alphas.clamp(min=1e-10)
    assert torch.equal(render(scene, render_mode="ED")[0], expected)
    assert torch.equal(render(scene, render_mode="RGB+ED")[0][..., 3:], expected)


def test_planes_radius_clip_and_blur_are_honoured():
    scene = random_scene(100, 24, 24)
    depths = (scene.means @ scene.viewmats[0, :3, :3].T + scene.viewmats[0, :3, 3])[:, 2]
    _, _, meta = render(scene, near_plane=3.5, far_plane=4.5)
    assert ((meta["depths"] >= 3.5) & (meta["depths"] <= 4.5)).all()
    assert 0 < len(meta["gaussian_ids"]) <= int(((depths > 3.5) & (depths < 4.5)).sum())
    clipped = render(scene, radius_clip=4.0)[2]["radii"]
    assert (clipped.max(dim=-1).values > 4).all()
    assert len(clipped) < len(render(scene)[2]["radii"])
    compare(random_scene(60, 24, 24), eps2d=1.0)


def test_covariances_in_place_of_quaternions_and_scales():
    scene = random_scene(60, 24, 24)
    exact = {k: v.double() for k, v in scene.parameters().items()}
    q = torch.nn.functional.normalize(exact["quats"], dim=-1)
    w, x, y, z = q.unbind(-1)
    rotations = torch.stack(
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), 2 * (x * y + w * z),
         1 - 2 * (x * x + z * z), 2 * (y * z - w * x), 2 * (x * z - w * y), 2 * (y * z + w * x),
         1 - 2 * (x * x + y * y)], -1,
    ).unflatten(-1, (3, 3))  # fmt: skip
    half = rotations * exact["scales"][:, None]
    covars = half @ half.mT
    ours = covars.float().requires_grad_()
    theirs = covars.float().double().requires_grad_()
    image = render(scene, quats=None, scales=None, covars=ours)[0][0]
    dense, _, _ = render_dense(
        exact["means"], None, None, exact["opacities"], exact["colors"], exact["viewmats"][0], scene.Ks[0].double(),
        24, 24, covars=theirs,
    )  # fmt: skip
    torch.testing.assert_close(image, render(scene)[0][0], atol=1e-5, rtol=0)
    assert (image - dense).abs().max() < 1e-4
    weights = torch.randn(dense.shape)
    (image * weights).sum().backward()
    (dense * weights).sum().backward()
    assert (ours.grad - theirs.grad).norm() < 1e-3 * theirs.grad.norm()
    assert ours.grad.tril(-1).abs().max() == 0


def test_absgrad_is_the_sum_of_each_pixels_absolute_gradient():
    scene = random_scene(12, 5, 4, spread=0.3)
    scene.means.requires_grad_()
    images, _, meta = render(scene, absgrad=True)
    images.sum().backward()
    total = 0.0
    for y in range(4):
        for x in range(5):
            images, _, single = render(scene)
            single["means2d"].retain_grad()
            images[0, y, x].sum().backward()
            total = total + single["means2d"].grad.abs()
    torch.testing.assert_close(meta["means2d"].absgrad, total, rtol=1e-4, atol=1e-5)


def test_sparse_gradients_hold_the_dense_values():
    grads = []
    for sparse in (False, True):
        scene = random_scene(60, 20, 20, spread=2.0)
        tensors = {k: getattr(scene, k).requires_grad_() for k in ("means", "quats", "scales")}
        render(scene, sparse_grad=sparse)[0].sum().backward()
        grads.append([t.grad for t in tensors.values()])
    for dense, sparse in zip(*grads, strict=True):
        assert sparse.is_sparse
        assert len(sparse.coalesce().indices()[0]) < 60
        assert torch.equal(sparse.to_dense(), dense)


@pytest.mark.parametrize("tile_size", [5, 8, 32])
def test_tile_size_changes_nothing_but_the_tiles(tile_size):
    scene = random_scene(80, 37, 29)
    image, _, meta = render(scene, tile_size=tile_size)
    torch.testing.assert_close(image, render(scene)[0], atol=1e-6, rtol=0)
    assert meta["isect_offsets"].shape == (1, math.ceil(29 / tile_size), math.ceil(37 / tile_size))


def test_other_precisions_are_converted_and_their_gradients_too():
    scene = random_scene(30, 16, 16)
    means = scene.means.double().requires_grad_()
    image = render(scene, means=means)[0]
    assert image.dtype == torch.float32
    image.sum().backward()
    assert means.grad.dtype == torch.float64


@pytest.mark.parametrize("packed", [True, False])
def test_meta_has_gsplats_keys_and_consistent_lists(packed):
    scene = two_cameras(random_scene(70, 40, 33))
    meta = render(scene, packed=packed)[2]
    assert set(meta) == GSPLAT_META | {"n_skipped"}
    assert meta["n_skipped"] == 0
    num = len(meta["gaussian_ids"]) if packed else 2 * 70
    prefix = (num,) if packed else (2, 70)
    shapes = {"radii": (2,), "means2d": (2,), "depths": (), "conics": (3,), "opacities": (), "tiles_per_gauss": ()}
    for name, tail in shapes.items():
        assert meta[name].shape == prefix + tail
    assert meta["radii"].dtype == torch.int32
    # pairs are sorted by (image, tile, depth), and offsets point into them
    keys, ids = meta["isect_ids"], meta["flatten_ids"].long()
    assert (keys.diff() >= 0).all()
    assert len(keys) == len(ids) == meta["tiles_per_gauss"].sum()
    bits = (meta["tile_width"] * meta["tile_height"]).bit_length()
    tiles = (keys >> 32 >> bits) * meta["tile_width"] * meta["tile_height"] + (keys >> 32 & (1 << bits) - 1)
    offsets = meta["isect_offsets"].flatten()
    assert torch.equal(offsets, torch.searchsorted(tiles, torch.arange(len(offsets))).int())
    depths = meta["depths"].flatten()[ids]
    assert torch.equal((keys & 0xFFFFFFFF).int(), depths.view(torch.int32))


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_gaussians_are_skipped_and_counted(name, value):
    scene = random_scene(50, 24, 24, spread=0.4)
    rest = torch.ones(50, dtype=torch.bool)
    rest[[3, 17, 40]] = False
    clean = {k: (v if k == "viewmats" else v[rest]).clone().requires_grad_() for k, v in scene.parameters().items()}
    broken = {k: v.clone() for k, v in scene.parameters().items()}
    broken[name][[3, 17, 40]] = value
    broken = {k: v.requires_grad_() for k, v in broken.items()}
    images, _, meta = rasterization(**broken, Ks=scene.Ks, width=24, height=24)
    expected = rasterization(**clean, Ks=scene.Ks, width=24, height=24)[0]
    assert meta["n_skipped"] == 3
    assert torch.equal(images, expected)
    images.sum().backward()
    expected.sum().backward()
    for key, tensor in clean.items():
        grad = broken[key].grad
        torch.testing.assert_close(grad if key == "viewmats" else grad[rest], tensor.grad, rtol=1e-5, atol=1e-6)
        assert key == "viewmats" or grad[~rest].abs().max() == 0


def test_finite_extremes_do_not_crash():
    scene = random_scene(40, 16, 16, spread=0.3)
    scene.scales[:5], scene.means[5:10], scene.scales[10:15] = 1e18, 1e30, 0.0
    scene.opacities[15:20], scene.colors[20:22] = 50.0, 1e20
    scene.means.requires_grad_()
    images = render(scene)[0]
    assert images.isfinite().all()
    images.mean().backward()


def test_threads_do_not_change_a_bit():
    scene = random_scene(2500, 96, 80, sh_degree=1, scale=(0.005, 0.05))
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            given = {k: v.clone().requires_grad_() for k, v in scene.parameters().items()}
            image, alpha, _ = rasterization(**given, Ks=scene.Ks, width=96, height=80, sh_degree=1)
            image.backward(torch.linspace(-1, 1, image.numel()).view_as(image))
            results.append([image, alpha, *(v.grad for v in given.values())])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            assert torch.equal(ours, theirs)


def test_shapes_and_choices_that_do_not_fit_are_named():
    scene = random_scene(10, 8, 8)
    defaults = {
        "near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0, "eps2d": 0.3, "sh_degree": None, "packed": True,
        "tile_size": 16, "backgrounds": None, "render_mode": "RGB", "sparse_grad": False, "absgrad": False,
        "rasterize_mode": "classic", "channel_chunk": 32, "camera_model": "pinhole", "covars": None,
    }  # fmt: skip
    good = {**scene.parameters(), "Ks": scene.Ks, "width": 8, "height": 8, **defaults}
    for name, value in {
        "quats": torch.zeros(9, 4), "opacities": torch.zeros(10, 1), "colors": torch.zeros(9, 3),
        "viewmats": torch.eye(4), "Ks": torch.eye(3), "backgrounds": torch.zeros(1, 4), "render_mode": "depth",
        "camera_model": "fish", "rasterize_mode": "sharp", "sh_degree": 5,
    }.items():  # fmt: skip
        bad = {**good, name: value}
        with pytest.raises((ValueError, IndexError), match=name if name != "viewmats" else None):
            rasterization_cpu(**bad)


@pytest.mark.parametrize("packed", [True, False])
def test_images_sorted_apart_equal_images_sorted_together(packed, monkeypatch):
    def drawn():
        scene = two_cameras(random_scene(60, 37, 29))
        given = {k: v.clone().requires_grad_() for k, v in scene.parameters().items()}
        images, _, meta = rasterization(**given, Ks=scene.Ks, width=37, height=29, packed=packed, absgrad=True)
        meta["means2d"].retain_grad()
        images.square().sum().backward()
        lists = [meta[name] for name in ("flatten_ids", "isect_ids", "isect_offsets", "tiles_per_gauss")]
        return [images, meta["means2d"].absgrad, *lists, *(tensor.grad for tensor in given.values())]

    together = drawn()
    monkeypatch.setattr(autograd, "_SORTED_TOGETHER", 1)
    for one, other in zip(together, drawn(), strict=True):
        assert torch.equal(one, other)


def test_gaussians_over_more_tiles_than_a_footprint_holds_match_the_dense_reference():
    scene = random_scene(num_gaussians=30, width=70, height=52)
    scene.scales = scene.scales * 6
    _, _, meta = render(scene, tile_size=4)
    assert meta["tiles_per_gauss"].max() > 64
    compare(scene, tile_size=4)
