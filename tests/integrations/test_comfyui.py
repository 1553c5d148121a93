"""The nodes of ComfyUI, driven as ComfyUI drives them: loaded, wired, run in order, interrupted."""

import importlib.util
import sys

import pytest
import torch

from tests.edit_world import REPOSITORY, toy_parts
from tests.integrations import comfy
from threestudio_ssd.errors import ConfigError

FOLDER = REPOSITORY / "integrations" / "comfyui"
WORDS = {"source": "a photo of a red ball on grass", "target": "a photo of a blue ball on grass"}
BOX = "-1.1, -1.1, 0, 1.1, 1.1, 2.2"


@pytest.fixture
def nodes(monkeypatch):
    """The nodes by id, loaded from their folder under a name of ComfyUI's choice."""
    comfy.install(monkeypatch)
    name = "custom_nodes_comfyui"
    for old in [each for each in sys.modules if each.startswith(name)]:
        monkeypatch.delitem(sys.modules, old)
    spec = importlib.util.spec_from_file_location(
        name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, package)
    spec.loader.exec_module(package)
    return comfy.nodes_of(package)


@pytest.fixture
def splat():
    """A toy scene as a GAUSSIAN with a batch of one, SH of degree 1, some opacities at 1; and which are the object."""
    scene, is_object = toy_parts(keep_every=3)
    is_near = scene.means.norm(dim=1) < 3  # without the sky, which would hide all from views around it
    scene, is_object = scene.select(is_near), is_object[is_near]
    generator = torch.Generator().manual_seed(1)
    opacities = scene.opacities.clone()
    opacities[::7] = 1.0
    sh = torch.cat([scene.sh0, 0.02 * torch.randn(len(scene), 3, 3, generator=generator)], dim=1)
    tensors = (scene.means, scene.scales, scene.quats, opacities[:, None], sh)
    return comfy.GAUSSIAN(*(tensor[None] for tensor in tensors)), is_object


def tensors_of(batch):
    return batch.positions, batch.scales, batch.rotations, batch.opacities, batch.sh


def test_every_node_says_what_it_takes_and_gives(nodes):
    assert set(nodes) == {
        "SSDEditSplat", "SSDSelectInSplat", "SSDSplatToViews", "SSDViewsToSplat", "SSDRemoveFromSplat"
    }  # fmt: skip
    for node in nodes.values():
        schema = node.define_schema()
        assert schema.display_name
        assert schema.description
        assert schema.category.startswith("3d/gaussian")
        arguments = node.execute.__func__.__code__.co_varnames[1 : node.execute.__func__.__code__.co_argcount]
        assert list(arguments) == [socket.id for socket in schema.inputs]


def test_a_box_is_selected_and_edited_and_all_else_keeps_its_values(nodes, splat):
    batch, _ = splat
    graph = {
        "edit": {"class_type": "SSDEditSplat", "inputs": {
            "gaussian": ["load", 0], "selection": ["select", 0], "steps": 4, "method": "colors", **WORDS}},
        "select": {"class_type": "SSDSelectInSplat", "inputs": {"gaussian": ["load", 0], "box": BOX}},
    }  # fmt: skip
    values = comfy.run_graph(nodes, graph, {"load": [("GAUSSIAN", batch)]})
    (selection,), selected, count = values["select"]
    low, high = torch.tensor([-1.1, -1.1, 0]), torch.tensor([1.1, 1.1, 2.2])
    inside = ((batch.positions[0] >= low) & (batch.positions[0] <= high)).all(dim=1)
    assert torch.equal(selection, inside)
    assert count == int(inside.sum()) == selected.positions.shape[1]
    edited, images = values["edit"]
    assert edited.counts is None
    assert images.shape[2] == 2 * images.shape[1]
    assert 0 <= images.min() <= images.max() <= 1
    for before, after in zip(tensors_of(batch), tensors_of(edited), strict=True):
        assert torch.equal(before[0][~selection], after[0][~selection])
    assert not torch.equal(batch.sh[0][selection], edited.sh[0][selection])
    bar = comfy.STATE.bars[-1]
    assert bar.total == 4
    assert bar.values == [1, 2, 3, 4]
    kind, picture, _ = bar.previews[-1]
    assert kind == "JPEG"
    assert picture.size[0] > 64
    assert len(bar.previews) == 4


def test_views_that_other_nodes_turned_blue_come_back_as_a_blue_splat(nodes, splat):
    batch, is_object = splat
    look = {"class_type": "SSDSplatToViews", "inputs": {"gaussian": ["load", 0], "count": 4, "size": 48, "up": "+z"}}
    given = {"load": [("GAUSSIAN", batch)]}
    values = comfy.run_graph(nodes, {"look": look}, given)
    images, cameras = values["look"]
    assert images.shape == (4, 48, 48, 3)
    assert len(cameras) == 4
    masks = ((images[..., 0] > 0.35) & (images[..., 1] < 0.3)).float()  # the red ball
    turned = torch.where(masks[..., None] > 0, images[..., [2, 1, 0]], images)
    graph = {
        "select": {"class_type": "SSDSelectInSplat", "inputs": {
            "gaussian": ["load", 0], "masks": ["views", 0], "cameras": ["views", 2]}},
        "refit": {"class_type": "SSDViewsToSplat", "inputs": {
            "gaussian": ["load", 0], "images": ["views", 1], "cameras": ["views", 2], "selection": ["select", 0],
            "steps": 60}},
    }  # fmt: skip
    given["views"] = [("MASK", masks), ("IMAGE", turned), ("SPLAT_CAMERAS", cameras)]
    values = comfy.run_graph(nodes, graph, given)
    (selection,), _, _ = values["select"]
    overlap = (selection & is_object).sum() / (selection | is_object).sum()
    assert overlap > 0.7, overlap
    after, _ = values["refit"]
    assert torch.equal(after.sh[0][~selection], batch.sh[0][~selection])
    colors = [0.5 + 0.2820948 * each.sh[0][selection & is_object, 0].mean(dim=0) for each in (batch, after)]
    assert colors[0][0] > colors[0][2] + 0.2, colors
    assert colors[1][2] > colors[1][0] + 0.1, colors


def test_what_is_removed_is_gone_and_splats_of_a_batch_may_differ_in_length(nodes, splat):
    batch, is_object = splat
    half = [tensor[0][::2] for tensor in tensors_of(batch)]
    padded = [torch.stack([tensor[0], torch.cat([part, torch.zeros_like(tensor[0][: len(tensor[0]) - len(part)])])])
              for tensor, part in zip(tensors_of(batch), half, strict=True)]  # fmt: skip
    pair = comfy.GAUSSIAN(*padded, counts=torch.tensor([len(is_object), len(half[0])]))
    selections = [is_object, is_object[::2]]
    graph = {"remove": {"class_type": "SSDRemoveFromSplat", "inputs": {
        "gaussian": ["load", 0], "selection": ["load", 1], "steps": 2, "up": "+z"}}}  # fmt: skip
    values = comfy.run_graph(nodes, graph, {"load": [("GAUSSIAN", pair), ("SPLAT_SELECTION", selections)]})
    after, images = values["remove"]
    assert after.positions.shape[0] == 2
    assert len(images) == 8
    for index, is_gone in enumerate(selections):
        count = after.positions.shape[1] if after.counts is None else int(after.counts[index])
        places = {tuple(place) for place in after.positions[index, :count].tolist()}
        top = pair.positions[index, : len(is_gone)][is_gone]
        assert not places & {tuple(place) for place in top[top[:, 2] > 0.5].tolist()}


def test_an_interrupt_stops_between_steps(nodes, splat):
    batch, _ = splat
    graph = {"edit": {"class_type": "SSDEditSplat", "inputs": {"gaussian": ["load", 0], "steps": 50, **WORDS}}}
    comfy.STATE.stop_after = 2
    with pytest.raises(comfy.InterruptProcessingException):
        comfy.run_graph(nodes, graph, {"load": [("GAUSSIAN", batch)]})
    assert comfy.STATE.bars[-1].values == [1, 2]


def test_mistakes_are_one_line(nodes, splat):
    batch, is_object = splat
    call = nodes["SSDSelectInSplat"].execute
    with pytest.raises(ConfigError, match="box is 'a, b'"):
        call(batch, text="", box="a, b", grow=0.0, up="auto")
    with pytest.raises(ConfigError, match="there are 2 masks and 0 cameras"):
        call(batch, text="", box="", grow=0.0, up="auto", masks=torch.ones(2, 8, 8))
    with pytest.raises(ConfigError, match=r"the selection is of \[5\] Gaussians"):
        nodes["SSDRemoveFromSplat"].execute(batch, [is_object[:5]], 1, 0, "auto")


def test_without_threestudio_the_folder_says_what_to_do(monkeypatch, tmp_path):
    """As a copy in ComfyUI's folder, where nothing was installed."""
    comfy.install(monkeypatch)
    copied = tmp_path / "a" / "b" / "comfyui"
    copied.mkdir(parents=True)
    (copied / "__init__.py").write_text((FOLDER / "__init__.py").read_text())
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "threestudio" else find_spec(name))
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("copied_nodes", copied / "__init__.py")
    with pytest.raises(ImportError, match="threestudio-ssd is not installed"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
