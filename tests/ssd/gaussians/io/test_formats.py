"""What holds for every splat format: read as others write, written as others read, untouched bytes kept."""

import gzip
import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from threestudio_ssd.errors import MissingPackageError, SceneFormatError
from threestudio_ssd.gaussians import Gaussians, load_gaussians, save_gaussians
from threestudio_ssd.gaussians.io import SceneFormatWarning

from .truth import GOLDEN, MANIFEST, errors, true_scene

MEASURED = [name for name, entry in MANIFEST.items() if "max_abs_error" in entry]
WRITTEN = [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb", ".usdz", ".usdc"]
SOURCES = {
    ".ply": "sh3.ply", ".compressed.ply": "sh3.compressed.ply", ".splat": "sh3.splat", "v2.spz": "sh3_v2.spz",
    "v3.spz": "sh3_v3.spz", "v4.spz": "sh3_v4.spz",
}  # fmt: skip
# Largest error after one write and read of the known scene (1,000 Gaussians within +-10), with a tenth to spare.
ROUND_TRIP = {
    ".ply": (0, 0, 1e-12, 0, 0, 0),
    ".compressed.ply": (0.0092, 0.0033, 0.18, 0.0022, 0.0027, 0.0172),
    ".splat": (0, 1e-6, 0.84, 0.0022, 0.0022, 0),
    ".spz": (1.35e-4, 0.0344, 0.19, 0.0022, 0.0041, 0.0043),
    ".sog": (6e-4, 0.0175, 0.84, 0.0022, 0.0056, 0.0066),
    ".glb": (0, 5e-7, 1e-5, 2e-7, 0, 0),
    ".usdz": (0, 5e-7, 1e-5, 2e-7, 0, 0),
    ".usdc": (0, 5e-7, 1e-5, 2e-7, 0, 0),
}
pytestmark = pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")


@pytest.fixture(scope="module")
def truth():
    return true_scene()


@pytest.mark.parametrize("name", MEASURED)
def test_files_of_other_programs_read_to_the_truth(name, truth):
    entry = MANIFEST[name]
    gaussians = load_gaussians(GOLDEN / name)
    assert len(gaussians) == entry["count"]
    actual = errors(gaussians, truth, is_reordered=not entry["same_order"])
    for key, bound in entry["max_abs_error"].items():
        if bound is not None:
            assert actual[key] <= 1.2 * bound + 1e-6, key
    assert gaussians.sh_degree == (0 if name.endswith(".splat") else 2 if name.endswith(".ksplat") else 3)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_one_write_and_read_loses_no_more_than_the_format_must(suffix, truth, tmp_path):
    save_gaussians(truth, tmp_path / f"scene{suffix}")
    actual = errors(load_gaussians(tmp_path / f"scene{suffix}"), truth)
    for bound, (key, error) in zip(ROUND_TRIP[suffix], actual.items(), strict=True):
        assert error <= bound, key


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("suffix", WRITTEN)
def test_the_degree_stays(suffix, degree, truth, tmp_path):
    save_gaussians(truth.with_sh_degree(degree), tmp_path / f"scene{suffix}")
    expected = {".splat": 0, ".sog": min(degree, 3), ".glb": min(degree, 3)}.get(suffix, degree)
    assert load_gaussians(tmp_path / f"scene{suffix}").sh_degree == expected


@pytest.mark.parametrize("suffix", WRITTEN)
def test_save_load_save_gives_the_same_bytes(suffix, truth, tmp_path):
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    save_gaussians(truth, first)
    save_gaussians(load_gaussians(first), second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("suffix", WRITTEN)
def test_empty_scenes(suffix, truth, tmp_path):
    save_gaussians(truth.select(slice(0, 0)), tmp_path / f"empty{suffix}")
    assert len(load_gaussians(tmp_path / f"empty{suffix}")) == 0


def records(path: Path) -> dict[str, np.ndarray]:
    """The stored bytes of every Gaussian by field, read without the code under test."""
    name, data = path.name, path.read_bytes()
    if name.endswith(".splat"):
        return {"row": np.frombuffer(data, np.uint8).reshape(-1, 32)}
    if name.endswith(".spz"):
        return spz_records(data)
    if name.endswith(".sog"):
        return sog_records(data)
    if name.endswith(".glb"):
        return glb_records(data)
    if name.endswith((".usdz", ".usdc")):
        return usd_records(path)
    import plyfile

    document = plyfile.PlyData.read(path)
    tables = [element.data for element in document.elements if element.name in ("vertex", "sh")]
    return {str(i): table.view(np.uint8).reshape(len(table), -1) for i, table in enumerate(tables)}


def spz_records(data: bytes) -> dict[str, np.ndarray]:
    if data[:4] == b"NGSP":
        import zstandard

        _, version, count, degree, _, _, streams, table = struct.unpack_from("<IIIBBBBI", data)
        offset, body = table + 16 * streams, b""
        for place in range(streams):
            packed, size = struct.unpack_from("<QQ", data, table + 16 * place)
            body += zstandard.ZstdDecompressor().decompress(data[offset : offset + packed], size)
            offset += packed
    else:
        body = gzip.decompress(data)
        _, version, count, degree = struct.unpack_from("<IIIB", body)
        body = body[16:]
    tables, offset = {}, 0
    for place, width in enumerate((9, 1, 3, 3, 3 if version < 3 else 4, 3 * ((degree + 1) ** 2 - 1))):
        tables[str(place)] = np.frombuffer(body, np.uint8, count * width, offset).reshape(count, width)
        offset += count * width
    return tables


def glb_records(data: bytes) -> dict[str, np.ndarray]:
    import json

    (size,) = struct.unpack_from("<I", data, 12)
    document, body = json.loads(data[20 : 20 + size]), data[28 + size :]
    (primitive,) = document["meshes"][0]["primitives"]
    tables = {}
    for name, place in primitive["attributes"].items():
        accessor = document["accessors"][place]
        view = document["bufferViews"][accessor["bufferView"]]
        block = np.frombuffer(body, np.uint8, view["byteLength"], view["byteOffset"])
        tables[name] = block.reshape(accessor["count"], -1)
    return tables


def usd_records(path: Path) -> dict[str, np.ndarray]:
    from pxr import Usd

    stage = Usd.Stage.Open(str(path))
    prim = stage.GetDefaultPrim()
    names = ("positions", "orientations", "scales", "opacities", "radiance:sphericalHarmonicsCoefficients")
    count = len(prim.GetAttribute("positions").Get())
    return {name: np.array(prim.GetAttribute(name).Get()).reshape(count, -1) for name in names}


def sog_records(data: bytes) -> dict[str, np.ndarray]:
    import json

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        count = json.loads(archive.read("meta.json"))["count"]
        images = {name: Image.open(io.BytesIO(archive.read(name))).convert("RGBA") for name in archive.namelist()
                  if name.endswith(".webp") and "centroids" not in name}  # fmt: skip
    return {name: np.array(image).reshape(-1, 4)[:count] for name, image in images.items()}


def edit(before: Gaussians) -> tuple[Gaussians, list[int]]:
    """Some rows changed, some appended; and the places of those that were not."""
    after = before.clone()
    after.sh0[100:120] += 0.3
    after.log_scales[110:130] -= 0.1
    after.logit_opacities[300:310] = 0.0
    after.raw_quats[310:320] = torch.tensor([0.5, 0.5, -0.5, 0.5])
    after.means[320:330] *= 0.99
    after = after.append(after.select(list(range(5))).replace(means=after.means[:5] * 0.5))
    changed = {*range(100, 130), *range(300, 330)}
    return after, [i for i in range(1000) if i not in changed]


NEW = (".sog", ".glb", ".usdz")
"""Formats whose sources are written here."""


@pytest.mark.parametrize("kind", [*SOURCES, *NEW])
def test_untouched_gaussians_keep_their_bytes(kind, truth, tmp_path):
    source = tmp_path / f"source{kind}"
    if kind in NEW:
        save_gaussians(truth, source)
    else:
        source.write_bytes((GOLDEN / SOURCES[kind]).read_bytes())
    before = load_gaussians(source)
    after, untouched = edit(before)
    if kind == ".compressed.ply":  # stay within the bounds of each chunk
        after.sh0, after.log_scales = before.append(before.select(list(range(5)))).sh0, after.log_scales
        after.log_scales = before.append(before.select(list(range(5)))).log_scales
        after.means[320:330] = before.means[321:331]
        after.means[1000:] = before.means[995:1000]
    path = tmp_path / f"edited{kind}"
    save_gaussians(after, path)
    old, new = records(source), records(path)
    assert set(old) == set(new)
    for name in old:
        assert np.array_equal(old[name][untouched], new[name][untouched]), name
    again = load_gaussians(path)
    assert len(again) == 1005
    assert (again.opacities[300:310] - 0.5).abs().max() < 0.003
    assert (again.means[320:330] - after.means[320:330]).abs().max() < 0.02
    assert (again.sh0[100:120] - after.sh0[100:120]).abs().max() < (0.05 if kind == ".sog" else 0.03)


@pytest.mark.parametrize("kind", [kind for kind in [*SOURCES, *NEW] if kind != ".compressed.ply"])
def test_dropped_and_moved_gaussians_keep_their_bytes(kind, truth, tmp_path):
    source = tmp_path / f"source{kind}"
    if kind in NEW:
        save_gaussians(truth, source)
    else:
        source.write_bytes((GOLDEN / SOURCES[kind]).read_bytes())
    kept = [*range(999, 500, -1), *range(0, 200)]
    save_gaussians(load_gaussians(source).select(kept), tmp_path / f"fewer{kind}")
    old, new = records(source), records(tmp_path / f"fewer{kind}")
    for name in old:
        assert np.array_equal(old[name][kept], new[name]), name


def test_a_compressed_ply_says_how_many_rows_an_edit_moved(tmp_path):
    before = load_gaussians(GOLDEN / "sh3.compressed.ply")
    after = before.clone()
    after.means[10] += 100
    path = tmp_path / "far.compressed.ply"
    with pytest.warns(SceneFormatWarning) as caught:
        save_gaussians(after, path)
    assert str(caught[0].message) == (
        f"{path}: 255 Gaussians that were not edited share chunks of 256 with edited or dropped "
        "ones and were rounded "
        "anew; save as .ply to keep them exactly"
    )
    old, new = records(GOLDEN / "sh3.compressed.ply"), records(path)
    assert np.array_equal(old["0"][256:], new["0"][256:])
    assert np.array_equal(old["0"][:, 4:], new["0"][:, 4:])  # rotation, scale and colour of all
    far = load_gaussians(path)
    assert (far.means[10] - after.means[10]).abs().max() < 0.1
    with pytest.warns(SceneFormatWarning, match="1 Gaussians|[0-9]+ Gaussians that were not edited share chunks"):
        save_gaussians(before.select(list(range(1, 1000))), path)
    assert (load_gaussians(path).means - before.means[1:]).abs().max() < 0.02


def test_warnings_of_formats_that_lose_something(truth, tmp_path):
    def warning_of(gaussians, name):
        with pytest.warns(SceneFormatWarning) as caught:
            save_gaussians(gaussians, tmp_path / name)
        return str(caught[0].message)

    assert warning_of(truth, "a.splat") == (
        f"{tmp_path / 'a.splat'}: .splat holds no view-dependent colour; SH degree 3 is left out"
    )
    bright = truth.replace(shN=truth.shN * 100)
    assert "holds SH coefficients from -1 to 1; those of " in warning_of(bright, "a.spz")
    assert warning_of(bright, "a.compressed.ply") == (
        f"{tmp_path / 'a.compressed.ply'}: .compressed.ply holds SH coefficients from -4 to 4; larger ones were clipped"
    )
    assert warning_of(truth.with_sh_degree(4), "a.sog") == (
        f"{tmp_path / 'a.sog'}: .sog holds SH degree 0 to 3; degree 4 was cut"
    )
    save_gaussians(truth, tmp_path / "b.sog")
    scene = load_gaussians(tmp_path / "b.sog")
    assert warning_of(scene.replace(means=scene.means * 2), "b.sog") == (
        f"{tmp_path / 'b.sog'}: a Gaussian lies beyond the file's old bounds; all positions were rounded anew"
    )
    scene = load_gaussians(GOLDEN / "sh3_v3.spz")
    far = scene.replace(means=scene.means * 1000)
    assert warning_of(far, "c.spz") == (
        f"{tmp_path / 'c.spz'}: a Gaussian lies beyond the file's old range; all positions were rounded anew"
    )
    assert (load_gaussians(tmp_path / "c.spz").means - far.means).abs().max() < 0.002


def test_spz_reaches_far(truth, tmp_path):
    far = truth.replace(means=truth.means * 500)
    save_gaussians(far, tmp_path / "far.spz")
    assert (load_gaussians(tmp_path / "far.spz").means - far.means).abs().max() < 5e-4


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".sog", ".usdz", ".glb", ".splat"])
def test_how_a_splat_was_trained_goes_along_or_is_warned_of(suffix, tmp_path, recwarn):
    ply = (
        (GOLDEN / "sh0_40.ply").read_bytes().replace(b"element vertex", b"comment SplatRenderMode: mip\nelement vertex")
    )
    (tmp_path / "mip.ply").write_bytes(ply)
    scene = load_gaussians(tmp_path / "mip.ply")
    assert scene.is_antialiased
    assert scene.select([1, 2]).clone().replace(means=scene.means[:2]).is_antialiased
    recwarn.clear()
    save_gaussians(scene.replace(origin_rows=torch.full((40,), -1)), tmp_path / f"again{suffix}")
    is_kept = suffix not in (".glb", ".splat")
    assert load_gaussians(tmp_path / f"again{suffix}").is_antialiased == is_kept
    assert any("was trained 'mip'" in str(each.message) for each in recwarn) != is_kept
    plain = load_gaussians(GOLDEN / "sh0_40.ply")
    save_gaussians(plain, tmp_path / f"plain{suffix}")
    assert not load_gaussians(tmp_path / f"plain{suffix}").is_antialiased


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_spz_is_written_in_the_version_asked_for(version, truth, tmp_path):
    save_gaussians(truth, tmp_path / "a.spz", spz_version=version)
    data = (tmp_path / "a.spz").read_bytes()
    head = data if version == 4 else gzip.decompress(data)
    assert struct.unpack_from("<II", head) == (0x5053474E, version)
    assert errors(load_gaussians(tmp_path / "a.spz"), truth)["position"] < (0.005 if version == 1 else 2e-4)
    for other in (3, 4):  # and made into another version, its numbers stay
        save_gaussians(load_gaussians(tmp_path / "a.spz"), tmp_path / "b.spz", spz_version=other)
        moved = errors(load_gaussians(tmp_path / "b.spz"), load_gaussians(tmp_path / "a.spz"))
        assert moved["sh_rest"] == moved["log_scale"] == 0
        assert moved["position"] < 2e-4


def test_antialiased_scenes_stay_so(tmp_path):
    data = bytearray(gzip.decompress((GOLDEN / "sh3_v3.spz").read_bytes()))
    data[14] |= 1
    (tmp_path / "mip.spz").write_bytes(gzip.compress(bytes(data)))
    scene = load_gaussians(tmp_path / "mip.spz")
    assert scene.origin.notes == {"render_mode": "antialiased"}
    save_gaussians(scene, tmp_path / "again.spz")
    assert load_gaussians(tmp_path / "again.spz").origin.notes == {"render_mode": "antialiased"}


def test_sog_as_a_folder_and_its_first_version(truth, tmp_path):
    import json

    save_gaussians(truth, tmp_path / "scene.sog")
    folder = tmp_path / "parts"
    with zipfile.ZipFile(tmp_path / "scene.sog") as archive:
        archive.extractall(folder)
    whole = load_gaussians(tmp_path / "scene.sog")
    for path in (folder, folder / "meta.json"):
        parts = load_gaussians(path)
        assert all(torch.equal(tensor, getattr(whole, name)) for name, tensor in parts.parameters().items())
    meta = json.loads((folder / "meta.json").read_text())
    old = {
        "means": {**meta["means"], "shape": [1000, 3]},
        "scales": {"mins": [-8.0, -8, -8], "maxs": [2.0, 2, 2], "files": ["scales.webp"]},
        "quats": meta["quats"],
        "sh0": {"mins": [-2.0, -2, -2, -5], "maxs": [2.0, 2, 2, 5], "files": ["sh0.webp"]},
        "shN": {"mins": -1.5, "maxs": 1.5, "files": meta["shN"]["files"]},
    }
    (folder / "meta.json").write_text(json.dumps(old))
    first = load_gaussians(folder)
    bytes_of = {
        name: pixels.astype(float) for name, pixels in sog_records((tmp_path / "scene.sog").read_bytes()).items()
    }
    assert torch.equal(first.means, whole.means)
    assert np.allclose(first.log_scales.numpy(), -8 + 10 * bytes_of["scales.webp"][:, :3] / 255, atol=1e-5)
    assert np.allclose(first.sh0[:, 0].numpy(), -2 + 4 * bytes_of["sh0.webp"][:, :3] / 255, atol=1e-5)
    assert np.allclose(first.logit_opacities.numpy(), -5 + 10 * bytes_of["sh0.webp"][:, 3] / 255, atol=1e-5)
    assert first.shN.abs().max() <= 1.5


def test_a_published_sog_equals_its_ply():
    data = Path(__file__).parents[4] / "data" / "playbot"
    sog, ply = load_gaussians(data / "playbot_31k.sog"), load_gaussians(data / "playbot_31k.ply")
    assert sog.sh_degree == ply.sh_degree == 2
    for name, tensor in sog.parameters().items():
        assert (tensor - getattr(ply, name)).abs().max() < 1e-6, name


@pytest.mark.parametrize("layout", ["gsplat", "bare", "nerfstudio", "inria"])
def test_checkpoints(layout, truth, tmp_path):
    names = ("means", "scales", "quats", "opacities", "sh0", "shN")
    tensors = dict(zip(names, truth.parameters().values(), strict=True))
    order = dict(zip(names, (0, 1, 2, 3, 4, 5), strict=True))
    assert list(order) == list(tensors)
    tensors = {
        "means": truth.means, "scales": truth.log_scales, "quats": truth.raw_quats, "opacities": truth.logit_opacities,
        "sh0": truth.sh0, "shN": truth.shN,
    }  # fmt: skip
    match layout:
        case "gsplat":
            saved = {"step": 7, "splats": {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}}
        case "bare":
            saved = tensors
        case "nerfstudio":
            long = {"sh0": "features_dc", "shN": "features_rest"}
            shaped = {**tensors, "sh0": truth.sh0[:, 0], "opacities": truth.logit_opacities[:, None]}
            saved = {"step": 7, "pipeline": {
                f"_model.gauss_params.{long.get(name, name)}": tensor for name, tensor in shaped.items()
            }}  # fmt: skip
        case "inria":
            saved = ((3, truth.means, truth.sh0, truth.shN, truth.log_scales, truth.raw_quats,
                      truth.logit_opacities[:, None], torch.zeros(3), {}, 1.0), 30000)  # fmt: skip
    path = tmp_path / "checkpoint.pt"
    torch.save(saved, path)
    gaussians = load_gaussians(path)
    assert all(torch.equal(tensor, getattr(truth, name)) for name, tensor in gaussians.parameters().items())


class Evil:
    """A pickle that would run code."""

    def __reduce__(self):
        return (print, ("run",))


def message_of(path: Path) -> str:
    with pytest.raises(SceneFormatError) as error:
        load_gaussians(path)
    return str(error.value)


def test_messages_of_checkpoints(tmp_path):
    torch.save({"model": torch.zeros(3)}, tmp_path / "a.pt")
    assert message_of(tmp_path / "a.pt") == (
        f"{tmp_path / 'a.pt'} holds no Gaussians (it has model); expected means, scales, quats, "
        "opacities, sh0 and shN, as "
        "gsplat saves them under splats; export the splat as .ply from the program that trained it"
    )
    torch.save(Evil(), tmp_path / "b.pth")
    assert message_of(tmp_path / "b.pth").startswith(
        f"{tmp_path / 'b.pth'} cannot be loaded as a checkpoint of tensors ("
    )


def cut(name: str, size: int, tmp_path: Path) -> Path:
    path = tmp_path / name
    path.write_bytes((GOLDEN / name).read_bytes()[:size])
    return path


def test_messages_of_files_cut_short(truth, tmp_path):
    again = "copy or download the file again; it is cut short"
    path = cut("sh3.splat", 1000, tmp_path)
    assert message_of(path) == (
        f"{path} has 1000 bytes, which is 31 Gaussians and 8 bytes; expected a multiple of 32 bytes; "
        f"{again} or of another format"
    )
    path = cut("sh3.compressed.ply", 20000, tmp_path)
    assert message_of(path).startswith(f"{path} ends inside its element sh (20000 bytes); expected at least ")
    assert message_of(path).endswith(again)
    for name in ("sh3_v2.spz", "sh3_v4.spz"):
        path = cut(name, 20000, tmp_path)
        assert message_of(path).startswith(f"{path} cannot be unpacked (")
        assert message_of(path).endswith(
            f"; expected an SPZ file, which starts with a gzip stream or 'NGSP'; {again} or of another format"
        )
    data = gzip.decompress((GOLDEN / "sh3_v3.spz").read_bytes())
    path = tmp_path / "rows.spz"
    path.write_bytes(gzip.compress(data[:30000]))
    assert message_of(path) == (
        f"{path} does not hold shN for all of its 1000 Gaussians; expected one row for every "
        "Gaussian the header promises; "
        f"{again}"
    )
    for size, start in ((2000, "has 2000 bytes and version 0.1; expected a KSPLAT file of version 0.1"),
                        (60000, "is cut short or damaged (")):  # fmt: skip
        path = cut("sh2_level0.ksplat", size, tmp_path)
        assert message_of(path).startswith(f"{path} {start}")
    save_gaussians(truth, tmp_path / "whole.sog")
    path = tmp_path / "cut.sog"
    path.write_bytes((tmp_path / "whole.sog").read_bytes()[:5000])
    assert message_of(path) == (
        f"{path} is no zip archive (File is not a zip file); expected a SOG: a zip of meta.json and "
        "WebP images; "
        f"{again} or of another format"
    )


def test_messages_of_wrong_content(truth, tmp_path):
    data = bytearray(gzip.decompress((GOLDEN / "sh3_v3.spz").read_bytes()))
    data[4] = 9
    path = tmp_path / "a.spz"
    path.write_bytes(gzip.compress(bytes(data)))
    assert message_of(path) == (
        f"{path} is SPZ version 9 with SH degree 3; expected version 1 to 4, SH degree 0 to 4; "
        "save it with an SPZ program of today, or as .ply"
    )
    path.write_bytes(gzip.compress(b"something else entirely"))
    assert message_of(path) == (
        f"{path} unpacks to something that starts with b'some'; expected an SPZ file ('NGSP'); "
        "give the file the suffix of its real format"
    )
    data = bytearray((GOLDEN / "sh2_level0.ksplat").read_bytes())
    data[20] = 7
    path = tmp_path / "a.ksplat"
    path.write_bytes(data)
    assert message_of(path) == f"{path} has compression level 7; expected 0, 1 or 2; export the splat as .ply instead"
    text = (GOLDEN / "sh3.compressed.ply").read_bytes().replace(b"packed_scale", b"packed_stale")
    path = tmp_path / "a.ply"
    path.write_bytes(text)
    assert message_of(path) == (
        f"{path} is a compressed PLY without packed_scale; expected chunk, vertex and (optionally) "
        "sh elements as "
        "SuperSplat writes them; export it again, or as plain .ply"
    )
    save_gaussians(truth, tmp_path / "whole.sog")
    with zipfile.ZipFile(tmp_path / "whole.sog") as archive:
        archive.extractall(tmp_path / "parts")
    (tmp_path / "parts" / "quats.webp").unlink()
    assert message_of(tmp_path / "parts") == (
        f"{tmp_path / 'parts'} has no readable part quats.webp; expected all the images that "
        "meta.json names; "
        "copy or download the splat again"
    )
    (tmp_path / "parts" / "quats.webp").write_bytes(b"no picture")
    assert message_of(tmp_path / "parts").startswith(f"{tmp_path / 'parts'} has a part quats.webp that is no picture (")
    (tmp_path / "parts" / "meta.json").write_text('{"version": 5}')
    assert message_of(tmp_path / "parts") == (
        f"{tmp_path / 'parts'} has a meta.json that cannot be used (ValueError: version 5); "
        "expected SOG version 1 or 2; "
        "export it again, or as .ply"
    )
    (tmp_path / "parts" / "meta.json").unlink()
    assert message_of(tmp_path / "parts") == (
        f"{tmp_path / 'parts'} is a folder without meta.json; expected a splat file, or a folder "
        "with the meta.json of a "
        "SOG; name the splat file itself"
    )
    (tmp_path / "parts" / "lod-meta.json").write_text("{}")
    assert message_of(tmp_path / "parts") == (
        f"{tmp_path / 'parts'} is a streamed SOG (lod-meta.json); expected a splat file, or a "
        "folder with the meta.json of "
        "a SOG; name one of its level folders"
    )


def test_suffixes(truth, tmp_path):
    (tmp_path / "a.obj").write_bytes(b"")
    assert message_of(tmp_path / "a.obj") == (
        f"cannot read {tmp_path / 'a.obj'}: unknown suffix '.obj'; expected one of .ply, .splat, "
        ".spz, .sog, meta.json, "
        ".ksplat, .glb, .usdz, .usdc, .usda, .usd, .pt, .pth, .ckpt; rename the file to its real format"
    )
    with pytest.raises(SceneFormatError) as error:
        save_gaussians(truth, tmp_path / "a.ksplat")
    assert str(error.value) == (
        f"cannot write {tmp_path / 'a.ksplat'}: unknown suffix '.ksplat'; expected one of .ply, "
        ".compressed.ply, .splat, "
        ".spz, .sog, .glb, .usdz, .usdc, .usda; choose another suffix"
    )


@pytest.mark.parametrize("name", ["sh3.splat", "sh3_v3.spz"])
def test_zero_rotations_are_read_as_none_and_kept(name, tmp_path):
    if name.endswith(".splat"):
        data = bytearray((GOLDEN / name).read_bytes())
        data[28:32] = bytes([128] * 4)
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.warns(
            SceneFormatWarning, match="1 of 1000 Gaussians have a rotation of length zero; taken as none"
        ):
            scene = load_gaussians(path)
        assert scene.raw_quats[0].tolist() == [1, 0, 0, 0]
        save_gaussians(scene, tmp_path / "again.splat")
        assert (tmp_path / "again.splat").read_bytes() == bytes(data)
    else:
        scene = load_gaussians(GOLDEN / name)
        assert torch.allclose(scene.quats.norm(dim=1), torch.ones(1000), atol=1e-5)


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        (
            "zstandard",
            "sh3_v4.spz",
            "SPZ version 4 needs the package zstandard; expected it installed; pip install zstandard",
        ),
        ("PIL", "scene.sog", ".sog needs the package Pillow; expected it installed; pip install Pillow"),
    ],
)
def test_missing_packages(package, name, message, truth, tmp_path, monkeypatch):
    save_gaussians(truth.select(slice(0, 8)), tmp_path / "scene.sog")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        load_gaussians(tmp_path / name if name == "scene.sog" else GOLDEN / name)
    assert str(error.value) == message
