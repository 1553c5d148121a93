"""What is fuzzed: every format that a user's file may have, valid examples of it, and what a run does with it."""

import io
import json
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.fuzz import mutations as by
from threestudio.plugins import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio.utils.misc import load_checkpoint

GOLDEN = REPOSITORY / "tests" / "golden" / "formats"
NUM_SELECTED = 40
SMALL = 5000
"""Scenes of at most so many Gaussians are written again, as ``--run convert`` would."""


@dataclass(frozen=True)
class Target:
    """One format.

    Attributes:
        file: Name that an input is written under, below a folder of its own.
        seeds: Valid files.
        mutate: Breaks one.
        read: What a run does with the file.
    """

    file: str
    seeds: Callable[[], list[bytes]]
    mutate: by.Mutation
    read: Callable[[Path], object]


def _read_splat(path: Path) -> None:
    from threestudio_ssd.gaussians.io import WRITERS, load_gaussians, save_gaussians

    gaussians = load_gaussians(path)
    assert all(bool(values.isfinite().all()) for values in gaussians.parameters().values())
    if len(gaussians) <= SMALL:
        suffix = path.name[path.name.index(".") :]
        for each in {suffix, ".ply"} & set(WRITERS):
            save_gaussians(gaussians, path.parent / f"again{each}")


def _use_cameras(path: Path) -> None:
    from threestudio_ssd.cameras import load_cameras
    from threestudio_ssd.data.views import capture_orbit, spread_subset

    cameras = load_cameras(path)
    assert bool(cameras.viewmats.isfinite().all())
    assert bool(cameras.Ks.isfinite().all())
    capture_orbit(cameras)
    spread_subset(cameras, 4, 0).scaled(64 / int(cameras.widths.max()))


def _use_colmap(suffix: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from threestudio_ssd.cameras import load_points
        from threestudio_ssd.errors import SceneFormatError

        data = path.read_bytes()
        size = int.from_bytes(data[:4], "little")
        folder = path.parent / "sparse"
        folder.mkdir(exist_ok=True)
        parts = {"cameras": data[4 : 4 + size], "images": data[4 + size :], "points3D": data[4 + size :]}
        for name, content in parts.items():
            (folder / f"{name}{suffix}").write_bytes(content)
        try:
            _use_cameras(path.parent)
        finally:
            with suppress(SceneFormatError):  # the bytes of images are no points, and are answered in one line
                load_points(folder)

    return read


def _use_training(path: Path) -> None:
    """The ``dataparser_transforms.json`` beside a good ``transforms.json``."""
    from threestudio_ssd.cameras import load_cameras

    (path.parent / "transforms.json").write_bytes(_transforms()[0])
    load_cameras(path.parent)


def _read_mask(path: Path) -> None:
    from tests.edit_world import toy_cameras
    from threestudio_ssd.masks.picture import load_masks

    cameras = toy_cameras(1, 8)
    cameras.names = [path.stem]
    load_masks(path, cameras)


def _read_picture(path: Path) -> None:
    from threestudio_ssd.data.image import load_image
    from threestudio_ssd.data.keys import SingleImageConfig

    load_image(SingleImageConfig(picture=str(path), size=64), 64, 8)


def _read_photograph(path: Path) -> None:
    from threestudio_ssd.cameras.lenses import read_photograph
    from threestudio_ssd.cameras.photographs import photograph_size

    photograph_size(path)
    read_photograph(path, "view", None, torch.eye(3), (8, 8), torch.ones(3))


def _read_selection(path: Path) -> None:
    from threestudio_ssd.masks.saved import load_selection

    load_selection(path, NUM_SELECTED)


def _read_pie(path: Path) -> None:
    from threestudio_ssd.benchmarks.pie.dataset import load_pie_bench

    load_pie_bench(path.parent)


def _read_config(path: Path) -> None:
    complete(load_config(path))


def _read_overrides(path: Path) -> None:
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    complete(load_config(REPOSITORY / "configs" / "smoke" / "edit.yaml", cli_args=lines))


def _golden(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [(GOLDEN / name).read_bytes() for name in names]


@cache
def _small(suffix: str) -> tuple[bytes, ...]:
    """Two dozen Gaussians in a format that can be written, with and without higher degrees."""
    from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians

    scene = load_gaussians(GOLDEN / "sh3.ply").select(slice(0, 24))
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for degree in (0, 1, 3):
            save_gaussians(scene.with_sh_degree(degree), Path(folder) / f"scene{suffix}")
            files.append((Path(folder) / f"scene{suffix}").read_bytes())
    return tuple(files)


def _written(suffix: str) -> Callable[[], list[bytes]]:
    return lambda: list(_small(suffix))


def _shorter_ksplats() -> list[bytes]:
    """The examples of other programs cut to a few rows by their counts; the rows behind them stay."""
    files = []
    for level in range(3):
        data = bytearray((GOLDEN / f"sh2_level{level}.ksplat").read_bytes())
        files.append(bytes(data))
        (count,) = struct.unpack_from("<I", data, 4096)
        struct.pack_into("<I", data, 4096, min(count, 20))
        files.append(bytes(data))
    return files


def _checkpoints() -> list[bytes]:
    from threestudio_ssd.gaussians.io import load_gaussians

    parts = load_gaussians(GOLDEN / "sh2_40.ply").select(slice(0, 6)).parameters()
    names = ("means", "scales", "quats", "opacities", "sh0", "shN")
    of_gsplat = dict(zip(names, parts.values(), strict=True))
    means, scales, quats, logits, sh0, shN = parts.values()
    documents = [
        {"splats": of_gsplat, "step": 7},
        {"pipeline": {f"_model.gauss_params.{name}": value for name, value in (
            ("means", means), ("scales", scales), ("quats", quats), ("opacities", logits[:, None]),
            ("features_dc", sh0[:, 0]), ("features_rest", shN))}},
        ((2, means, sh0, shN, scales, quats, logits[:, None], means[:, 0], means, 1.0), 30000),
    ]  # fmt: skip
    files = []
    for document in documents:
        for is_zip in (True, False):
            buffer = io.BytesIO()
            torch.save(document, buffer, _use_new_zipfile_serialization=is_zip)
            files.append(buffer.getvalue())
    return files


def _run_checkpoints() -> list[bytes]:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"edit.means": torch.zeros(3, 3)}, "epoch": 0, "global_step": 5, "callbacks": {}}, buffer)
    return [buffer.getvalue()]


def _pose(number: int) -> list[list[float]]:
    turn = np.linalg.qr(np.random.default_rng(number).normal(size=(3, 3)))[0]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn * np.linalg.det(turn), (number, 1, 2)
    return matrix.tolist()


def _transforms() -> list[bytes]:
    frames = [{"file_path": f"images/{i}.png", "transform_matrix": _pose(i)} for i in range(3)]
    whole = {"w": 64, "h": 48, "fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "frames": frames}
    lens = {"camera_model": "OPENCV", "k1": 0.1, "k2": 0.0, "p1": 0.0, "p2": 0.0, "distortion_params": [0.1, 0, 0]}
    world = {"applied_transform": _pose(1)[:3], "applied_scale": 2.0, "ply_file_path": "points.ply"}
    return [json.dumps(document).encode() for document in (whole, {**whole, **lens}, {**whole, **world})]


def _inria() -> list[bytes]:
    entries = [
        {"id": i, "img_name": f"{i}", "width": 64, "height": 48, "position": [i, 0.0, 1.0],
         "rotation": [row[:3] for row in _pose(i)[:3]], "fx": 60.0, "fy": 60.0} for i in range(3)
    ]  # fmt: skip
    return [json.dumps(entries).encode()]


def _blender() -> list[bytes]:
    frames = [{"file_path": f"./train/r_{i}", "rotation": 0.1, "transform_matrix": _pose(i)} for i in range(3)]
    return [json.dumps({"camera_angle_x": 0.7, "frames": frames}).encode()]


def _training() -> list[bytes]:
    return [json.dumps({"transform": _pose(2)[:3], "scale": 0.5}).encode()]


def _colmap_text() -> list[bytes]:
    cameras = b"# cameras\n1 PINHOLE 64 48 60 60 32 24\n2 OPENCV 64 48 60 60 32 24 0.1 0 0 0\n"
    images = "".join(f"{i} 1 0.1 0 0 {i} 1 2 {1 + i % 2} v{i}.png\n\n" for i in range(3)).encode()
    return [len(cameras).to_bytes(4, "little") + cameras + images]


def _colmap_binary() -> list[bytes]:
    cameras = struct.pack("<Q", 1) + struct.pack("<IiQQ4d", 1, 1, 64, 48, 60, 60, 32, 24)
    images = struct.pack("<Q", 3)
    for i in range(3):
        images += (
            struct.pack("<I7dI", i, 1, 0.1, 0, 0, i, 1, 2, 1) + f"v{i}.png".encode() + b"\0" + struct.pack("<Q", 1)
        )
        images += struct.pack("<ddq", 1, 2, -1)
    return [len(cameras).to_bytes(4, "little") + cameras + images]


def _pictures() -> list[bytes]:
    draws, files = np.random.default_rng(0), []
    grey = draws.integers(0, 256, (8, 8), dtype=np.uint8)
    images = [
        Image.fromarray(grey),
        Image.fromarray(np.stack([grey] * 3, -1)),
        Image.fromarray(np.stack([grey] * 4, -1)),
    ]
    images.append(images[1].convert("P"))
    for image, kind in [(image, "PNG") for image in images] + [
        (images[1], "JPEG"),
        (images[2], "WEBP"),
        (images[1], "BMP"),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, kind)
        files.append(buffer.getvalue())
    return files


def _selections() -> list[bytes]:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(NUM_SELECTED) % 2 == 0)
    return [buffer.getvalue()]


def _mappings() -> list[bytes]:
    entry = {
        "image_path": "0_random/000.jpg", "original_prompt": "a [red] ball", "editing_prompt": "a [blue] ball",
        "editing_instruction": "make it blue", "editing_type_id": "0", "blended_word": "ball ball",
        "mask": [0, 5, 600, 20],
    }  # fmt: skip
    return [json.dumps({"000": entry, "001": {**entry, "editing_type_id": "3"}}).encode()]


def _configs() -> list[bytes]:
    text = """
scene: data/toy-scene/scene.ply
steps: 5
half: ${mul:${steps},2}
name: fuzz
tag: ${rmspace:${system.prompt_processor.target_prompt},_}
data_type: gs-views
data:
  cameras: data/toy-scene/cameras.json
  elevation_deg: [5, 45.0]
  up: null
system_type: ssd-gs-system
system:
  scene: ${scene}
  num_steps: ${steps}
  preview_every: ${half}
  mask: {sphere: [0, 0, 1, 0.5], any_of: [{text: a ball}]}
  learning_rates: {sh0: [0, 0.01, 0.001, 100]}
  prompt_processor: {source_prompt: "a ball", target_prompt: 'a blue ball'}
trainer: {max_steps: "${steps}"}
when:
  scene=data/toy-scene/scene.ply:
    data:
      up: +z
"""
    return [text.encode()]


def _overrides() -> list[bytes]:
    return [
        b"steps=3\nscene=a.ply\nsystem.mask.sphere=[0,0,1,2]\nsystem.guidance.score={name: ssd}\ntarget_prompt=#1: a"
    ]


def _plys() -> list[bytes]:
    return [*_small(".ply"), *_golden("quirk_extra_element.ply", "quirk_rgb_only.ply")()]


_json = by.one_of(by.json_values, by.json_values, by.any_bytes, by.words)
_text = by.one_of(by.words, by.words, by.any_bytes)
_binary = by.one_of(by.any_bytes, by.header)
_png = by.one_of(by.any_bytes, by.png_chunks)
_pt = by.one_of(by.tensors, by.tensors, by.in_zip(by.any_bytes), by.any_bytes)
_ply = by.one_of(by.words, by.any_bytes)
_spz = by.one_of(by.in_gzip, by.in_gzip, by.any_bytes)
_sog = by.one_of(by.in_zip(by.json_values), by.in_zip(by.words), by.any_bytes)

TARGETS = {
    "ply": Target("a.ply", _plys, _ply, _read_splat),
    "ply-ascii": Target("a.ply", lambda: [_golden("quirk_ascii.ply")()[0]], _ply, _read_splat),
    "compressed-ply": Target("a.compressed.ply", _written(".compressed.ply"), _ply, _read_splat),
    "splat": Target("a.splat", _written(".splat"), by.any_bytes, _read_splat),
    "spz": Target("a.spz", lambda: [*_written(".spz")(), *_golden("sh3_v2.spz")()], _spz, _read_splat),
    "spz4": Target("a.spz", _golden("sh3_v4.spz"), _binary, _read_splat),
    "sog": Target("a.sog", _written(".sog"), _sog, _read_splat),
    "glb": Target("a.glb", _written(".glb"), by.one_of(by.in_glb(by.json_values), by.in_glb(by.words), _binary),
                  _read_splat),
    "usdc": Target("a.usdc", _written(".usdc"), _binary, _read_splat),
    "usda": Target("a.usda", _written(".usda"), _text, _read_splat),
    "ksplat": Target("a.ksplat", _shorter_ksplats, _binary, _read_splat),
    "pt": Target("a.pt", _checkpoints, _pt, _read_splat),
    "transforms": Target("transforms.json", _transforms, _json, _use_cameras),
    "inria": Target("cameras.json", _inria, _json, _use_cameras),
    "blender": Target("transforms_train.json", _blender, _json, _use_cameras),
    "dataparser": Target("dataparser_transforms.json", _training, _json, _use_training),
    "colmap-binary": Target("a.pair", _colmap_binary, _binary, _use_colmap(".bin")),
    "colmap-text": Target("a.pair", _colmap_text, _text, _use_colmap(".txt")),
    "mask": Target("a.png", _pictures, _png, _read_mask),
    "picture": Target("a.png", _pictures, _png, _read_picture),
    "photograph": Target("a.png", _pictures, _png, _read_photograph),
    "selection": Target("a.npy", _selections, by.one_of(by.npy_header, by.any_bytes), _read_selection),
    "mapping": Target("mapping_file.json", _mappings, _json, _read_pie),
    "config": Target("a.yaml", _configs, _text, _read_config),
    "overrides": Target("a.txt", _overrides, _text, _read_overrides),
    "checkpoint": Target("a.ckpt", _run_checkpoints, _pt, load_checkpoint),
}  # fmt: skip
"""By the name that ``make fuzz FORMATS=...`` takes."""
