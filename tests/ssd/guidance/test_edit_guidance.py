"""Guidance: what a step costs, what it feeds back, and that models of one denoiser agree whatever they predict."""

import dataclasses
import math

import pytest
import torch
from omegaconf import OmegaConf

from tests.edit_world import REPOSITORY, channels_for
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.diffusion.costs.architectures import BETAS, SCHEDULERS
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance import EditGuidance, EditPrompts, guidance_class, prompts_class
from threestudio_ssd.scores import DDS, PDS, SCORES, SSD, Branch
from threestudio_ssd.seeds import Stream, generator

TEXTS = {"src": "a red ball", "tgt": "a blue ball", "null": "", "neg": "blurry"}
RUN = {"step": 2, "num_steps": 10, "seed": 3}


def make(score="ssd", backbone=None, **keys):
    """Guidance on a random backbone, its prompts by name, and that backbone."""
    options = {"name": score} if isinstance(score, str) else score
    backbone = backbone or random_backbone(in_channels=channels_for(options))
    guidance = EditGuidance({"score": options, **keys}, backbone=backbone)
    rows = backbone.encode_prompts(list(TEXTS.values()))
    return guidance, {name: rows[index] for index, name in enumerate(TEXTS)}, backbone


def pictures(count=2, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def latents_of(count=2, seed=0, size=8):
    return torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(seed))


def condition_for(backbone, images):
    return backbone.encode_condition(images) if backbone.has_image_condition else None


@pytest.mark.parametrize("count", [1, 3])
def test_the_loss_s_gradient_is_the_score_over_the_batch(count):
    guidance, prompts, _ = make()
    latents = latents_of(count, seed=1).requires_grad_()
    output = guidance.latent_step(latents, latents_of(count, seed=2), prompts, **RUN)
    (gradient,) = torch.autograd.grad(output.loss, latents)
    torch.testing.assert_close(gradient, output.score / count, rtol=1e-5, atol=1e-5)
    assert output.score.abs().mean() > 1e-3
    assert output.loss.item() == pytest.approx(0.5 * output.score.pow(2).sum().item() / count, rel=1e-4)


def test_gradients_reach_the_pictures_and_nothing_else():
    guidance, prompts, backbone = make()
    images = pictures().requires_grad_()
    guidance.latent_step(backbone.encode(images), latents_of(), prompts, **RUN).loss.backward()
    assert images.grad.abs().max() > 0
    assert all(p.grad is None for net in (backbone.network, backbone.vae) for p in net.parameters())


@pytest.mark.parametrize(
    ("score", "rows"),
    [
        ("ssd", 4), ({"name": "ssd", "enhance_weight": 0}, 3), ("ssd-ip2p", 4), ("dds", 4), ("sds", 2), ("pds", 4),
        ({"name": "csd"}, 2), ({"name": "csd", "source_weight": 2.5}, 3), ("nfsd", 3), ("dream-catalyst", 4),
        ("dream-catalyst-ip2p", 5),
        ({"name": "ssd", "cross_trajectory_weight": 0, "enhance_weight": 0}, 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 2])
def test_a_step_costs_one_encode_and_one_network_call(score, rows, count):
    guidance, prompts, backbone = make(score)
    images = pictures(count)
    condition = condition_for(backbone, images)
    backbone.counters.reset()
    guidance.latent_step(backbone.encode(images), latents_of(count), prompts, image_condition=condition, **RUN)
    counted = backbone.counters
    assert (counted.network_calls, counted.rows) == (1, rows * count)
    assert (counted.encodes, counted.encoded_images) == (1, count)
    assert (counted.decodes, counted.prompts) == (0, 0)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_runs_and_gives_a_finite_gradient(name):
    guidance, prompts, backbone = make(name)
    images = pictures().requires_grad_()
    condition = condition_for(backbone, images.detach())
    output = guidance.latent_step(backbone.encode(images), latents_of(), prompts, image_condition=condition, **RUN)
    output.loss.backward()
    assert torch.isfinite(images.grad).all()
    assert output.score.abs().max() > 0
    assert output.timestep == 980 - 960 * 2 // 10


def test_an_offset_moves_the_timestep_and_not_the_share_that_a_score_reads():
    """As released: t = i + 1 goes to network and noise, exp(i / T) to the ID term."""
    (plain, prompts, _), (moved, *_) = (make("dream-catalyst", timestep_offset=offset) for offset in (0, 1))
    tgt, src, noise = latents_of(1, 1), latents_of(1, 2), latents_of(1, 3)
    assert (
        moved.latent_step(tgt, src, prompts, **RUN).timestep == 1 + plain.latent_step(tgt, src, prompts, **RUN).timestep
    )
    at_401 = plain.compute_score(tgt, src, prompts, 401, noise)
    as_released = moved.compute_score(tgt, src, prompts, 401, noise)
    edit = [0.2 + 0.8 * t_frac ** (1 / math.e) for t_frac in (0.401, 0.400)]
    pull = [0.075 * math.exp(t_frac) * (tgt - src) for t_frac in (0.401, 0.400)]
    torch.testing.assert_close(as_released, (at_401 - pull[0]) * edit[1] / edit[0] + pull[1], rtol=1e-4, atol=1e-4)
    assert (as_released - at_401).abs().max() > 1e-4


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_batch_of_views_is_the_views_one_by_one(name, count):
    guidance, prompts, backbone = make(name)
    tgt, src, noise = latents_of(count, 1), latents_of(count, 2), latents_of(count, 3)
    condition = latents_of(count, 4) if backbone.has_image_condition else None
    untrained = guidance.state_dict()
    whole = guidance.compute_score(tgt, src, prompts, 400, noise, condition)
    for row in range(count):
        one = slice(row, row + 1)
        guidance.load_state_dict(untrained)  # a score may learn as it goes
        single = guidance.compute_score(
            tgt[one], src[one], prompts, 400, noise[one], None if condition is None else condition[one]
        )
        torch.testing.assert_close(whole[one], single, rtol=1e-3, atol=1e-3)


def test_a_view_with_a_seed_of_its_own_gets_what_it_would_get_alone():
    """Timestep, noise, prompt: a batch of different edits is the edits one by one."""
    guidance, prompts, _ = make("dds", schedule="uniform")
    tgt, src, seeds = latents_of(4, 1), latents_of(4, 2), [5, 9, 5, 7]
    order = [("src", "tgt"), ("tgt", "src"), ("src", "neg"), ("neg", "tgt")]
    rows = {
        name: type(prompts["src"]).cat([prompts[pair[i]] for pair in order]) for i, name in enumerate(("src", "tgt"))
    }
    rows["null"] = prompts["null"]
    run = {"step": 4, "num_steps": 10}
    whole = guidance.latent_step(tgt, src, rows, seed=seeds, **run).score
    for row, (a, b) in enumerate(order):
        one, alone = slice(row, row + 1), {"src": prompts[a], "tgt": prompts[b], "null": prompts["null"]}
        single = guidance.latent_step(tgt[one], src[one], alone, seed=seeds[row], **run)
        torch.testing.assert_close(whole[one], single.score, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num_views", [1, 2, 3])
def test_edits_side_by_side_are_the_edits_alone(num_views):
    """A seed serves its own views: timesteps, noise, score, loss and gradient are those of the edit by itself."""
    guidance, prompts, _ = make("ssd", schedule="uniform")
    seeds, count = (5, 9, 7), 3 * num_views
    tgt, src = latents_of(count, 1).requires_grad_(), latents_of(count, 2)
    whole = guidance.latent_step(tgt, src, prompts, step=4, num_steps=10, seed=seeds)
    (gradient,) = torch.autograd.grad(whole.loss, tgt)
    losses = []
    for row, seed in enumerate(seeds):
        views = slice(row * num_views, (row + 1) * num_views)
        alone = guidance.latent_step(tgt[views], src[views], prompts, step=4, num_steps=10, seed=seed)
        torch.testing.assert_close(whole.score[views], alone.score, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(gradient[views], alone.score / num_views, rtol=1e-3, atol=1e-3)
        losses.append(alone.loss.item())
        if row == 0:
            assert whole.timestep == alone.timestep
    assert whole.loss.item() == pytest.approx(sum(losses), rel=1e-3)


@pytest.mark.parametrize("seed", [[1, 2], []])
def test_latents_that_cannot_be_shared_out_are_refused(seed):
    guidance, prompts, _ = make("dds")
    with pytest.raises(ValueError, match=rf"3 latents cannot be shared out evenly among {len(seed)} seeds"):
        guidance.latent_step(latents_of(3), latents_of(3), prompts, step=0, num_steps=10, seed=seed)


def test_nfsd_does_not_evaluate_its_negative_prompt_at_small_timesteps():
    guidance, prompts, backbone = make("nfsd")
    for timestep, rows in ((199, 2), (200, 3)):
        backbone.counters.reset()
        guidance.compute_score(latents_of(1), latents_of(1), prompts, timestep, latents_of(1))
        assert backbone.counters.rows == rows


def test_the_score_is_the_paper_s_equation():
    """SSD and DDS written out by hand over separate network calls."""
    tgt, src, noise = latents_of(2, 1), latents_of(2, 2), latents_of(2, 3)
    guidance, prompts, backbone = make()
    a = backbone.alphas_cumprod[400]
    noisy = {name: a.sqrt() * z + (1 - a).sqrt() * noise for name, z in (("tgt", tgt), ("src", src))}

    def e(latents, prompt):
        rows = type(prompts[prompt]).cat([prompts[prompt]] * 2)
        return backbone.predict_noise(noisy[latents], torch.tensor([400, 400]), rows)

    expected = (
        3.75 * (e("tgt", "tgt") - e("tgt", "src"))
        + (e("tgt", "src") - e("src", "null"))
        + 5.5 * (e("tgt", "tgt") - e("tgt", "null"))
        + 0.075 * torch.exp(torch.tensor(0.4)) * (noisy["tgt"] - noisy["src"])
    )
    result = guidance.compute_score(tgt, src, prompts, 400, noise)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)

    def cfg(latents, prompt):
        return e(latents, "null") + 7.5 * (e(latents, prompt) - e(latents, "null"))

    dds, _, _ = make("dds", backbone)
    result = dds.compute_score(tgt, src, prompts, 400, noise)
    torch.testing.assert_close(result, cfg("tgt", "tgt") - cfg("src", "src"), rtol=1e-4, atol=1e-4)


def test_pds_goes_back_two_timesteps_and_takes_one_step_s_beta():
    """Against the score on predictions of separate calls: alphas at t and t - 2, the beta of t alone."""
    guidance, prompts, backbone = make("pds")
    tgt, src, noise = latents_of(2, 1), latents_of(2, 2), latents_of(2, 3)
    timesteps = torch.tensor([21, 401])
    noisy = {name: backbone.add_noise(z, noise, timesteps) for name, z in (("tgt", tgt), ("src", src))}
    eps = {
        Branch(latents, prompt): backbone.predict_noise(noisy[latents], timesteps, prompts[prompt].expand(2))
        for latents in ("tgt", "src") for prompt in (latents, "null")
    }  # fmt: skip
    alphas = backbone.alphas_cumprod
    now, before, between = (alphas[timesteps - back].view(-1, 1, 1, 1) for back in (0, 2, 1))
    expected = PDS()(
        eps, latents_tgt=tgt, latents_src=src, alphas_cumprod=now, alphas_cumprod_prev=before, betas=1 - now / between
    )
    result = guidance.compute_score(tgt, src, prompts, timesteps, noise)
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("timestep", "psi"), [(21, 1.61), (201, 0.14), (401, 0.05)])
def test_pds_holds_the_identity_as_published(timestep, psi):
    """Where the network predicts nothing, psi (z - z_src) is left; a stride of one would leave nothing."""
    guidance, prompts, backbone = make("pds")
    backbone.predict_noise = lambda latents_noisy, *rest, **options: torch.zeros_like(latents_noisy)
    tgt, src = latents_of(2, 1), latents_of(2, 2)
    result = guidance.compute_score(tgt, src, prompts, timestep, latents_of(2, 3))
    assert (result / (tgt - src)).mean().item() == pytest.approx(psi, abs=0.006)


def test_the_picture_condition_goes_to_the_branches_that_read_it():
    """InstructPix2Pix: s_T, s_I and the two predictions without picture, by hand."""
    guidance, prompts, backbone = make("ssd-ip2p")
    tgt, src, noise, picture = (latents_of(1, seed) for seed in (1, 2, 3, 4))
    a = backbone.alphas_cumprod[300]
    noisy_tgt, noisy_src = (a.sqrt() * z + (1 - a).sqrt() * noise for z in (tgt, src))

    def e(latents, condition, prompt):
        return backbone.predict_noise(latents, 300, prompts[prompt], condition)

    blank = torch.zeros_like(picture)
    expected = (
        7.5 * (e(noisy_tgt, picture, "tgt") - e(noisy_tgt, picture, "null"))
        + 1.5 * (e(noisy_tgt, picture, "null") - e(noisy_tgt, blank, "null"))
        + e(noisy_tgt, blank, "null") - e(noisy_src, blank, "null")
        + 0.075 * torch.exp(torch.tensor(0.3)) * (noisy_tgt - noisy_src)
    )  # fmt: skip
    result = guidance.compute_score(tgt, src, prompts, 300, noise, picture)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_seed_and_step_decide_the_noise_and_nothing_else_does():
    guidance, prompts, _ = make(schedule="uniform")
    tgt, src = latents_of(2, 1), latents_of(2, 2)
    torch.manual_seed(1)
    first = guidance.latent_step(tgt, src, prompts, **RUN)
    torch.manual_seed(2)
    torch.rand(5)
    again = guidance.latent_step(tgt, src, prompts, **RUN)
    assert torch.equal(first.score, again.score)
    assert first.timestep == again.timestep
    for change in ({"step": 3}, {"seed": 4}):
        other = guidance.latent_step(tgt, src, prompts, **{**RUN, **change})
        assert not torch.equal(first.score, other.score)
    a, b = (torch.randn(4, generator=generator(seed, step, Stream.DIFFUSION)) for seed, step in ((0, 5), (0, 6)))
    assert not torch.equal(a, b)


def same_denoiser(latents, abar, prompts):
    """Epsilon of a made-up denoiser that knows the noise level and the prompt."""
    number = 3 * prompts.float()[:, :12, 0].mean(dim=1).view(-1, 1, 1, 1)
    return torch.tanh(latents + number) * (1 - abar).sqrt() + number


def with_denoiser(prediction, levels=None, in_channels=4):
    """A random backbone whose network predicts, in its own way, what ``same_denoiser`` says.

    ``levels``: the alphas of its timesteps in place of its own. A picture condition counts half on the latents, and
    trainable weights count nothing but are there.
    """
    backbone = random_backbone(prediction, in_channels=in_channels)
    if levels is not None:
        backbone.noise_levels = dataclasses.replace(backbone.noise_levels, alphas_cumprod=levels)
    levels = backbone.noise_levels

    def denoise(latents, picture, abar, hidden):
        trained = sum(weight.sum() for weight in backbone.network.parameters() if weight.requires_grad)
        return same_denoiser(latents + (0.5 * picture if picture.shape[1] else 0), abar, hidden) + 0 * trained

    def network(latents, times, hidden, return_dict, **extra):
        latents, picture = latents[:, :4], latents[:, 4:]
        if prediction == "flow":
            s = (times / len(levels)).view(-1, 1, 1, 1)
            scale = ((1 - s) ** 2 + s**2).sqrt()
            eps = denoise(latents / scale, picture, ((1 - s) / scale) ** 2, hidden)
            return ((eps - (latents - s * eps) / (1 - s)),)
        abar = levels.alphas_cumprod[times].view(-1, 1, 1, 1)
        eps = denoise(latents, picture, abar, hidden)
        if prediction == "eps":
            return (eps,)
        clean = (latents - (1 - abar).sqrt() * eps) / abar.sqrt()
        return (abar.sqrt() * eps - (1 - abar).sqrt() * clean,)

    backbone._network_call = network
    return backbone


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
@pytest.mark.parametrize("timestep", [60, 400, 900])
def test_models_of_one_denoiser_agree_whatever_they_predict(prediction, timestep):
    guidance, prompts, backbone = make(backbone=with_denoiser(prediction))
    tgt, src, noise = latents_of(2, 1), latents_of(2, 2), latents_of(2, 3)
    abar = backbone.alphas_cumprod[timestep]
    noisy_tgt, noisy_src = (abar.sqrt() * z + (1 - abar).sqrt() * noise for z in (tgt, src))
    hidden = {name: rows.hidden.expand(2, -1, -1) for name, rows in prompts.items()}
    y, y_src, null = (same_denoiser(noisy_tgt, abar, hidden[name]) for name in ("tgt", "src", "null"))
    src_null = same_denoiser(noisy_src, abar, hidden["null"])
    expected = 9.25 * y - 2.75 * y_src - 5.5 * null - src_null
    expected += 0.075 * torch.exp(torch.tensor(timestep / 1000)) * (noisy_tgt - noisy_src)
    result = guidance.compute_score(tgt, src, prompts, timestep, noise)
    torch.testing.assert_close(result, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("prediction", ["v", "flow"])
@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_the_same_whatever_the_network_predicts(name, prediction):
    """Eps against v, and against a flow at the flow's own noise levels, of one denoiser."""
    tgt, src, noise, picture = (latents_of(2, seed) for seed in (1, 2, 3, 4))
    levels = random_backbone(prediction).alphas_cumprod
    scores = []
    for each in ("eps", prediction):
        backbone = with_denoiser(each, levels, in_channels=channels_for(name))
        guidance, prompts, _ = make(name, backbone=backbone)
        condition = picture if backbone.has_image_condition else None
        scores.append(guidance.compute_score(tgt, src, prompts, torch.tensor([500, 120]), noise, condition))
    assert scores[0].abs().mean() > 1e-2
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "options", "rows"),
    [
        ("ssd-gs-sd15.yaml", {}, 4), ("ssd-gs-sd15.yaml", {"distilled": "lcm"}, 4),
        ("ssd-gs-sdxl.yaml", {"kind": "sdxl"}, 4), ("ssd-gs-turbo.yaml", {"distilled": "turbo"}, 3),
        ("ssd-gs-sd3.yaml", {"kind": "sd3"}, 4), ("ssd-gs-lcm.yaml", {}, 3),
    ],
)  # fmt: skip
def test_the_keys_of_a_config_do_a_step_on_its_kind_of_model(config, options, rows):
    keys = OmegaConf.to_container(complete(load_config(REPOSITORY / "configs" / config)).system.guidance, resolve=True)
    keys["freeu"] = {"kind": "none"}  # a tiny network lacks the widths it asks for
    backbone = random_backbone(**options)
    guidance = EditGuidance(keys, backbone=backbone)
    embeds = backbone.encode_prompts(list(TEXTS.values()))
    prompts = {name: embeds[index] for index, name in enumerate(TEXTS)}
    images = pictures(1).requires_grad_()
    latents_src = backbone.encode(pictures(1, seed=1))
    backbone.counters.reset()
    output = guidance.latent_step(backbone.encode(images), latents_src, prompts, **RUN)
    output.loss.backward()
    assert torch.isfinite(images.grad).all()
    assert images.grad.abs().max() > 0
    assert (backbone.counters.network_calls, backbone.counters.rows) == (1, rows)


def test_sd_turbo_is_asked_at_the_timesteps_it_was_distilled_at_and_at_no_other():
    from diffusers import EulerDiscreteScheduler

    keys = OmegaConf.to_container(
        complete(load_config(REPOSITORY / "configs" / "ssd-gs-turbo.yaml")).system, resolve=True
    )
    guidance, prompts, backbone = make(backbone=random_backbone(distilled="turbo"), **{
        name: keys["guidance"][name] for name in ("only_timesteps", "t_min_frac", "t_max_frac")
    })  # fmt: skip
    theirs = EulerDiscreteScheduler.from_config(SCHEDULERS["turbo"] | BETAS)
    theirs.set_timesteps(4)
    latents = latents_of(1)
    asked = [guidance._draw(latents, step, 300, [0])[0][0] for step in range(300)]
    assert asked == sorted(asked, reverse=True)
    assert sorted(set(asked)) == sorted(theirs.timesteps.int().tolist())[:-1]
    assert all(abs(asked.count(timestep) - 100) <= 1 for timestep in set(asked))
    seen = []
    backbone.network.register_forward_pre_hook(lambda module, args: seen.extend(args[1].tolist()))
    guidance.latent_step(latents, latents_of(1, 2), prompts, step=150, num_steps=300, seed=0)
    assert set(seen) == {499}


def test_timesteps_beyond_the_model_are_refused():
    with pytest.raises(ConfigError, match="only_timesteps holds 1000"):
        make(only_timesteps=[1000])


def test_a_null_edit_of_dds_feeds_nothing_back():
    guidance, prompts, _ = make("dds")
    same = {**prompts, "tgt": prompts["src"]}
    latents = latents_of(2, 1)
    assert guidance.compute_score(latents, latents, same, 500, latents_of(2, 2)).abs().max() < 1e-4


def test_mask_and_clip_limit_the_score():
    guidance, prompts, _ = make(grad_clip=0.01)
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:5, 3:6] = 1
    output = guidance.latent_step(latents_of(2, 1), latents_of(2, 2), prompts, latent_mask=mask, **RUN)
    assert output.score.abs().max() == pytest.approx(0.01)
    assert (output.score * (1 - mask)).abs().max() == 0
    assert (output.score * mask).abs().max() > 0


def test_configured_score_and_prompt_names():
    guidance, _, _ = make({"name": "ssd", "enhance_weight": 0})
    assert guidance.score == SSD(enhance_weight=0.0)
    assert guidance.prompt_names == {"src", "tgt", "null"}
    guidance, _, _ = make("dds")
    assert guidance.score == DDS()
    assert make("nfsd")[0].prompt_names == {"tgt", "null", "neg"}
    assert not guidance.reads_image
    assert make("ssd-ip2p")[0].reads_image


@pytest.mark.parametrize(
    ("score", "channels", "what", "fix"),
    [
        ("ssd", 8, "score ssd does not fit model random-sd-epsilon, which is an InstructPix2Pix model",
         "set system.guidance.score.name=ssd-ip2p, or another model"),
        ("ssd-ip2p", 4, "score ssd-ip2p does not fit model random-sd-epsilon, which reads no picture",
         "set system.guidance.score.name=ssd, or another model"),
    ],
)  # fmt: skip
def test_a_score_for_another_kind_of_model_is_refused(score, channels, what, fix):
    with pytest.raises(ConfigError) as error:
        make(score, random_backbone(in_channels=channels))
    assert (error.value.what, error.value.expected, error.value.fix) == (what, "a score for this kind of model", fix)


def test_bad_schedules_and_scores_fail_before_a_model_is_loaded():
    with pytest.raises(ConfigError, match=r"score.name is 'ssdd'"):
        EditGuidance({"model": "no/such/model/anywhere", "score": {"name": "ssdd"}})
    with pytest.raises(ConfigError, match="t_min_frac is 0.9"):
        EditGuidance({"model": "no/such/model/anywhere", "t_min_frac": 0.9, "t_max_frac": 0.5})


@pytest.mark.parametrize(
    ("find_class", "key", "kind", "default"),
    [
        (guidance_class, "guidance_type", EditGuidance, "ssd-guidance"),
        (prompts_class, "prompt_processor_type", EditPrompts, "ssd-prompt-processor"),
    ],
)
def test_a_type_that_is_of_another_kind_is_refused(find_class, key, kind, default):
    assert find_class(default) is kind
    with pytest.raises(ConfigError) as error:
        find_class("gs-views")
    assert str(error.value) == (
        f"system.{key} is gs-views, a GSViews; expected a subclass of {kind.__name__}; set system.{key}={default}"
    )


def test_prompts_of_several_edits_are_rows():
    """Each edit's row is what its own prompts give; the negative prompt is the keys' own."""
    backbone = random_backbone()
    pairs = [("a red ball", "a blue ball"), ("a cat", "a red ball"), ("a red ball", "a dog")]
    negative = backbone.encode_prompts(["an ugly thing"])
    plain = [backbone.encode_prompts([pair[side] for pair in pairs]) for side in (0, 1)]
    null = backbone.encode_prompts([""])
    prompts = EditPrompts({"target_prompt": "unused", "negative_prompt": "an ugly thing"})
    rows = prompts.rows(backbone, {"src", "tgt", "null", "neg"}, pairs)
    assert {name: len(embeds) for name, embeds in rows.items()} == {"src": 3, "tgt": 3, "null": 3, "neg": 3}
    for name, expected in (("src", plain[0]), ("tgt", plain[1])):
        torch.testing.assert_close(rows[name].hidden, expected.hidden, rtol=1e-4, atol=1e-5)
    for name, expected in (("null", null), ("neg", negative)):
        torch.testing.assert_close(rows[name].hidden, expected.hidden.expand(3, -1, -1), rtol=1e-4, atol=1e-5)
    assert backbone.text_encoders is None
    with pytest.raises(ConfigError, match="source_prompt is empty"):
        prompts.rows(random_backbone(), {"src"}, [*pairs, (" ", "a dog")])


def test_prompts_are_embedded_once_and_the_encoder_is_freed():
    backbone = random_backbone()
    processor = EditPrompts({"source_prompt": "a red ball", "target_prompt": "a blue ball"})
    plain = backbone.encode_prompts(["a red ball", "a blue ball", ""])
    backbone.counters.reset()
    prompts = processor(backbone, {"src", "tgt", "null"})
    assert backbone.counters.prompts == 3
    assert backbone.text_encoders is None
    for index, name in enumerate(("src", "tgt", "null")):
        torch.testing.assert_close(prompts[name].hidden[0], plain.hidden[index], rtol=1e-4, atol=1e-5)
        assert len(prompts[name]) == 1


def test_a_score_that_reads_no_source_prompt_needs_none():
    backbone = random_backbone()
    processor = EditPrompts({"target_prompt": "a blue ball"})
    assert set(processor(backbone, {"tgt", "null"})) == {"tgt", "null"}
    with pytest.raises(ConfigError, match="source_prompt is empty"):
        EditPrompts({"target_prompt": "a blue ball"})(random_backbone(), {"src", "tgt"})
