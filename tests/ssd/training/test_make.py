"""``make models`` in miniature: every step once, then again, when there is nothing left to do."""

import subprocess
import sys

import pytest
import torch
from diffusers import StableDiffusionPipeline

import threestudio
from threestudio.plugins import REPOSITORY
from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.masks.text import load_segmenter
from threestudio_ssd.metrics import load_clip
from threestudio_ssd.toyworld.classifier import load_classifier


@pytest.mark.slow
def test_every_embedded_model_is_trained_by_one_command_and_resumes(tmp_path):
    command = [
        sys.executable, "launch.py", "--run", "make-tiny-models", f"run.work={tmp_path / 'work'}",
        f"run.out={tmp_path / 'tiny-ldm'}", "run.start=", "run.num_shards=2", "run.scenes_a_shard=20",
        "run.vae_steps=2", "run.unet_steps=2", "run.decoder_steps=2", "run.judge_steps=2",
    ]  # fmt: skip
    subprocess.run(command, cwd=REPOSITORY, check=True)
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.ckpt")}
    assert {path.name for path in trained} == {"vae.ckpt", "unet.ckpt", "decoder.ckpt"}

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "tiny-ldm")
    assert pipeline.unet.config.in_channels == pipeline.vae.config.latent_channels == 8
    backbone = load_backbone(str(tmp_path / "tiny-ldm"), device="cpu")
    assert backbone.encode(torch.rand(1, 3, 64, 64)).shape == (1, 8, 16, 16)
    load_classifier(tmp_path / "tiny-classifier")
    load_clip(str(tmp_path / "tiny-clip"))
    load_segmenter(str(tmp_path / "tiny-seg"))

    weights = (tmp_path / "tiny-ldm" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert (tmp_path / "tiny-ldm" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_a_training_starts_from_the_shipped_model_and_keeps_its_autoencoder(tmp_path):
    command = [
        sys.executable, "launch.py", "--run", "make-tiny-models", f"run.work={tmp_path / 'work'}",
        f"run.out={tmp_path / 'tiny-ldm'}", "run.num_shards=1", "run.scenes_a_shard=40", "run.unet_steps=2",
        "run.unet_batch=4", "run.num_processes=1", "run.judges=false",
    ]  # fmt: skip
    finished = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert "its training is skipped" in finished.stdout + finished.stderr
    assert {path.name for path in (tmp_path / "work").rglob("*.ckpt")} == {"unet.ckpt"}
    name = "vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "tiny-ldm" / name).read_bytes() == (REPOSITORY / "data" / "tiny-ldm" / name).read_bytes()
    size = sum(path.stat().st_size for path in (tmp_path / "tiny-ldm").rglob("*") if path.is_file())
    assert size <= 16e6


def test_a_start_that_is_not_there_is_one_line(tmp_path):
    keys = {"start": str(tmp_path), "work": str(tmp_path / "work"), "out": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match=r"run\.start is .* which has no unet/"):
        threestudio.find("app-make-tiny-models")(keys)(None)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("app", "key", "line"),
    [
        ("make-tiny-models", "unet_batch", "run.unet_batch is 0; expected at least 1; set run.unet_batch=16"),
        ("make-tiny-models", "num_processes", "run.num_processes is 0; expected at least 1; set run.num_processes=2"),
        ("tiny-quality", "num_renders", "run.num_renders is 0; expected at least 1; set run.num_renders=192"),
        ("tiny-quality", "steps", "run.steps is 0; expected at least 1; set run.steps=20"),
    ],
)
def test_numbers_out_of_range_are_one_line(app, key, line):
    with pytest.raises(ConfigError) as caught:
        threestudio.find(f"app-{app}")({key: 0})(None)
    assert str(caught.value) == line


def test_a_judge_is_trained_by_its_command(toy_shards, tmp_path):
    keys = {"data": str(toy_shards), "output": str(tmp_path / "out"), "work": str(tmp_path / "work"), "steps": 2}
    assert threestudio.find("app-make-tiny-classifier")(keys)(None) == 0
    load_classifier(tmp_path / "out")
    assert (tmp_path / "work" / "tiny-classifier" / "last.log").read_text().startswith("step 2/2 loss")
    assert torch.tensor([1e-40]).mul(1.0).item() > 0, "denormal numbers count again"


def test_every_training_has_its_command():
    names = ("make-tiny-models", "make-tiny-ip2p", "make-tiny-lcm", "make-tiny-views", "make-tiny-classifier")
    for name in (*names, "make-tiny-clip", "make-tiny-seg", "tiny-quality"):
        app = threestudio.find(f"app-{name}")
        assert not app.needs_config
        assert app({}).cfg is not None
