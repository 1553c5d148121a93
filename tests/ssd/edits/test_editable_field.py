"""A radiance field under an edit: only what is selected moves, masks are found in it, a splat of it looks like it."""

import pytest
import torch
from omegaconf import OmegaConf

from tests.field_world import around, ball_field
from threestudio_ssd.edits import field_splat
from threestudio_ssd.edits.editable_field import EditableField, for_editing
from threestudio_ssd.edits.field_splat import convert_field, splat_of
from threestudio_ssd.edits.gaussian_edit import GaussianEdit, LearningRates, Movement, Objective, SceneUnderEdit
from threestudio_ssd.edits.growth import Growth, GrowthConfig
from threestudio_ssd.edits.scene_edit import SceneEditConfig, check_field_edit
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.fields import save_field
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.masks import MaskConfig, find_selection, trace_views
from threestudio_ssd.metrics import psnr
from threestudio_ssd.rendering import coverage, render, render_bchw, render_depths

BLACK = torch.zeros(3)
RATES = vars(LearningRates(sh0=0.2, shN=0.0, raw_densities=0.0))


class Blue(Objective):
    """Every pixel blue."""

    def __call__(self, images, rows, step):
        return sum((image - torch.tensor([0.0, 0, 1])).pow(2).mean() for image in images), {}


def upper(field):
    return field.means[:, 2] > 0.1


def edited(rates, steps=6, *, kept=True, betas=(0.9, 0.999)):
    field = ball_field(resolution=17)
    is_selected = upper(field)
    if kept:
        field = for_editing(field, is_selected, rates["raw_densities"])
    editable = EditableField(field, is_selected)
    growth = Growth(GrowthConfig(), editable, extent=1.0, num_steps=steps, seed=0)
    scene = SceneUnderEdit(editable, around(4), 0, growth)
    edit = GaussianEdit([scene], Blue(), Movement(rates, betas=betas), num_steps=steps, background=BLACK)
    edit.prepare()
    edit.make_steps()
    return field, editable


def test_nodes_outside_the_selection_keep_their_bits():
    field, editable = edited(RATES | {"raw_densities": 0.1})
    result, is_selected = editable.result(), upper(field)
    for name, values in field.parameters().items():
        assert torch.equal(values[~is_selected], getattr(result, name)[~is_selected]), name
    assert not torch.equal(field.sh0[is_selected], result.sh0[is_selected])
    assert not torch.equal(field.raw_densities[is_selected], result.raw_densities[is_selected])
    assert torch.equal(editable.result_selection(), is_selected)
    assert torch.equal(editable.result_rows(), torch.arange(len(field)))


def test_pixels_that_do_not_show_the_selection_stay():
    field, editable = edited(RATES)
    views = around(3, 32)
    before, after = render(field, views, BLACK)[0], render(editable.result(), views, BLACK)[0]
    covered = coverage(field, upper(field), views)
    assert (before - after)[covered < 1e-6].abs().max() < 1e-6
    assert (after[..., 2] - before[..., 2])[covered > 0.9].mean() > 0.1


def test_a_colour_whose_rate_is_zero_stays():
    field, editable = edited(RATES | {"sh0": 0.0, "raw_densities": 0.1})
    assert torch.equal(editable.result().sh0, field.sh0)


def test_kept_samples_change_no_image():
    """What lies behind opaque nodes that stay is left out: it never shows."""
    field, kept = edited(RATES)[1].result(), edited(RATES)[0]
    without = kept.select(slice(None)).replace(**field.parameters())
    assert kept.store.samples
    views = around(4)
    torch.testing.assert_close(render(field, views, BLACK)[0], render(without, views, BLACK)[0], atol=2e-3, rtol=0)
    assert sum(map(len, kept.store.samples.values())) > 0


def test_steps_are_the_same_with_kept_samples_and_a_moving_density():
    rates = RATES | {"raw_densities": 0.05}
    with_store, without = (edited(rates, kept=kept)[1].result() for kept in (True, False))
    torch.testing.assert_close(with_store.raw_densities, without.raw_densities, atol=5e-2, rtol=0)


def test_a_mask_selects_space_by_what_images_show():
    field, views = ball_field(resolution=17), around(8, 32)
    is_upper = upper(field)
    masks = (coverage(field, is_upper, views) > 0.5).float()
    traced = trace_views(field, views, masks)
    is_opaque = (field.opacities > 0.5) & traced.is_seen
    agreement = (traced.is_selected == is_upper)[is_opaque].float().mean()
    assert agreement > 0.9


def test_a_box_selects_nodes():
    field = ball_field(resolution=17)
    cfg = OmegaConf.structured(MaskConfig(box=[-1, -1, 0.1, 1, 1, 1]))
    selection = find_selection(cfg, field, around(4), None, BLACK)
    assert torch.equal(selection.is_selected, (field.means[:, 2] >= 0.1) & (field.means.abs() <= 1).all(dim=1))


def test_depths_are_those_of_the_ball():
    depths, alphas = render_depths(ball_field(resolution=33), around(1, 17))
    assert alphas[0, 8, 8] > 0.99
    assert float(depths[0, 8, 8]) == pytest.approx(2.4, abs=0.06)


def test_a_splat_of_a_field_looks_like_it():
    field, views = ball_field(resolution=25), around(8, 48)
    held_out = around(7, 48)[1::2]
    target = render_bchw(field, held_out, BLACK)
    rough, fitted = (render_bchw(splat_of(field, views, BLACK, steps), held_out, BLACK) for steps in (0, 60))
    before, after = (float(psnr(images, target).mean()) for images in (rough, fitted))
    assert after > max(before + 3, 27)


@pytest.mark.parametrize(("key", "value"), [("growth.kind", "hierarchical"), ("seeds.count", 10)])
def test_what_nodes_cannot_do_is_refused(key, value):
    cfg = OmegaConf.structured(SceneEditConfig(scene="my.field"))
    OmegaConf.update(cfg, key, value)
    with pytest.raises(ConfigError, match=rf"system.{key} is {value}, and scene my.field is a radiance field"):
        check_field_edit(cfg)


def test_a_checkpoint_of_an_edit_gives_the_same_field_back():
    field, editable = edited(RATES)
    again = EditableField(field, upper(field))
    again.load_state_dict(editable.state_dict())
    for name, values in editable.result().parameters().items():
        assert torch.equal(values, getattr(again.result(), name)), name


def test_a_field_is_converted_to_a_splat_file(tmp_path, monkeypatch):
    monkeypatch.setattr(field_splat, "STEPS", 2)
    monkeypatch.setattr(field_splat, "MOST_VIEWS", 3)
    field = ball_field(resolution=13)
    save_field(field, tmp_path / "ball.field")
    written = convert_field(tmp_path / "ball.field", tmp_path / "ball.ply", half_turn=True, spz_version=None)
    read = load_gaussians(tmp_path / "ball.ply")
    assert len(read) == len(written) > 20
    assert torch.equal(read.means, written.means)
    assert read.means.norm(dim=1).max() < 1
    turned = read.means * torch.tensor([1.0, -1, -1])
    torch.testing.assert_close(turned, field.means[field.opacities > 0.1], atol=1e-5, rtol=0)
