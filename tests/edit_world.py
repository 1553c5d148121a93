"""A whole small edit on disk: a toy scene, its cameras and mask pictures, a random diffusion model, a random CLIP."""

import json
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image

SIZE, NUM_CAMERAS = 32, 12
REPOSITORY = Path(__file__).resolve().parents[1]
SMOKE = REPOSITORY / "configs" / "smoke" / "edit.yaml"
SOURCE, TARGET = "a photo of a red ball on grass", "a photo of a blue ball on grass"


def channels_for(score: dict | str) -> int:
    """Latent channels that the network of a score takes: InstructPix2Pix's reads the source image beside them."""
    from threestudio_ssd.guidance import build_score

    options = {"name": score} if isinstance(score, str) else score
    return 8 if any(branch.image == "src" for branch in build_score(options).branches) else 4


def toy_parts(keep_every: int = 3):
    """A toy scene thinned out, as Gaussians, and which of them are the object."""
    from threestudio_ssd.toyworld import PART_OBJECT, Attributes, build_scene
    from threestudio_ssd.toyworld.splat import to_gaussians

    scene = build_scene(Attributes(), seed=0)
    kept = torch.arange(0, len(scene.parts), keep_every)
    return to_gaussians(scene).select(kept), torch.from_numpy(scene.parts == PART_OBJECT)[kept]


def toy_cameras(count: int = NUM_CAMERAS, size: int = SIZE):
    """Cameras all around the toy object, as a capture has them."""
    from threestudio_ssd.toyworld import orbit_camera
    from threestudio_ssd.toyworld.splat import to_cameras

    azimuths = np.arange(count) * 360 / count
    return to_cameras([orbit_camera(azimuth, 15 + 20 * (i % 2)) for i, azimuth in enumerate(azimuths)], size, size)


def object_masks(gaussians, is_object, cameras) -> torch.Tensor:
    """(c h w) 1 where the object makes up more than half of a pixel."""
    from threestudio_ssd.rendering import coverage

    return (coverage(gaussians, is_object, cameras) > 0.5).float()


def write_world(folder: Path) -> Path:
    """Everything an edit reads: ``scene.ply cameras.json masks/ model/ clip/`` in ``folder``."""
    from threestudio_ssd.diffusion.models import save_components
    from threestudio_ssd.diffusion.random import random_components
    from threestudio_ssd.gaussians.io import save_gaussians
    from threestudio_ssd.toyworld.splat import save_cameras_json

    gaussians, is_object = toy_parts()
    cameras = toy_cameras()
    save_gaussians(gaussians, folder / "scene.ply")
    save_cameras_json(cameras, folder / "cameras.json")
    (folder / "masks").mkdir()
    masked_views = cameras[::3]
    for name, mask in zip(masked_views.names, object_masks(gaussians, is_object, masked_views), strict=True):
        Image.fromarray((mask.numpy() * 255).astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    save_components(random_components(image_size=SIZE), folder / "model")
    write_clip(folder / "clip")
    return folder


def write_photographs(folder: Path, gaussians, cameras) -> list[str]:
    """Renders of a scene as ``images/<view>.png``; their names."""
    from threestudio_ssd.rendering import render_each

    (folder / "images").mkdir(parents=True)
    for name, image in zip(cameras.names, render_each(gaussians, cameras, torch.zeros(3)), strict=True):
        Image.fromarray((image.numpy() * 255).round().astype(np.uint8)).save(folder / "images" / f"{name}.png")
    return [f"{name}.png" for name in cameras.names]


def write_colmap_capture(folder: Path, gaussians, cameras) -> None:
    """A COLMAP folder in text form: photographs of a scene, and every twentieth Gaussian as a sparse point."""
    from threestudio_ssd.gaussians.transform import matrix_to_quat

    names = write_photographs(folder, gaussians, cameras)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    K, size = cameras.Ks[0], f"{cameras.widths[0]} {cameras.heights[0]}"
    (model / "cameras.txt").write_text(f"1 PINHOLE {size} {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}\n")
    lines = []
    for row, (viewmat, name) in enumerate(zip(cameras.viewmats.double(), names, strict=True)):
        numbers = [*matrix_to_quat(viewmat[:3, :3]).tolist(), *viewmat[:3, 3].tolist()]
        lines.append(f"{row + 1} {' '.join(map(str, numbers))} 1 {name}\n\n")
    (model / "images.txt").write_text("".join(lines))
    sparse = gaussians.select(torch.arange(0, len(gaussians), 20))
    colors = ((sparse.sh0[:, 0] * 0.28209479 + 0.5) * 255).round().int()
    points = [
        f"{row} {' '.join(map(str, place.tolist()))} {' '.join(map(str, color.tolist()))} 0.1 1 0\n"
        for row, (place, color) in enumerate(zip(sparse.means, colors, strict=True))
    ]
    (model / "points3D.txt").write_text("# comment\n" + "".join(points))


def write_nerfstudio_capture(folder: Path, gaussians, cameras) -> None:
    """A ``transforms.json`` with its photographs, in OpenGL axes and the world of the scene."""
    names = write_photographs(folder, gaussians, cameras)
    axes = np.diag([1.0, -1.0, -1.0, 1.0])
    poses = np.linalg.inv(cameras.viewmats.double().numpy()) @ axes
    K = cameras.Ks[0].tolist()
    document = {
        "w": int(cameras.widths[0]), "h": int(cameras.heights[0]), "fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2],
        "cy": K[1][2], "applied_transform": np.eye(4)[:3].tolist(),
        "frames": [
            {"file_path": f"images/{name}", "transform_matrix": pose.tolist()}
            for name, pose in zip(names, poses, strict=True)
        ],
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(document))


def write_clip(folder: Path) -> None:
    """A CLIP of random weights with a tokenizer, as transformers saves one."""
    from transformers import CLIPConfig, CLIPModel

    from threestudio_ssd.toyworld.tokenizer import build_tokenizer

    folder.mkdir()
    tokenizer = build_tokenizer(folder)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = tower | {
        "vocab_size": len(tokenizer), "max_position_embeddings": 20, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 8}))
    clip.save_pretrained(folder)


def overrides(world: Path, out: Path, **more: object) -> list[str]:
    """Command-line words that run the smoke config on a world."""
    words = {
        "scene": world / "scene.ply",
        "cameras": world / "cameras.json",
        "source_prompt": SOURCE,
        "target_prompt": TARGET,
        "mask.picture": world / "masks",
        "model": world / "model",
        "system.clip_model": world / "clip",
        "exp_root_dir": out,
        "trainer.accelerator": "cpu",
    }
    return [f"{key}={value}" for key, value in {**words, **more}.items()]


def experiment(world: Path, out: Path, **more: object) -> DictConfig:
    """The smoke config on a world, checked and complete; ``more`` holds dotted overrides."""
    from threestudio.utils.config import load_config
    from threestudio.utils.config_tree import complete

    return complete(load_config(SMOKE, cli_args=overrides(world, out, **more)))


QUIET = {"trainer.enable_progress_bar": "false"}


def run(world: Path, out: Path, *stages: str, **more: object) -> tuple[int, Path]:
    """Run the smoke config; returns the exit code and the run folder."""
    from threestudio.trainer import run_experiment

    cfg = experiment(world, out, tag="run", **{**QUIET, **more})
    return run_experiment(cfg, list(stages)), out / "smoke" / "run"


def fit(world: Path, out: Path, **more: object):
    """Train only, and give the system back."""
    import pytorch_lightning as pl

    import threestudio

    cfg = experiment(world, out, **{**QUIET, "system.preview_every": 0, **more})
    data = threestudio.find(cfg.data_type)(cfg.data)
    system = threestudio.find(cfg.system_type)(cfg.system)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=cfg.trainer.max_steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=str(out),
    )  # fmt: skip
    trainer.fit(system, datamodule=data)
    return system


def vertex_rows(path: Path) -> list[bytes]:
    """The raw rows of a binary PLY file, one bytes object a vertex."""
    content = path.read_bytes()
    header, _, body = content.partition(b"end_header\n")
    count = int(header.split(b"element vertex ")[1].split(b"\n")[0])
    width = len(body) // count
    assert width * count == len(body)
    return [body[row * width : (row + 1) * width] for row in range(count)]
