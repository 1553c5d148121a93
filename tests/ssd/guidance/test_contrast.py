"""The contrastive term in a step: what it costs, that its gradient is the energy's, that it adds to any score."""

import pytest
import torch

from tests.edit_world import channels_for
from threestudio_ssd.diffusion import AttentionTaps, random_backbone
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance import EditGuidance
from threestudio_ssd.scores import CDS
from threestudio_ssd.seeds import Stream, generator

TEXTS = {"src": "a red ball", "tgt": "a blue ball", "null": "", "neg": "blurry"}
RUN = {"step": 2, "num_steps": 10, "seed": 3}


def make(score="dds", weight=3.0, backbone=None, **cds):
    options = {"name": score} if isinstance(score, str) else score
    backbone = backbone or random_backbone(in_channels=channels_for(options))
    guidance = EditGuidance({"score": options, "cds": {"weight": weight, **cds}}, backbone=backbone)
    rows = backbone.encode_prompts(list(TEXTS.values()))
    return guidance, {name: rows[index] for index, name in enumerate(TEXTS)}, backbone


def latents_of(count=2, seed=0, size=(8, 8)):
    return torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(seed))


def step(guidance, prompts, count=2, **changes):
    condition = latents_of(count, 4) if guidance.reads_image else None
    run = {**RUN, "image_condition": condition, **changes}
    return guidance.latent_step(latents_of(count, 1), latents_of(count, 2), prompts, **run)


@pytest.mark.parametrize(
    ("score", "rows"),
    [("dds", 4), ("ssd", 5), ({"name": "ssd", "enhance_weight": 0}, 4), ("csd", 3), ("ssd-ip2p", 5)],
)
def test_two_network_calls_and_no_prediction_twice(score, rows):
    """DDS has both predictions already; the others need the source's conditional one besides."""
    guidance, prompts, backbone = make(score)
    backbone.counters.reset()
    step(guidance, prompts)
    assert (backbone.counters.network_calls, backbone.counters.rows) == (2, 2 * rows)
    guidance, prompts, backbone = make(score, weight=0.0)
    backbone.counters.reset()
    step(guidance, prompts)
    assert backbone.counters.network_calls == 1


def energy(backbone, branches, prompts, tgt, src, *, timestep, noise, places, condition=None):
    """Published energy of the edit against its source, one value a view, with a network call for each."""
    maps = []
    for branch, clean in zip(branches, (src, tgt), strict=True):
        noisy = backbone.add_noise(clean, noise, timestep)
        with AttentionTaps(backbone) as taps:
            backbone.predict_noise(noisy, timestep, prompts[branch.prompt].expand(len(clean)), condition)
        maps.append(taps.calls[-1])
    return CDS()(*maps, num_cells=src.shape[-2] * src.shape[-1], generator=places)


@pytest.mark.parametrize("score", ["dds", "ssd", "sds", "pds", "nfsd", "ssd-ip2p"])
def test_the_score_gains_the_energy_s_gradient_and_nothing_else(score):
    """The gradient by central differences of the energy, evaluated with separate network calls."""
    guidance, prompts, backbone = make(score)
    plain, _, _ = make(score, weight=0.0, backbone=backbone)
    pull = step(guidance, prompts).score - step(plain, prompts).score
    timestep = step(plain, prompts).timestep
    noise = torch.randn(latents_of(2).shape, generator=generator(3, 2, Stream.DIFFUSION))
    condition = latents_of(2, 4) if guidance.reads_image else None

    def energy_at(latents):
        return energy(
            backbone, guidance.contrast.branches, prompts, latents, latents_of(2, 2), timestep=timestep, noise=noise,
            places=generator(3, 2, Stream.CONTRAST), condition=condition,
        )  # fmt: skip

    direction = latents_of(2, 7)
    size = 1e-2
    ahead, behind = (energy_at(latents_of(2, 1) + sign * size * direction) for sign in (1, -1))
    change = (ahead - behind) / (2 * size)
    torch.testing.assert_close((pull * direction).sum((1, 2, 3)), change, rtol=0.03, atol=2e-3)
    assert pull.abs().max() > 1e-4


def test_a_batch_of_views_is_the_views_one_by_one():
    guidance, prompts, _ = make("ssd")
    tgt, src, noise = latents_of(4, 1), latents_of(4, 2), latents_of(4, 3)
    whole = guidance.compute_score(tgt, src, prompts, 400, noise, step=5)
    for row in range(4):
        one = slice(row, row + 1)
        single = guidance.compute_score(tgt[one], src[one], prompts, 400, noise[one], step=5)
        torch.testing.assert_close(whole[one], single, rtol=1e-3, atol=1e-3)


def test_weights_collect_no_gradient_and_checkpointing_changes_nothing():
    guidance, prompts, backbone = make("dds")
    plain = step(guidance, prompts).score
    backbone.network.enable_gradient_checkpointing()
    torch.testing.assert_close(step(guidance, prompts).score, plain, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in backbone.network.parameters())
    assert not backbone.network.training


def test_it_holds_the_layout():
    """Descending on DDS alone raises the energy above that of the source; with the term by less than half as much.

    The energy is measured at noise and places that no step used.
    """
    src, energies = latents_of(2, 2), {}
    for weight in (0.0, 200.0):
        guidance, prompts, backbone = make("dds", weight=weight)
        latents = [src]
        for index in range(20):
            output = guidance.latent_step(latents[-1], src, prompts, step=index, num_steps=20, seed=3)
            latents.append(latents[-1] - 0.1 * output.score)
        energies[weight] = [
            torch.stack([
                energy(
                    backbone, CDS.branches, prompts, each, src, timestep=400, noise=latents_of(2, 100 + draw),
                    places=generator(77, draw, Stream.CONTRAST),
                )
                for draw in range(3)
            ]).mean(0)
            for each in (latents[0], latents[-1])
        ]  # fmt: skip
    (start, without), (_, held) = energies.values()
    assert (without > start + 1e-3).all()
    assert (held - start < 0.5 * (without - start)).all()


def test_chosen_layers_and_any_aspect():
    guidance, prompts, _ = make(layers=[1])
    assert guidance.contrast.layers == [1]
    every, _, _ = make()
    assert len(every.contrast.layers) == 4
    output = every.latent_step(latents_of(1, 1, (7, 10)), latents_of(1, 2, (7, 10)), prompts, **RUN)
    assert torch.isfinite(output.score).all()


@pytest.mark.parametrize(
    ("cds", "message"),
    [
        ({"layers": [4]}, "system.guidance.cds.layers holds 4; expected 0 to 3 for this network; "
         "set system.guidance.cds.layers=[] for all of them"),
        ({"num_patches": 1}, "system.guidance.cds.num_patches is 1; expected at least 2; "
         "set system.guidance.cds.num_patches=256"),
        ({"temperature": 0.0}, "system.guidance.cds.temperature is 0.0; expected above 0; "
         "set system.guidance.cds.temperature=0.07"),
        ({"weight": -1.0}, "system.guidance.cds.weight is -1.0; expected at least 0; "
         "set system.guidance.cds.weight=3.0"),
        ({"patch_sizes": [0]}, "system.guidance.cds.patch_sizes is [0]; expected sides of at least 1 cell; "
         "set system.guidance.cds.patch_sizes=[1,2]"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(cds, message):
    with pytest.raises(ConfigError) as error:
        make(**cds)
    assert str(error.value) == message


def test_a_transformer_and_a_compiled_network_are_refused():
    with pytest.raises(ConfigError, match="has no U-Net to take self-attention features from"):
        make(backbone=random_backbone(kind="sd3"))
    with pytest.raises(ConfigError, match=r"compile is true, and system.guidance.cds reads the network's layers"):
        EditGuidance({"score": {"name": "dds"}, "cds": {"weight": 1.0}, "compile": True}, backbone=random_backbone())
