"""Editing a picture: run folder, parametrisations, mask, aspect, any score, the contrastive term, resume."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.edit_world import REPOSITORY, SIZE, SOURCE, TARGET, channels_for, write_clip
from threestudio.trainer import run_experiment
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data.image import load_image
from threestudio_ssd.data.modules import SingleImage
from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.edits.editable_images import EditableImages
from threestudio_ssd.edits.image_edit import ImageBatchEdit, ImageEditConfig
from threestudio_ssd.errors import ConfigError, SceneFormatError
from threestudio_ssd.guidance import EditGuidance
from threestudio_ssd.images import read_mask
from threestudio_ssd.scores import SCORES

WIDTH, HEIGHT = 96, 64


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A picture wider than tall, a mask of its left half, models of random weights."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(60, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / "picture.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, : WIDTH // 2] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "black.png")
    (folder / "text.png").write_text("no picture")
    save_components(random_components(image_size=SIZE), folder / "model")
    save_components(random_components(image_size=SIZE, in_channels=8), folder / "model-ssd-ip2p")
    write_clip(folder / "clip")
    return folder


def run(world, out, *more, stages=("train", "test", "export"), score="ssd", **words):
    model = world / ("model-ssd-ip2p" if channels_for(score) == 8 else "model")
    given = {
        "picture": world / "picture.png", "model": model, "steps": 4, "use_timestamp": "false", "tag": "edit",
        "exp_root_dir": out, "trainer.accelerator": "cpu", "system.clip_model": world / "clip",
        "source_prompt": SOURCE, "target_prompt": TARGET,
        "trainer.enable_progress_bar": "false", "system.guidance.score.name": score, **words,
    }  # fmt: skip
    cfg = load_config(
        REPOSITORY / "configs" / "ssd-image.yaml", cli_args=[f"{key}={value}" for key, value in given.items()] + [*more]
    )
    code = run_experiment(complete(cfg), list(stages))
    return code, out / "ssd-image" / "edit"


def test_an_edit_whose_image_is_not_finite_is_exit_code_three_and_goes_back_to_one_that_is(world, tmp_path, caplog):
    """Also where the latents are still finite and only what they decode to is not."""
    code, folder = run(world, tmp_path, steps=1, **{"system.learning_rate": 1e37})
    assert code == 3
    assert (folder / "save" / "edited.png").exists()
    assert "Step 1: the edit is not finite; what it was at step 0 is written." in caplog.text


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.int64)


def test_a_run_leaves_picture_grid_and_report(world, tmp_path):
    code, folder = run(world, tmp_path)
    assert code == 0
    edited, grid = pixels(folder / "save" / "edited.png"), pixels(folder / "save" / "grid.png")
    assert edited.shape == (HEIGHT, WIDTH, 3)
    assert pixels(folder / "save" / "edited_model_size.png").shape == (SIZE, 48, 3)
    assert grid.shape == (SIZE, 3 * 48, 3)
    report = json.loads((folder / "save" / "report.json").read_text())
    assert (report["steps"], report["noise_predictions"], report["network_calls"]) == (4, 16, 4)
    assert report["change_inside"] > 1 / 255
    assert report["psnr_outside"] is None
    assert {"seconds", "model", "clip_similarity", "clip_directional_similarity", "versions"} <= set(report)


@pytest.mark.parametrize("parametrisation", ["latent", "pixel"])
def test_a_mask_keeps_the_rest(world, tmp_path, parametrisation):
    words = {"mask_picture": world / "mask.png", "parametrisation": parametrisation, "system.learning_rate": 0.05}
    _, folder = run(world, tmp_path, **words)
    report = json.loads((folder / "save" / "report.json").read_text())
    assert report["psnr_outside"] == 100
    assert report["change_inside"] > 1 / 255
    edited, source = pixels(folder / "save" / "edited.png"), pixels(world / "picture.png")
    assert np.array_equal(edited[:, WIDTH // 2 :], source[:, WIDTH // 2 :])
    assert np.abs(edited[:, : WIDTH // 2] - source[:, : WIDTH // 2]).mean() > 1


def test_pixels_get_no_grid_that_the_encoder_does_not_see(world, tmp_path):
    """An even change is no detail, a checkerboard is nothing else; the term's weight holds it down in a run."""
    backbone, images = random_backbone(image_size=SIZE), pictures_of(1)
    pictures = EditableImages(backbone, images, "pixel")
    board = 0.1 * (-1.0) ** (torch.arange(SIZE)[:, None] + torch.arange(40))
    for change, detail in ((0.1, 0.0), (board, float(board.pow(2).sum() * 3))):
        pictures.values.data = images + change
        assert float(pictures.detail().detach()) == pytest.approx(detail, abs=1e-3)
    changes = []
    for weight in (0, 1):
        words = {"parametrisation": "pixel", "system.learning_rate": 0.02, "system.lambda_detail": weight, "steps": 8}
        _, folder = run(world, tmp_path / str(weight), **words)
        changes.append(json.loads((folder / "save" / "report.json").read_text())["change_inside"])
    assert 0 < changes[1] < 0.7 * changes[0], changes


@pytest.mark.parametrize("score", ["vsd", "ssd"])
def test_a_resumed_edit_is_the_uninterrupted_one(world, tmp_path, score):
    extra = ("system.guidance.lora_network.learning_rate=0.01", "system.guidance.cds.weight=3")
    _, whole = run(world, tmp_path / "a", *extra, score=score)
    _, half = run(world, tmp_path / "b", *extra, "trainer.max_steps=2", score=score, stages=("train",))
    _, half = run(world, tmp_path / "b", *extra, "resume=auto", score=score)
    assert (half / "save" / "edited.png").read_bytes() == (whole / "save" / "edited.png").read_bytes()


def pictures_of(count, seed=0, size=(SIZE, 40)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("score", SCORES)
def test_every_score_edits_pictures_side_by_side_as_one_by_one(score):
    """Batches of three pictures, each with its prompt and seed; VSD's LoRA belongs to one picture and runs alone."""
    has_lora = any(branch.network == "lora" for branch in SCORES[score]().branches)
    count, seeds, texts = (1 if has_lora else 3), [4, 5, 6], ["a red ball", "a blue cat", "a green dog"]

    def edit(rows):
        backbone = random_backbone(image_size=SIZE, in_channels=channels_for(score))
        guidance = EditGuidance({"score": {"name": score}}, backbone=backbone)
        images = pictures_of(3)[rows]
        names = {"src": "a picture", "null": "", "neg": "blurry"}
        prompts = {name: backbone.encode_prompts([text] * len(images)) for name, text in names.items()}
        prompts["tgt"] = backbone.encode_prompts(texts[rows])
        edit = ImageBatchEdit(images, guidance, prompts, ImageEditConfig(num_steps=3), seeds[rows])
        optimizers = edit.make_optimizers()
        for step in range(3):
            edit.step(step, optimizers)
        return edit.result()

    whole = edit(slice(0, count))
    assert (whole - pictures_of(3)[:count]).abs().max() > 1e-2
    for row in range(count):
        torch.testing.assert_close(edit(slice(row, row + 1)), whole[row : row + 1], rtol=5e-3, atol=5e-3)


def test_a_missing_clip_is_known_before_the_first_step(world, tmp_path):
    with pytest.raises(
        ConfigError, match=r"system.clip_model is no/such/clip: clip_model folder 'no/such/clip' does not exist"
    ):
        run(world, tmp_path, **{"system.clip_model": "no/such/clip"})
    assert not (tmp_path / "ssd-image").exists()


@pytest.mark.parametrize(
    ("key", "value", "what", "fix"),
    [
        ("learning_rate", "0", "system.learning_rate is 0", "set system.learning_rate=0.02"),
        ("learning_rate", "[0,0,4]", "system.learning_rate is 0", "set system.learning_rate=0.02"),
        ("learning_rate", "-0.1", "system.learning_rate is -0.1", "set system.learning_rate=0.02"),
        ("lambda_detail", "[0,1,-1,4]", "system.lambda_detail is [0, 1, -1, 4]", "set system.lambda_detail=0.0"),
        ("num_steps", "0", "steps is 0", "set steps=200"),
    ],
)
def test_edits_that_cannot_start(world, tmp_path, key, value, what, fix):
    with pytest.raises(ConfigError) as error:
        run(world, tmp_path, **{f"system.{key}": value})
    assert (error.value.what, error.value.fix) == (what, fix)
    assert not (tmp_path / "ssd-image").exists()


def test_sizes_follow_the_model_and_the_aspect(world):
    def size(**keys):
        data = SingleImage({"picture": str(world / "picture.png"), **keys})
        return tuple(load_image(data.cfg, SIZE, 4).shape[-2:])

    assert size() == (SIZE, 48)
    assert size(size=30) == (32, 44)
    with pytest.raises(ConfigError, match="data.size is -5; expected pixels, or 0"):
        size(size=-5)


def test_wrong_pictures_are_named(world):
    with pytest.raises(SceneFormatError, match=r"picture .*text.png cannot be read"):
        load_image(SingleImage({"picture": str(world / "text.png")}).cfg, SIZE, 4)
    with pytest.raises(ConfigError, match=r"mask .*black.png is black"):
        read_mask(world / "black.png", "system.mask_picture", pictures_of(1))
