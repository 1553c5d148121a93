"""Toy pictures with known contents."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import torch

from tests.edit_world import REPOSITORY, SIZE, write_world
from threestudio.utils.saving import SaverMixin

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(autouse=True, scope="session")
def _reports_fit_their_schema():
    """Whatever system a test runs here: what it writes as ``report.json`` is what ``data/schemas`` promises."""
    schema = json.loads((REPOSITORY / "data" / "schemas" / "report.schema.json").read_text())
    validator, save_json = jsonschema.Draft202012Validator(schema), SaverMixin.save_json

    def save_checked(self, filename, payload):
        path = save_json(self, filename, payload)
        if filename == "report.json" and "threestudio_ssd" in {
            base.__module__.partition(".")[0] for base in type(self).__mro__
        }:
            validator.validate(json.loads(Path(path).read_text(encoding="utf-8")))
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SaverMixin, "save_json", save_checked)
        yield


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A hub cache of this test alone: ``hub_cache(name, folder)`` makes the folder a repository, gives its commit."""
    import huggingface_hub.constants
    import transformers.utils.hub

    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(transformers.utils.hub.constants, "HF_HUB_CACHE", str(cache))

    def put(name: str, folder: Path) -> str:
        commit = hashlib.sha1(name.encode()).hexdigest()
        repository = cache / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        return commit

    return put


@pytest.fixture(scope="session")
def toy_pairs():
    """Six edits of toy scenes at one camera each: source, the scene of the target prompt, a wrong edit."""
    from threestudio_ssd.toyworld import Attributes
    from threestudio_ssd.toyworld.captions import describe
    from threestudio_ssd.training.scenes import ToyData

    stored = np.load(GOLDEN / "toy_pairs" / "toy_pairs.npz")
    images = torch.from_numpy(stored["images"]).permute(0, 1, 4, 2, 3)
    labels = torch.from_numpy(stored["labels"])
    masks = torch.from_numpy(stored["source_masks"])
    prompts = [[describe(Attributes.from_labels(row)) for row in rows] for rows in labels[:, :2].tolist()]
    unit = images.float() / 255
    return SimpleNamespace(
        sources=unit[:, 0],
        targets=unit[:, 1],
        wrongs=unit[:, 2],
        source_masks=masks,
        source_prompts=[source for source, _ in prompts],
        target_prompts=[target for _, target in prompts],
        source_labels=labels[:, 0],
        all_images=unit.flatten(0, 1),
        all_labels=labels.flatten(0, 1),
        data=ToyData(
            images[:, 0].contiguous(),
            masks,
            labels[:, 0],
            torch.arange(len(images)),
            torch.zeros(len(images), 2),
            torch.zeros(len(images), dtype=torch.long),
            torch.ones(len(images), dtype=torch.bool),
        ),
    )


@pytest.fixture(scope="session")
def toy_shards(tmp_path_factory):
    """Two shards as the data step writes them: 24 scenes, two pictures each, contents at random; two have no object."""
    from threestudio_ssd.toyworld import sample_attributes

    folder = tmp_path_factory.mktemp("toy-shards")
    rng = np.random.default_rng(0)
    labels = np.array([sample_attributes(rng).labels() for _ in range(24)]).repeat(2, 0)
    images = rng.integers(0, 256, (48, 64, 64, 3), dtype=np.uint8)
    masks = np.zeros((48, 64, 64), bool)
    masks[:, 20:50, 20:44] = True
    seeds = np.arange(24).repeat(2)
    angles_deg = np.stack([rng.uniform(-360, 360, 48), rng.uniform(5, 55, 48)], 1).astype(np.float32)
    framings, has_object = rng.integers(4, size=48), ~np.isin(seeds, (5, 18))
    for shard, rows in enumerate((slice(0, 24), slice(24, 48))):
        np.savez(
            folder / f"shard_{shard:03d}.npz", images=images[rows], object_masks=masks[rows], attributes=labels[rows],
            seeds=seeds[rows], angles_deg=angles_deg[rows], framings=framings[rows], has_object=has_object[rows],
        )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """Scene, cameras, masks, model and CLIP in one folder; tests that damage something copy it first."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def inpainting_pipeline(tmp_path_factory) -> Path:
    """A folder that diffusers reads as an inpainting pipeline, random, its network with nine channels."""
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel

    from threestudio_ssd.diffusion.models import save_components
    from threestudio_ssd.diffusion.random import random_components

    folder = tmp_path_factory.mktemp("inpainting")
    parts = random_components(image_size=SIZE)
    unet = UNet2DConditionModel.from_config({**parts.network.config, "in_channels": 9})
    save_components(parts, folder / "model")
    StableDiffusionInpaintPipeline(
        vae=parts.vae, text_encoder=parts.text_networks[0], tokenizer=parts.tokenizers[0], unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder / "model", subfolder="scheduler"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder / "inpaint")  # fmt: skip
    return folder / "inpaint"
