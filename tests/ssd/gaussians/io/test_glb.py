"""glTF binary: transforms of nodes, number types and several splats, against files made here by hand."""

import json
import struct

import numpy as np
import pytest
import torch

from threestudio_ssd.errors import SceneFormatError
from threestudio_ssd.gaussians import load_gaussians, rotated, save_gaussians, scaled, translated
from threestudio_ssd.gaussians.sh import sh_colors

from .truth import C0, errors, true_scene

K = "KHR_gaussian_splatting"


def parts_of(path):
    """The document and the binary chunk of a file."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def join(path, document, body):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(body), len(text), 0x4E4F534A)
    path.write_bytes(head + text + struct.pack("<II", len(body), 0x004E4942) + body)


@pytest.fixture
def written(tmp_path):
    """A file of 50 Gaussians, its document, its bytes, and the scene."""
    scene = true_scene().select(slice(0, 50))
    save_gaussians(scene, tmp_path / "a.glb")
    document, body = parts_of(tmp_path / "a.glb")
    return tmp_path / "b.glb", document, body, scene


def test_the_file_is_as_the_specification_says(written):
    _, document, body, scene = written
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    assert primitive["extensions"] == {K: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display",
                                           "projection": "perspective", "sortingMethod": "cameraDistance"}}  # fmt: skip
    assert document["extensionsUsed"] == [K]

    def values(name):
        accessor = document["accessors"][primitive["attributes"][name]]
        view = document["bufferViews"][accessor["bufferView"]]
        kind = np.uint8 if accessor["componentType"] == 5121 else np.float32
        block = np.frombuffer(body[view["byteOffset"] : view["byteOffset"] + view["byteLength"]], kind)
        return accessor, block.reshape(accessor["count"], -1)

    accessor, means = values("POSITION")
    assert np.array_equal(means, scene.means)
    assert accessor["min"] == means.min(axis=0).tolist()
    np.testing.assert_allclose(values(f"{K}:ROTATION")[1], scene.quats[:, [1, 2, 3, 0]], atol=1e-6)
    np.testing.assert_allclose(values(f"{K}:SCALE")[1], scene.scales, rtol=1e-6)
    np.testing.assert_allclose(values(f"{K}:OPACITY")[1][:, 0], scene.opacities, atol=1e-6)
    assert np.array_equal(values(f"{K}:SH_DEGREE_0_COEF_0")[1], scene.sh0[:, 0])
    assert np.array_equal(values(f"{K}:SH_DEGREE_3_COEF_6")[1], scene.shN[:, 14])
    assert np.array_equal(values(f"{K}:SH_DEGREE_2_COEF_0")[1], scene.shN[:, 3])
    shown = (scene.sh0[:, 0] * C0 + 0.5).clamp(0, 1).numpy()
    linear = values("COLOR_0")[1] / 255
    assert np.abs(np.where(linear[:, :3] > 0.0031308, 1.055 * linear[:, :3] ** (1 / 2.4) - 0.055,
                           12.92 * linear[:, :3]) - shown).max() < 0.03  # fmt: skip
    # upright for viewers: what is up in a world with y down is y of glTF
    matrix = np.array(document["nodes"][0]["matrix"]).reshape(4, 4).T
    assert (matrix @ [0, -1, 0, 0]).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("how", ["parts", "matrix", "parent"])
def test_transforms_of_nodes_move_everything_they_should(written, how):
    """The colour seen along a direction, before the turn, is the one seen along the turned direction after it."""
    path, document, body, scene = written
    quat = np.array([0.2, -0.4, 0.1, 0.88])
    x, y, z, w = quat / np.linalg.norm(quat)
    turn = torch.tensor([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    parts = {"rotation": [x, y, z, w], "scale": [2, 2, 2], "translation": [1, 2, 3]}
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = 2 * turn.numpy(), (1, 2, 3)
    mesh = {"mesh": 0}
    if how == "parent":
        document["nodes"] = [{"children": [1], "translation": [1, 2, 3]}, {**mesh, **parts, "translation": [0, 0, 0]}]
    else:
        document["nodes"] = [{**mesh, **(parts if how == "parts" else {"matrix": whole.T.ravel().tolist()})}]
    join(path, document, body)
    placed = load_gaussians(path)
    expected = translated(scaled(rotated(scene, turn), 2), torch.tensor([1.0, 2.0, 3.0]))
    difference = errors(placed, expected)
    assert difference["position"] < 1e-5
    assert difference["log_scale"] < 1e-5
    assert difference["rotation_degrees"] < 1e-3
    direction = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.8]]), dim=-1)
    before = sh_colors(scene.sh, direction.expand(50, 3))
    after = sh_colors(placed.sh, (direction @ turn.float().T).expand(50, 3))
    assert (before - after).abs().max() < 1e-5
    edited = placed.clone()
    edited.sh0[3] += 0.5
    save_gaussians(edited, path.with_name("c.glb"))
    document_after, body_after = parts_of(path.with_name("c.glb"))
    rows = {name: np.frombuffer(data[:600], np.uint8) for name, data in (("old", body), ("new", body_after))}
    assert np.array_equal(rows["old"], rows["new"])  # POSITION, in the node's own axes
    assert "matrix" in document_after["nodes"][0]
    assert errors(load_gaussians(path.with_name("c.glb")), edited)["position"] == 0


def test_whole_numbers_are_fractions_of_the_largest(written):
    path, document, _, scene = written
    columns = {
        "POSITION": (scene.means.numpy().astype("<f4"), 5126, "VEC3"),
        f"{K}:ROTATION": (np.rint(scene.quats[:, [1, 2, 3, 0]].numpy() * 32767).astype("<i2"), 5122, "VEC4"),
        f"{K}:SCALE": (np.rint(scene.scales.clamp(max=1).numpy() * 65535).astype("<u2"), 5123, "VEC3"),
        f"{K}:OPACITY": (np.rint(scene.opacities.numpy()[:, None] * 255).astype("u1"), 5121, "SCALAR"),
        f"{K}:SH_DEGREE_0_COEF_0": (scene.sh0[:, 0].numpy(), 5126, "VEC3"),
    }
    body, accessors, views = b"", [], []
    for rows, component, kind in columns.values():
        stride = -(-rows.dtype.itemsize * rows.shape[1] // 4) * 4  # rows start at multiples of four
        block = np.zeros((len(rows), stride), np.uint8)
        block[:, : rows.dtype.itemsize * rows.shape[1]] = np.ascontiguousarray(rows).view(np.uint8)
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": block.size, "byteStride": stride})
        accessors.append({"bufferView": len(accessors), "componentType": component, "count": 50, "type": kind,
                          "normalized": component != 5126})  # fmt: skip
        body += block.tobytes()
    document |= {"accessors": accessors, "bufferViews": views, "nodes": [{"mesh": 0}]}
    document["meshes"][0]["primitives"][0]["attributes"] = dict(zip(columns, range(5), strict=True))
    join(path, document, body)
    read = load_gaussians(path)
    assert torch.equal(read.means, scene.means)
    assert (read.opacities - scene.opacities).abs().max() < 0.51 / 255
    assert (read.scales - scene.scales.clamp(max=1)).abs().max() < 0.51 / 65535
    assert errors(read, scene)["rotation_degrees"] < 0.01
    assert read.sh_degree == 0


def test_splats_of_several_nodes_are_one_scene(written):
    path, document, body, scene = written
    document["nodes"] = [{"mesh": 0}, {"mesh": 0, "translation": [10, 0, 0]}, {"name": "a light"}]
    document["scenes"] = [{"nodes": [0, 1, 2]}]
    join(path, document, body)
    both = load_gaussians(path)
    moved = scene.append(translated(scene, torch.tensor([10.0, 0, 0])))
    assert errors(both, moved)["position"] < 1e-5
    save_gaussians(both, path.with_name("c.glb"))
    assert errors(load_gaussians(path.with_name("c.glb")), both)["position"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["meshes"][0]["primitives"][0].update(mode=4), "is no list of points"),
        (lambda d: d["meshes"][0]["primitives"][0].pop("extensions"), "holds no splat"),
        (lambda d: (d.update(extensionsUsed=1e9), d["meshes"][0]["primitives"][0].pop("extensions")), "float"),
        (lambda d: d["meshes"][0]["primitives"][0]["extensions"][K].update(kernel="disk"), "has the kernel 'disk'"),
        (lambda d: d["meshes"][0]["primitives"][0]["extensions"][K].update(
            extensions={f"{K}_compression_spz_2": {}}), "is compressed by KHR_gaussian_splatting_compression_spz_2"),
        (lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop(f"{K}:SCALE"), "no KHR_gaussian_splatting:SCALE"),
        (lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop(f"{K}:SH_DEGREE_2_COEF_1"), "SH_DEGREE_2_COEF_1"),
        (lambda d: d["accessors"][0].update(count=10**12), "reaches beyond the"),
        (lambda d: d["accessors"][0].update(count=-1), "negative size"),
        (lambda d: d["nodes"][0].update(children=[0]), "are no tree"),
        (lambda d: d["nodes"][0].update(matrix=[1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]), "rotation must be"),
        (lambda d: d["buffers"][0].update(uri="a.bin"), "lie in another file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(written, change, words):
    path, document, body, _ = written
    change(document)
    join(path, document, body)
    with pytest.raises(SceneFormatError, match=words):
        load_gaussians(path)


def test_logarithms_for_sizes_are_refused(written):
    path, document, body, scene = written
    place = document["meshes"][0]["primitives"][0]["attributes"][f"{K}:SCALE"]
    start = document["bufferViews"][document["accessors"][place]["bufferView"]]["byteOffset"]
    logs = scene.log_scales.numpy().astype("<f4").tobytes()
    join(path, document, body[:start] + logs + body[start + len(logs) :])
    with pytest.raises(SceneFormatError, match="they are logarithms"):
        load_gaussians(path)
