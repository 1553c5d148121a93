"""Inversions: how exactly each comes back, what a null edit gives, each view as it would be alone, the constants."""

import math
from dataclasses import replace

import pytest
import torch

import threestudio
from tests.ssd.editors.branches.conftest import PROMPTS, TWINS, network_of
from threestudio_ssd.benchmarks.pie.toy import TOY_ENTRIES, ToyEntry
from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.diffusion.sampling import ddim_step, guided_by, timesteps_down
from threestudio_ssd.early import named
from threestudio_ssd.editors import EDITORS, INVERSIONS, BranchedBackbone, EditorPrompts, LoadedEditor, Views
from threestudio_ssd.editors.branches.picture_inversion import fit_each
from threestudio_ssd.editors.branches.setting import Setting
from threestudio_ssd.editors.branches.style_diffusion import StyleDiffusion
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.images import as_tensor, read_rgb, resized
from threestudio_ssd.metrics import psnr
from threestudio_ssd.toyworld.views import single_view

FEW = {"num_steps": 6}
NULL = EditorPrompts("a red ball", "a red ball")


def error_of_source(editor, network, views):
    """How far the source branch ends from the picture, root mean square in latents, each view."""
    with torch.no_grad():
        source, _ = editor.branches(network, views)
        wanted = network.backbone.encode(views.sources)
    return (source - wanted).square().flatten(1).mean(1).sqrt()


@pytest.mark.parametrize("twin", TWINS)
def test_direct_inversion_comes_back_to_the_last_bit(twin, picture):
    network = network_of(**TWINS[twin])
    for name in ("direct-p2p", "direct-pnp", "direct-masactrl"):
        assert torch.equal(error_of_source(EDITORS[name](**FEW), network, picture), torch.zeros(2))


def test_direct_inversion_is_what_adding_the_offsets_gives(network, picture):
    """Algorithm 1 of its paper, written out: the source branch steps with guidance, and gets what it lacks."""
    backbone, path = network.backbone, timesteps_down(network.backbone, 6)

    def stepped(latents, scale, now, then):
        predict = guided_by(backbone, network.source(picture), network.null, scale)
        return ddim_step(backbone, latents, predict(latents, now), now, then)

    with torch.no_grad():
        inverted = [backbone.encode(picture.sources)]
        for now, then in zip(path[:0:-1], path[-2::-1], strict=True):
            inverted.insert(0, stepped(inverted[0], 1.0, now, then))
        latents = alone = inverted[0]
        for step, (now, then) in enumerate(zip(path, path[1:], strict=False)):
            offset = inverted[step + 1] - stepped(inverted[step], 7.5, now, then)
            latents, alone = stepped(latents, 7.5, now, then) + offset, stepped(alone, 7.5, now, then)
    assert (latents - inverted[-1]).abs().max() < 5e-3  # rounding, which guidance makes larger at every step
    assert (alone - inverted[-1]).abs().mean() > 0.5


def test_shorter_steps_bring_ddim_closer_without_guidance(picture):
    """PnP's source branch has none; its error is of first order."""
    network = network_of()
    far, near = (error_of_source(EDITORS["ddim-pnp"](num_steps=n), network, picture).mean() for n in (4, 24))
    assert near < 0.4 * far


def test_fitting_beats_ddim_under_guidance():
    """On the embedded model, whose null prompt means something."""
    prompts = EditorPrompts("a photo of a red ball on grass", "a photo of a red ball on grass")
    network = BranchedBackbone(load_backbone("data/tiny-ldm", device="cpu"), prompts)
    image = resized(as_tensor(read_rgb(named("data/toy-scene/view.png"), "the")), (64, 64))
    views = Views(image, image, seeds=[0])
    plain = error_of_source(EDITORS["ddim-p2p"](num_steps=3), network, views)
    for name, inner in (("null-text-p2p", 10), ("style-p2p", 12)):
        fitted = EDITORS[name](num_steps=3, inversion={"inner_steps": inner})
        assert error_of_source(fitted, network, views) < 0.5 * plain


@pytest.mark.parametrize("name", ["ddim-p2p", "null-text-p2p", "style-p2p"])
def test_a_null_edit_gives_what_the_source_branch_gives(name, picture):
    """With the same prompt both branches are one; what null-text inversion fits is the picture itself."""
    options = {"ddim-p2p": {}, "null-text-p2p": {"inner_steps": 2}, "style-p2p": {"inner_steps": 2, "value_steps": 1.0}}
    network, options = network_of(NULL), options[name]
    editor = EDITORS[name](**FEW, inversion=options)
    with torch.no_grad():
        source, target = editor.branches(network, picture)
    torch.testing.assert_close(target, source, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["null-text-p2p", "style-p2p"])
def test_each_view_is_fitted_as_it_would_be_alone(name, picture):
    editor = LoadedEditor(EDITORS[name](num_steps=3, inversion={"inner_steps": 3}), network_of())
    together, alone = editor(picture), editor(picture[slice(1, 2)])
    torch.testing.assert_close(together[1:], alone, atol=2e-3, rtol=0)


def test_a_view_stops_where_its_own_loss_is_small_enough():
    values = torch.tensor([[1.0], [4.0]], requires_grad=True)
    seen = []

    def losses():
        seen.append(values.detach().clone())
        return values.square().sum(1)

    fit_each([values], losses, 50, 0.1, 0.5)
    stopped = [row.item() for row in values.detach()]
    path = torch.stack(seen)[:, :, 0]
    first = int((path[:, 0].square() < 0.5).nonzero()[0])
    assert stopped[0] == pytest.approx(path[first, 0].item() - 0.1, abs=0.02)
    assert all(value == stopped[0] for value in path[first + 1 :, 0].tolist())
    assert stopped[1] < 4 - 0.1 * first


def test_style_diffusion_has_fewer_inner_steps_at_each_step():
    counts = [StyleDiffusion().inner_steps_at(step) for step in range(50)]
    assert counts == [math.ceil(100 * math.exp(-0.1 * step)) for step in range(50)]
    assert (counts[0], counts[-1]) == (100, 1)


def test_an_unfitted_mapping_changes_nothing(picture):
    """Its last layer starts at zero, so that StyleDiffusion without any rate is DDIM."""
    network = network_of()
    control = {"cross_steps": 0.6, "reweight": 1.0, "has_blend": False}
    still = EDITORS["style-p2p"](**FEW, inversion={"inner_steps": 1, "learning_rate": 1e-12})
    plain = EDITORS["ddim-p2p"](**FEW, control=control)
    with torch.no_grad():
        found, wanted = (editor.branches(network, picture)[1] for editor in (still, plain))
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_constants_are_those_published():
    null_text, style = INVERSIONS["null-text"](), INVERSIONS["style-diffusion"]()
    assert (null_text.inner_steps, null_text.learning_rate, null_text.rate_steps) == (10, 1e-2, 100)
    assert (null_text.tolerance, null_text.tolerance_growth) == (1e-5, 2e-5)
    assert (style.inner_steps, style.value_steps) == (100, 0.5)
    for name in ("ddim-p2p", "ddim-pnp", "ddim-masactrl", "null-text-p2p", "style-p2p", "direct-p2p"):
        assert (EDITORS[name]().num_steps, EDITORS[name]().guidance_scale) == (50, 7.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inversion": {"inner_steps": 0}}, r"editor\.inversion\.inner_steps is 0; expected at least 1"),
        ({"inversion": {"nmae": 1}}, r"editor\.inversion\.nmae is not a field of the inversion null-text"),
        ({"inversion": {"name": "nul-text"}}, r"inversion\.name is 'nul-text'.*did you mean null-text"),
        ({"num_steps": 0}, r"editor\.num_steps is 0; expected at least 1"),
    ],
)
def test_what_cannot_be_used_is_said(options, message):
    with pytest.raises(ConfigError, match=message):
        EDITORS["null-text-p2p"](**options).check("system.editing.editor")


def test_another_inversion_leaves_the_usual_constants_out():
    editor = replace(EDITORS["style-p2p"](), inversion={"name": "direct"}, control={"name": "pnp"})
    assert type(editor.inversion_of()) is INVERSIONS["direct"]
    assert editor.control_of().feature_steps == 0.8
    assert PROMPTS.blended == "red blue"


@pytest.mark.slow
def test_null_text_comes_back_and_its_null_prompt_goes_far():
    """The figures of docs/findings.md: three toy pictures, the whole 50 steps, on the embedded model."""
    entries = [ToyEntry(*TOY_ENTRIES[number][1:], 3 + number, single_view(number, 128)) for number in (6, 12, 18)]
    prompts = [EditorPrompts(each.texts().source, each.texts().target) for each in entries]
    backbone = load_backbone("data/tiny-ldm", device="cpu")
    network = BranchedBackbone(backbone, prompts[0]._replace(others=tuple(prompts[1:])))
    images = resized(torch.stack([each.pictures()[0] for each in entries]), (64, 64))
    views, found = Views(images, images, seeds=[0, 0, 0], prompts=prompts), {}
    with torch.no_grad():
        encoded = backbone.decode(backbone.encode(images))
        for name in ("ddim-p2p", "null-text-p2p"):
            source, _ = EDITORS[name]().branches(network, views)
            found[name] = psnr(backbone.decode(source), encoded)
        editor = EDITORS["null-text-p2p"]()
        setting = Setting(
            network, views, timesteps_down(backbone, 50), 7.5, network.source(views), network.target(views), True
        )
        nulls = editor.inversion_of().invert(setting, backbone.encode(images)).nulls
    moved = (nulls[-1].hidden - network.null.hidden).square().mean().sqrt()
    size = network.null.hidden.square().mean().sqrt()
    threestudio.info(f"{found}; null prompt: size {size:.2f}, moved by {moved:.2f}")
    assert (found["null-text-p2p"] > found["ddim-p2p"] + 10).all()
    assert moved > size
