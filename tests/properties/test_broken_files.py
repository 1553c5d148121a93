"""What holds for every format: a broken file is answered in one line, in seconds, within memory."""

import gzip
import io
import json
import struct
import zipfile
import zlib
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import GOLDEN, TARGETS
from tests.fuzz.trial import trial
from threestudio_ssd.errors import SceneFormatError

pytestmark = pytest.mark.filterwarnings("ignore::threestudio_ssd.gaussians.io.SceneFormatWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("broken")


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "overrides"])
def test_broken_files_are_answered_in_one_line(name, folder):
    target = TARGETS[name]
    seeds = target.seeds()

    @settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32))
    def check(number):
        rng = Random(number)
        data = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 2))):
            data = target.mutate(rng, data)
        assert trial(target, data, folder) is None

    check()


def ply(*columns: str, count: int | str = 1, kind: str = "binary_little_endian", rows: bytes = b"\0" * 400) -> bytes:
    lines = ["ply", f"format {kind} 1.0", f"element vertex {count}", *(f"property float {name}" for name in columns)]
    return "\n".join([*lines, "end_header", ""]).encode() + rows


SPLAT = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1",
         "rot_2", "rot_3")  # fmt: skip


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def saved(document: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(document, buffer)
    return buffer.getvalue()


def gsplat_checkpoint(**others: torch.Tensor) -> bytes:
    parts = {"means": (4, 3), "scales": (4, 3), "quats": (4, 4), "opacities": (4,), "sh0": (4, 1, 3), "shN": (4, 0, 3)}
    return saved({"splats": {name: torch.rand(shape) for name, shape in parts.items()} | others})


def png(width: int, height: int) -> bytes:
    """One whose pixels take a thousandth of what they are."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    body = b"".join(packer.compress(row) for _ in range(min(height, 200))) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
    joined = b"".join(
        struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + joined


def npy(shape: tuple[int, ...], kind: str = "|b1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(40)


def ksplat(**header: int) -> bytes:
    data = bytearray((GOLDEN / "sh2_level1.ksplat").read_bytes())
    for place, value in {"count": 4096, "size": 4104, "buckets": 4108, "full": 4128, "partial": 4132}.items():
        if place in header:
            struct.pack_into("<I", data, value, header[place])
    return bytes(data)


def spz(count: int, body: bytes = b"") -> bytes:
    return gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, count, 3, 12, 0, 0) + body)


def glb(body: bytes = b"", document: bytes = b"", **keys: object) -> bytes:
    text = document or json.dumps({"asset": {"version": "2.0"}, **keys}).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(body), len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(body), 0x004E4942) + body


def one_splat(**accessor: object) -> dict[str, object]:
    """The document of a splat all of whose attributes are one accessor."""
    names = ("POSITION", *(f"KHR_gaussian_splatting:{name}" for name in ("ROTATION", "SCALE", "OPACITY")))
    primitive = {"mode": 0, "attributes": dict.fromkeys(names, 0), "extensions": {"KHR_gaussian_splatting": {}}}
    return {
        "nodes": [{"mesh": 0}], "meshes": [{"primitives": [primitive]}], "buffers": [{"byteLength": 48}],
        "bufferViews": [{"buffer": 0, "byteLength": 48}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", **accessor}],
    }  # fmt: skip


def transforms(**keys: object) -> bytes:
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    frame |= {key: keys.pop(key) for key in ("file_path", "transform_matrix") if key in keys}
    return json.dumps({"w": 64, "h": 48, "fl_x": 60.0, "frames": [frame], **keys}).encode()


def posed(*words: str) -> bytes:
    cameras = b"1 PINHOLE 64 48 60 60 32 24\n"
    return len(cameras).to_bytes(4, "little") + cameras + " ".join(("1", *words, "1", "a.png\n\n")).encode()


def mapping(**keys: object) -> bytes:
    entry = dict.fromkeys(("original_prompt", "editing_prompt", "editing_instruction"), "a") | {
        "image_path": "0/a.jpg", "editing_type_id": "0", "mask": [0, 5],
    }  # fmt: skip
    return json.dumps({"000": {**entry, **keys}}).encode()


DEEP = b"[" * 100_000
ALIASES = b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40))
BROKEN = {
    "a column twice": ("ply", ply(*SPLAT, "x"), "has the column x twice"),
    "a negative count": ("ply", ply(*SPLAT, count=-1), "promises -1 rows of vertex"),
    "4e9 rows": ("ply", ply(*SPLAT, count=4_000_000_000), "promises 4000000000 rows"),
    "4e9 rows of text": ("ply-ascii", ply(*SPLAT, count=4_000_000_000, kind="ascii"), "promises 4000000000 rows"),
    "some colour bounds": (
        "compressed-ply", (GOLDEN / "sh3.compressed.ply").read_bytes().replace(b"min_b", b"min_q"), "without min_b",
    ),
    "a meta.json that is a number": ("sog", zipped(meta__json=b"3"), "meta.json that cannot be used"),
    "a deep meta.json": ("sog", zipped(meta__json=DEEP), "RecursionError"),
    "a zip bomb": ("sog", zipped(meta__json=bytes(1 << 27)), "at most 64 times as many"),
    "a gzip bomb": ("spz", spz(100, bytes(1 << 24)), "bytes follow its rows"),
    "an spz of many rows": ("spz", spz(2_000_000_000), "promises 2000000000 Gaussians"),
    "a glb of many rows": ("glb", glb(bytes(48), **one_splat(count=4_000_000_000)), "reaches beyond the 48 bytes"),
    "a glb that repeats its rows": (
        "glb", glb(bytes(48), **one_splat(count=4_000_000_000) | {"bufferViews": [{"buffer": 0, "byteStride": 0.0}]}),
        "reaches beyond the 48 bytes",
    ),
    "a glb of nodes in a circle": (
        "glb", glb(nodes=[{"children": [1]}, {"children": [0]}], scenes=[{"nodes": [0]}]), "are no tree",
    ),
    "a deep glb": ("glb", glb(document=DEEP), "nested too deeply"),
    "a usdc of zeros": ("usdc", b"PXR-USDC" + bytes(100), "cannot be read"),
    "a glb of a mesh": ("glb", glb(nodes=[{"mesh": 0}], meshes=[{"primitives": [{}]}]), "holds no splat"),
    "a glb of one short chunk": ("glb", glb()[:24], "ends inside a chunk"),
    "a usda of words": ("usda", b"#usda 1.0\ndef Sphere {", "cannot be read"),
    "a usda elsewhere": ("usda", b'#usda 1.0\n(subLayers = [@../a.usda@])\n', "refers to ../a.usda"),
    "a ksplat of large buckets": ("ksplat", ksplat(full=4_000_000_000), "buckets with"),
    "a ksplat of many rows": ("ksplat", ksplat(count=4_000_000_000), "4000000000 Gaussians in room for"),
    "a repeated number": ("pt", gsplat_checkpoint(means=torch.zeros(1).expand(4, 3)), "repeats 4 bytes"),
    "a repeated row": ("pt", gsplat_checkpoint(means=torch.zeros(1).expand(10**9, 3)), "repeats 4 bytes"),
    "opacities of two columns": ("pt", gsplat_checkpoint(opacities=torch.zeros(4, 2)), "shape (4, 2)"),
    "turns of three numbers": ("pt", gsplat_checkpoint(quats=torch.zeros(4, 3)), "shape (4, 3)"),
    "positions of one number": ("pt", gsplat_checkpoint(means=torch.tensor(3.0)), "shape ()"),
    "whole numbers": ("pt", gsplat_checkpoint(scales=torch.zeros(4, 3, dtype=torch.int64)), "torch.int64"),
    "sparse numbers": ("pt", gsplat_checkpoint(scales=torch.ones(4, 3).to_sparse()), "sparse"),
    "seven coefficients": ("pt", gsplat_checkpoint(shN=torch.zeros(4, 7, 3)), "shape (4, 7, 3)"),
    "a singular pose": ("transforms", transforms(transform_matrix=np.zeros((4, 4)).tolist()), "is no rotation"),
    "a singular world": ("transforms", transforms(applied_transform=np.zeros((3, 4)).tolist()), "is no rotation"),
    "no width": ("transforms", transforms(w=0), "a size of 0 x 48"),
    "a negative width": ("transforms", transforms(w=-5), "a size of -5 x 48"),
    "an endless width": ("transforms", transforms(w=1e9), "a size of 1000000000 x 48"),
    "no focal length": ("transforms", transforms(fl_x=0), "fx = 0.0"),
    "a negative focal length": ("transforms", transforms(fl_x=-5), "fx = -5.0"),
    "an endless focal length": ("transforms", transforms(fl_x=1e9), "fx = 1000000000.0"),
    "a huge number": ("transforms", transforms(fl_x=10**400), "fl_x is 1000"),
    "a scale of 0": ("transforms", transforms(applied_scale=0), "applied_scale is 0"),
    "a long name": ("transforms", transforms(file_path="x" * 5000), "of 5000 bytes"),
    "distortion in one number": ("transforms", transforms(distortion_params=3.0), "distortion_params is 3.0"),
    "deep cameras": ("transforms", DEEP, "nested too deeply"),
    "infinite position": ("colmap-text", posed("1", "0", "0", "0", "-inf", "-inf", "inf"), "holds NaN or infinity"),
    "no turn": ("colmap-text", posed("0", "0", "0", "0", "1", "2", "3"), "holds NaN or infinity"),
    "a list of training": ("dataparser", b"[3]", "holds a list"),
    "13,000 pixels": ("mask", png(13_000, 13_000), "13000 x 13000 pixels"),
    "60,000 pixels": ("picture", png(60_000, 60_000), "exceeds limit"),
    "a photograph of 13,000 pixels": ("photograph", png(13_000, 13_000), "13000 x 13000 pixels"),
    "a long picture": ("picture", png(200, 20_000), "a longer side of at most 32 times the shorter"),
    "10^12 booleans": ("selection", npy((10**12,)), "1000000000000 booleans in 40 bytes"),
    "booleans in a square": ("selection", npy((5, 8)), "bool of shape (5, 8)"),
    "objects": ("selection", npy((40,), "|O"), "object of shape (40,)"),
    "a mapping that is a list": ("mapping", b"[1]", "holds a list"),
    "an entry that is a number": ("mapping", b'{"a": 3}', "entry a is a int"),
    "a prompt that is a number": ("mapping", mapping(original_prompt=3), "original_prompt 3, which is no text"),
    "a mask that is a number": ("mapping", mapping(mask=3), "a mask that is no list"),
    "half a run": ("mapping", mapping(mask=[0, 5, 9]), "a mask that is no list"),
    "an image elsewhere": ("mapping", mapping(image_path="../../a.jpg"), "which is no place below"),
    "a deep mapping": ("mapping", DEEP, "nested too deeply"),
    "a deep config": ("config", b"a: " + DEEP, "is not valid YAML"),
    "aliases of aliases": ("config", ALIASES, "aliases stand for more than"),
    "an alias in itself": ("config", b"a: &a [*a]\n", "aliases stand for more than"),
    "a text times a number": ("config", b"name: ${mul:ab,1000000000}\n", "'ab' is no number"),
    "a value alone": ("config", b"5\n", "is not valid YAML"),
    "a list for a group": ("config", b"a: 3\ninclude: [b.yaml]\n", "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said(name, folder):
    target, data, words = BROKEN[name]
    path = folder / name.replace(" ", "-").replace(",", "") / TARGETS[target].file
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(ValueError) as error:  # of either package
        TARGETS[target].read(path)
    assert hasattr(error.value, "fix"), error.value
    assert words in str(error.value)
    assert trial(TARGETS[target], data, folder / "trial") is None


def test_a_part_of_a_sog_lies_in_its_folder(tmp_path):
    from threestudio_ssd.gaussians.io import load_gaussians

    (tmp_path / "scene").mkdir()
    with zipfile.ZipFile(io.BytesIO(TARGETS["sog"].seeds()[0])) as archive:
        archive.extractall(tmp_path / "scene")
    load_gaussians(tmp_path / "scene")
    meta = json.loads((tmp_path / "scene" / "meta.json").read_text())
    for name in ("/dev/zero", "../means_l.webp"):
        meta["means"]["files"][0] = name
        (tmp_path / "scene" / "meta.json").write_text(json.dumps(meta))
        with pytest.raises(SceneFormatError, match=f"no readable part {name}"):
            load_gaussians(tmp_path / "scene")
