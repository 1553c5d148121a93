"""Views edited together: what each method does to noise, images and attention."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from threestudio_ssd.cameras.rays import ObjectFrame
from threestudio_ssd.diffusion import load_backbone, random_backbone
from threestudio_ssd.diffusion.beside import save_beside
from threestudio_ssd.diffusion.light_field import LightField
from threestudio_ssd.diffusion.ray_map import RayMap
from threestudio_ssd.diffusion.view_adapter import ViewAdapter
from threestudio_ssd.editors import (
    EditorKeys,
    EditorPrompts,
    LoadedEditor,
    PromptedBackbone,
    SDEdit,
    Views,
    load_editor,
)
from threestudio_ssd.editors.consistency import (
    DGE,
    DrawnTogether,
    GaussCtrl,
    Grid,
    Independent,
    RaysSeen,
    SharedNoise,
)
from threestudio_ssd.editors.consistency.attention import by_azimuth, parts_of, view_attention
from threestudio_ssd.editors.consistency.dge import near_epipolar_lines
from threestudio_ssd.editors.consistency.gauss_ctrl import controlled, disparity_images, reference_attention
from threestudio_ssd.editors.instruct_pix2pix import InstructPix2PixUnguided
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.toyworld.views import held_out_orbit

NUM_VIEWS, SIDE = 6, 32
METHODS = [
    Independent(), SharedNoise(), Grid(), DGE(views_per_key=3), GaussCtrl(num_references=2), DrawnTogether(),
    RaysSeen(),
]  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return PromptedBackbone(random_backbone(), EditorPrompts("a ball", "a cube"))


@pytest.fixture
def views(generator):
    images = torch.rand(NUM_VIEWS, 3, SIDE, SIDE, generator=generator)
    masks = torch.zeros(NUM_VIEWS, 1, SIDE, SIDE)
    masks[:, :, 8:24, 8:24] = 1
    cameras = held_out_orbit(SIDE, NUM_VIEWS)
    depths = torch.rand(NUM_VIEWS, 1, SIDE, SIDE, generator=generator) + 1
    return Views(
        images, images, list(range(NUM_VIEWS)), 0.8, masks=masks, cameras=cameras, frame=ObjectFrame.seen_by(cameras),
        depths=depths,
    )  # fmt: skip


@pytest.fixture(scope="module")
def adapter(network, tmp_path_factory):
    """File of an adapter that changes something."""
    torch.manual_seed(0)
    weights = ViewAdapter(network.backbone.network).state_dict()
    path = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    save_file({name: value + 0.05 * torch.randn_like(value) for name, value in weights.items()}, path)
    return str(path)


@pytest.fixture(scope="module")
def ray_map(network, tmp_path_factory):
    """File of a map that changes something."""
    torch.manual_seed(0)
    stirred = RayMap(network.backbone.network)
    torch.nn.init.normal_(stirred.last.weight, std=0.1)
    path = tmp_path_factory.mktemp("rays") / "ray_map.safetensors"
    save_beside(stirred, path, network.backbone.network)
    return str(path)


@pytest.fixture(params=METHODS, ids=lambda method: type(method).__name__)
def method(request, adapter, ray_map):
    each = request.param
    if isinstance(each, RaysSeen):
        return replace(each, file=ray_map)
    return replace(each, adapter=adapter) if isinstance(each, DrawnTogether) else each


def loaded(method, network):
    return LoadedEditor(SDEdit(num_steps=4, min_steps=2), network, 4, method, method.load(network, torch.device("cpu")))


def test_every_method_edits_inside_the_masks_alone_and_leaves_the_network_as_it_was(method, network, views):
    processors = dict(network.backbone.network.attn_processors)
    editor = loaded(method, network)
    edited = editor(views)
    outside = (views.masks == 0).expand_as(edited)
    assert torch.equal(edited[outside], views.images[outside])
    assert not torch.equal(edited, views.images)
    assert torch.equal(edited, editor(views))
    assert dict(network.backbone.network.attn_processors) == processors
    assert not network.backbone.network._forward_pre_hooks


def test_every_method_says_which_fields_it_lacks(method, network, views):
    bare = Views(views.images, views.images, views.seeds)
    if not method.needs:
        loaded(method, network)(bare)
        return
    with pytest.raises(ValueError, match=f"needs the {', '.join(sorted(method.needs))} of the views"):
        loaded(method, network)(bare)


def test_one_noise_for_all(network, views):
    same = Views(*(views.images[:1].expand(3, -1, -1, -1),) * 2, [0, 1, 2], 0.9)
    edited = loaded(SharedNoise(), network)(same)
    torch.testing.assert_close(edited, edited[:1].expand_as(edited), atol=1e-4, rtol=0)
    assert not torch.allclose(*loaded(Independent(), network)(same)[:2], atol=1e-3)


def test_a_grid_is_cut_as_it_was_tiled(views):
    grid = Grid(side=2)
    tiled = grid.tile(views.images[:4])
    assert tiled.shape == (1, 3, 2 * SIDE, 2 * SIDE)
    assert torch.equal(tiled[0, :, :SIDE, SIDE:], views.images[1])
    assert torch.equal(grid.cut(tiled), views.images[:4])


def test_a_grid_gives_every_view_its_own_place(network, views):
    class Keeps(SDEdit):
        def edit(self, network, views):
            return views.images

    assert torch.equal(Grid(side=2).edit(Keeps(), network, views, None), views.images)


def attended(network, num_views, attend, hidden=None):
    """What the first self-attention layer gets and gives in one call with two prompts."""
    seen = []

    def watch(layer, hidden):
        given = attend(layer, hidden)
        seen.append((layer, hidden, given))
        return given

    latents = torch.randn(2 * num_views, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    prompts = network.backbone.encode_prompts(["a", ""]) if network.backbone.text_encoders else network.null
    with view_attention(network.backbone.network, num_views, watch):
        network.backbone.predict_noise(latents, 500, prompts.expand(2 * num_views))
    return seen


def plain(layer, hidden):
    rows = hidden.flatten(0, 1)
    return layer.attend(rows, rows).view_as(hidden)


def test_a_layers_own_attention_is_what_diffusers_computes(network):
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    rows = network.null.expand(4)
    usual = network.backbone.predict_noise(latents, 500, rows)
    with view_attention(network.backbone.network, 2, plain):
        ours = network.backbone.predict_noise(latents, 500, rows)
    torch.testing.assert_close(ours, usual, atol=1e-5, rtol=1e-4)


def test_references_have_their_share(network):
    (layer, hidden, given), *_ = attended(network, 3, reference_attention([1], 0.25))
    rows = hidden.flatten(0, 1)
    to_reference = layer.attend(rows, hidden[:, 1:2].expand_as(hidden).flatten(0, 1)).view_as(hidden)
    torch.testing.assert_close(given, 0.75 * plain(layer, hidden) + 0.25 * to_reference)


def test_at_low_noise_dge_has_plain_attention(network, views):
    edited = loaded(DGE(views_per_key=3, t_min=1e9), network)(views)
    torch.testing.assert_close(edited, loaded(Independent(), network)(views), atol=1e-4, rtol=0)


def test_where_every_view_is_the_same_all_get_what_the_keys_get(network, views):
    same = Views(
        *(views.images[:1].expand(NUM_VIEWS, -1, -1, -1),) * 2, [0] * NUM_VIEWS, 0.9,
        cameras=views.cameras[torch.zeros(NUM_VIEWS, dtype=torch.int64)],
    )  # fmt: skip
    edited = loaded(DGE(views_per_key=3), network)(same)
    torch.testing.assert_close(edited, edited[:1].expand_as(edited), atol=1e-3, rtol=0)


def test_epipolar_lines_hold_what_both_cameras_see():
    pair = held_out_orbit(64, 8)[[0, 1]]
    is_near = near_epipolar_lines(pair, (16, 16), 1.5).view(16, 16, 16, 16)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - torch.tensor([0.5, 0.5, -0.4])
    for point in points:
        cells = []
        for viewmat, K in zip(pair.viewmats, pair.Ks, strict=True):
            x, y, z = K @ (viewmat[:3, :3] @ point + viewmat[:3, 3])
            cells.append((int(y / z / 4), int(x / z / 4)))
        assert is_near[(*cells[0], *cells[1])]
    assert is_near.float().mean() < 0.5


def test_a_walk_round():
    azimuths = torch.tensor([3.0, 0.1, 5.0, 1.0])
    centers = torch.stack([azimuths.cos(), azimuths.sin(), torch.zeros(4)], 1)
    order = by_azimuth(centers).tolist()
    turned = order[order.index(1) :] + order[: order.index(1)]
    assert turned in ([1, 3, 0, 2], [1, 2, 0, 3])
    assert parts_of(order, 2) == [order[:2], order[2:]]
    assert parts_of([7], 4) == [[7]]


def test_disparity_is_largest_where_it_is_nearest(views):
    disparity = disparity_images(views)
    assert disparity.amax(dim=(1, 2, 3)).tolist() == [1.0] * NUM_VIEWS
    assert torch.equal(disparity[0, 0].flatten().argmax(), views.depths[0, 0].flatten().argmin())


def tiny_controlnet(unet, folder):
    from diffusers import ControlNetModel

    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8))
    with torch.no_grad():
        for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            torch.nn.init.normal_(block.weight, std=0.2)
        torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.5)
    net.save_pretrained(folder)


def test_a_controlnet_takes_part(network, views, tmp_path):
    tiny_controlnet(network.backbone.network, tmp_path)
    method = GaussCtrl(num_references=2, controlnet=str(tmp_path))
    own = method.load(network, torch.device("cpu"), revision=None, is_offline=True)
    editor = LoadedEditor(SDEdit(num_steps=4, min_steps=2), network, 4, method, own)
    edited = editor(views)
    assert not torch.allclose(edited, loaded(GaussCtrl(num_references=2), network)(views), atol=1e-3)
    deeper = Views(**{**vars(views), "depths": views.depths.flip(-1)})
    assert not torch.allclose(edited, editor(deeper), atol=1e-4)
    unet = network.backbone.network
    with controlled(unet, own, disparity_images(views), 0.0):
        rows = network.null.expand(NUM_VIEWS)
        latents = torch.randn(NUM_VIEWS, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        silent = network.backbone.predict_noise(latents, 500, rows)
    torch.testing.assert_close(silent, network.backbone.predict_noise(latents, 500, rows), atol=1e-5, rtol=1e-4)


def test_what_cannot_be_used_is_said(network):
    with pytest.raises(ConfigError, match=r"consistency\.weight is 1\.5; expected 0 to 1"):
        GaussCtrl(weight=1.5).load(network, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"consistency\.controlnet.*'nowhere'"):
        GaussCtrl(controlnet="nowhere").load(network, torch.device("cpu"), revision=None, is_offline=True)
    transformer = PromptedBackbone(random_backbone(kind="sd3"), EditorPrompts("a", "b"))
    with pytest.raises(ConfigError, match="no U-Net of ours.*consistency.name=grid"):
        DGE().load(transformer, torch.device("cpu"))


def test_the_view_adapter_is_for_a_unet_of_ours(adapter):
    transformer = PromptedBackbone(random_backbone(kind="sd3"), EditorPrompts("a", "b"))
    with pytest.raises(ConfigError, match="is view-adapter, and the editor's network is no U-Net of ours"):
        DrawnTogether(adapter).load(transformer, torch.device("cpu"))


def test_views_that_are_drawn_together_depend_on_each_other(adapter, network, views):
    other = views.images.clone()
    other[0] = 1 - other[0]
    for method, is_bound in ((Independent(), False), (DrawnTogether(adapter), True)):
        editor = loaded(method, network)
        edited = [editor(replace(views, images=images, sources=images))[1:] for images in (views.images, other)]
        assert torch.allclose(*edited, atol=1e-4) != is_bound


def test_what_rays_say_is_where_the_object_is_in_each_view(ray_map, network, views):
    editor = loaded(RaysSeen(ray_map), network)
    edited, moved = editor(views), replace(views.frame, center=views.frame.center + 0.3)
    assert not torch.allclose(edited, editor(replace(views, frame=moved)), atol=1e-3)
    some = torch.tensor([4, 1])
    torch.testing.assert_close(editor(views[some]), edited[some], atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="needs the frame of the views"):
        editor(replace(views, frame=None))


@torch.no_grad()
def test_the_field_is_told_one_light_by_all_views_together(views, monkeypatch):
    network = PromptedBackbone(random_backbone(in_channels=8), EditorPrompts("a ball", "a cube"))
    own, told, forward = RayMap(network.backbone.network), [], LightField.forward
    own.field.light.last.weight.normal_()
    editor = LoadedEditor(InstructPix2PixUnguided(num_steps=4), network, 4, RaysSeen(), own)

    def noted(field, rays, sources, embeds, light=None):
        told.append(light)
        return forward(field, rays, sources, embeds, light)

    monkeypatch.setattr(LightField, "forward", noted)
    editor(replace(views, strength=1.0))
    assert len(told) >= 2, "the draft, and what the network is told"
    for light in told:
        assert torch.equal(light, told[0])
        assert torch.equal(light, light[:1].expand(len(views), 3))
        torch.testing.assert_close(light.norm(dim=-1), torch.ones(len(views)))


def test_an_edit_that_forgets_starts_from_the_light_field_which_says_where_the_object_is(ray_map, network, views):
    other = replace(views, images=1 - views.images)
    for draft, strength, is_drafted in ((0.3, 1.0, True), (0.3, 0.6, False), (0.0, 1.0, False)):
        editor = loaded(RaysSeen(ray_map, draft), network)
        of_these, of_others = (editor(replace(each, strength=strength, kept=views.images)) for each in (views, other))
        assert torch.allclose(of_these, of_others, atol=1e-4) == is_drafted, "what views show now does not count"
        covered = editor.covered(replace(views, strength=strength))
        assert (covered is not None) == is_drafted
    views = replace(views, strength=1.0)
    covered = loaded(RaysSeen(ray_map), network).covered(views)
    assert covered.shape == views.images[:, :1].shape
    assert 0 <= covered.min() < covered.max() <= 1
    some = torch.tensor([4, 1])
    torch.testing.assert_close(loaded(RaysSeen(ray_map), network).covered(views[some]), covered[some])
    assert loaded(Independent(), network).covered(views) is None
    with pytest.raises(ConfigError, match=r"consistency\.draft is 2; expected from 0 to 1"):
        RaysSeen(ray_map, 2).load(network, torch.device("cpu"))


def test_the_shipped_map_fits_the_shipped_model():
    network = PromptedBackbone(load_backbone("data/tiny-ip2p"), EditorPrompts("a ball", "a cube"))
    assert RaysSeen().load(network, torch.device("cpu")).last.weight.abs().max() > 0
    other = PromptedBackbone(load_backbone("data/tiny-ldm"), EditorPrompts("a ball", "a cube"))
    with pytest.raises(ConfigError, match=r"ray_map\.safetensors does not fit the network"):
        RaysSeen().load(other, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"consistency\.file is .*nowhere, and there is no such file"):
        RaysSeen("nowhere").load(network, torch.device("cpu"))


def test_the_shipped_adapter_is_named_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = PromptedBackbone(load_backbone("data/tiny-ldm"), EditorPrompts("a ball", "a cube"))
    assert len(DrawnTogether().load(network, torch.device("cpu")).layers) == 7


@pytest.mark.parametrize(("name", "given", "missing"), [
    ("ray-map", {"names", "cameras", "depths"}, "frame"), ("dge", {"names"}, "cameras"),
    ("gaussctrl", {"names"}, "cameras and depths"),
])  # fmt: skip
def test_what_an_edit_does_not_have_is_said_before_a_model_is_loaded(name, given, missing):
    keys = EditorKeys(model="nowhere", editor={"name": "sdedit"}, consistency={"name": name})
    with pytest.raises(
        ConfigError, match=f"consistency.name is {name}, which needs the {missing} of the views; .*set "
    ):
        load_editor(keys, torch.device("cpu"), EditorPrompts("a ball", "a cube"), given=given)
