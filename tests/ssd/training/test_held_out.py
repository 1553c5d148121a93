"""No model's batches ever hold a scene that is held out: the one rule, on every model's own data source."""

import pytest
import torch

from threestudio_ssd.diffusion.models import save_components
from threestudio_ssd.diffusion.random import random_components
from threestudio_ssd.training import classifier, clip, decoder, ip2p, segmenter, unet, vae
from threestudio_ssd.training.data import HELD_OUT_EVERY, Rows
from threestudio_ssd.training.loop import Worker
from threestudio_ssd.training.pairs import write_pair_shards

NUM_STEPS = 12


class Enough(Exception):
    """Ends a training after its batches have been drawn."""


@pytest.fixture(scope="module")
def trained_folder(toy_shards, photographs, tmp_path_factory):
    """What the models start from: an autoencoder, a CLIP, a text-to-image model, pairs."""
    folder = tmp_path_factory.mktemp("trained")
    vae.train(Worker(), toy_shards, photographs, folder, vae.RECIPE.with_steps(1))
    clip.train(Worker(), toy_shards, folder / "tiny-clip", folder / "clip", clip.RECIPE.with_steps(1))
    save_components(random_components("v_prediction", image_size=64), folder / "base")
    write_pair_shards(Worker(), folder / "pairs", 1, 3)
    return folder


TRAININGS = {
    vae: lambda data, photographs, trained, out: vae.train(Worker(), data, photographs, out),
    unet: lambda data, photographs, trained, out: unet.train(Worker(), data, trained),
    decoder: lambda data, photographs, trained, out: decoder.train(Worker(), data, trained),
    ip2p: lambda data, photographs, trained, out: ip2p.train(Worker(), trained / "pairs", trained / "base", out),
    classifier: lambda data, photographs, trained, out: classifier.train(Worker(), data, out, out),
    clip: lambda data, photographs, trained, out: clip.train(Worker(), data, out, out),
    segmenter: lambda data, photographs, trained, out: segmenter.train(
        Worker(), data, out, out, clip_folder=trained / "tiny-clip"
    ),
}


@pytest.mark.parametrize("model", TRAININGS, ids=lambda model: model.__name__.rpartition(".")[2])
def test_no_batch_holds_a_scene_that_is_held_out(
    model, toy_shards, photographs, trained_folder, tmp_path, monkeypatch
):  # fmt: skip
    drawn, counts = [], []

    def record(rows, size, generator):
        index = torch.randint(len(rows), (size,), generator=generator)
        drawn.extend(rows.seeds[index].tolist())
        return index

    @torch.no_grad()
    def draw_only(modules, loss, recipe, *args, **kwargs):
        for step in range(NUM_STEPS):
            before = len(drawn)
            assert torch.isfinite(loss(step, torch.Generator().manual_seed(step)))
            counts.append(len(drawn) - before)
        raise Enough

    monkeypatch.setattr(model, "fit", draw_only)
    monkeypatch.setattr(Rows, "draw", record)
    with pytest.raises(Enough):
        TRAININGS[model](toy_shards, photographs, trained_folder, tmp_path)
    assert all(counts), "a batch was drawn past Rows.draw"
    assert sum(counts) >= 0.5 * NUM_STEPS * model.RECIPE.batch_size
    assert len(set(drawn)) > 1
    assert not [seed for seed in drawn if seed % HELD_OUT_EVERY == 0]
