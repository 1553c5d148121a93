"""The step of every edit of Gaussians: its order, its rates, its scenes side by side."""

from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from tests.edit_world import REPOSITORY, experiment, toy_cameras, toy_parts
from threestudio.utils.config import load_config
from threestudio_ssd.cameras import cameras_extent
from threestudio_ssd.data import ViewPlan
from threestudio_ssd.edits.edit import Edit, value_at, values_of
from threestudio_ssd.edits.editable_gaussians import EditableGaussians
from threestudio_ssd.edits.gaussian_edit import (
    GaussianEdit,
    LearningRates,
    Movement,
    Objective,
    SceneUnderEdit,
    check_learning_rates,
)  # fmt: skip
from threestudio_ssd.edits.growth import Growth, GrowthConfig
from threestudio_ssd.edits.scene_edit import SceneEditConfig, kind_of, learning_rates_of, movement_of, scene_under_edit
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.rendering import coverage

RATES = vars(LearningRates(means=[0, 0.01, 0.03, 10], log_scales=0, raw_quats=0, logit_opacities=0, sh0=0.2))


class Nothing(Objective):
    """Asks for nothing, but has a gradient."""

    def __call__(self, images, rows, step):
        return sum((0 * image).sum() for image in images), {}


class Blue(Objective):
    """Every pixel blue; each scene's loss is a mean over its own pixels."""

    def __call__(self, images, rows, step):
        assert [len(row) for row in rows] == [len(image) for image in images]
        return sum((image - torch.tensor([0.0, 0, 1])).pow(2).mean() for image in images), {"step": float(step)}


def edit_of(*seeds, extent=4.0, **more):
    scenes = []
    for seed in seeds:
        source, is_object = toy_parts(keep_every=20)
        editable = EditableGaussians(source, is_object)
        growth = Growth(GrowthConfig(), editable, extent=extent, num_steps=10, seed=seed)
        scenes.append(SceneUnderEdit(editable, toy_cameras(4, 24), seed, growth))
    words = {"movement": Movement(RATES), "num_steps": 10, "background": torch.zeros(3), **more}
    return GaussianEdit(scenes, Blue(), words.pop("movement"), **words)


def run(edit, count=4):
    edit.prepare()
    optimizers = edit.make_optimizers()
    facts = [edit.step(step, optimizers) for step in range(count)]
    assert [each["step"] for each in facts] == list(range(count))
    return [scene.editable.result() for scene in edit.scenes]


def rates_at(edit, step):
    optimizers = edit.make_optimizers()
    edit.set_rates(optimizers, step)
    return {group["name"]: group["lr"] for group in optimizers[0].param_groups}


def test_rates_are_read_at_the_step_and_that_of_means_is_times_the_extent():
    edit = edit_of(0, movement=Movement(RATES | {"means": 0.01, "sh0": [0, 0.1, 0.3, 10]}))
    assert rates_at(edit, 5) == pytest.approx({"means": 4 * 0.01, "sh0": 0.2})


@pytest.mark.parametrize("num_steps", [20, 500, 1500, 5000])
def test_the_rate_of_means_falls_by_a_constant_ratio_over_a_run_of_any_length(num_steps):
    """3D Gaussian splatting's rule, with GaussianEditor's rates: a tenth at the end, their geometric mean halfway."""
    edit = edit_of(0, movement=Movement(RATES | {"means": [0, 1.6e-4, 1.6e-5, num_steps]}), num_steps=num_steps)
    rates = [rates_at(edit, share * num_steps // 4)["means"] / 4 for share in range(5)]
    assert rates == pytest.approx([1.6e-4 * 10 ** (-share / 4) for share in range(5)])


@pytest.mark.parametrize("steps", [20, 500])
def test_the_shipped_rates_of_means_follow_the_steps(steps):
    for name in ("ssd-gs-sd15", "add-gs", "fit-gs"):
        cfg = load_config(REPOSITORY / "configs" / f"{name}.yaml", cli_args=[f"steps={steps}"])
        means = cfg.system.learning_rates.means
        assert value_at(means, steps, "exp") == pytest.approx(values_of(means)[-1])
        assert value_at(means, steps - 1, "exp") > value_at(means, steps, "exp")


def test_a_rate_of_means_that_reaches_zero_is_refused():
    cfg = OmegaConf.structured(LearningRates(means=[0, 1e-3, 0, 10]))
    with pytest.raises(ConfigError) as error:
        check_learning_rates(cfg)
    assert error.value.what == "system.learning_rates.means is [0, 0.001, 0, 10]"
    assert error.value.fix.startswith("write a small value such as 1.6e-6 in place of 0")
    check_learning_rates(OmegaConf.structured(LearningRates(means=0, sh0=[0, 1e-3, 0, 10])))


def test_scenes_side_by_side_move_as_each_would_alone():
    together, alone = run(edit_of(1, 2)), run(edit_of(2))
    assert torch.equal(together[1].sh0, alone[0].sh0)
    assert torch.equal(together[1].means, alone[0].means)
    assert not torch.equal(together[0].sh0, together[1].sh0)


def test_a_step_keeps_its_order():
    """Growth, loss, backward, gradients, rates, optimisers, bounds: what a driver may not get wrong."""
    told = []

    class Told(Edit):
        def make_optimizers(self):
            return []

        def before_step(self, step, optimizers):
            told.append("before")

        def loss(self, step):
            told.append("loss")
            return torch.ones((), requires_grad=True), {}

        def after_backward(self, is_good, loss_scale):
            told.append(f"gradients {loss_scale}")

        def set_rates(self, optimizers, step):
            told.append("rates")

        def after_step(self, step):
            told.append("after")

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    Told(3).step(
        0, [optimizer], backward=lambda loss: told.append("backward"), apply=lambda _: told.append("apply"),
        loss_scale=2.0,
    )  # fmt: skip
    assert told == ["before", "loss", "backward", "gradients 2.0", "rates", "apply", "after"]


def test_what_has_to_stay_somewhere_is_put_back_after_each_step():
    def keep(editable):
        editable.selected["means"].clamp_(min=0.25)

    (result,) = run(edit_of(0, keep_inside=torch.no_grad()(keep)))
    _, is_object = toy_parts(keep_every=20)
    assert (result.means[is_object] >= 0.25).all()
    assert (result.means[~is_object] < 0.25).any()


def test_numbers_that_run_away_are_noticed():
    edit = edit_of(0)
    assert edit.is_finite()
    edit.scenes[0].editable.selected["sh0"].data[0] = float("nan")
    assert not edit.is_finite()


def keys(**more):
    return OmegaConf.structured(SceneEditConfig(**more))


@pytest.mark.parametrize(("steps", "way"), [(300, 6.0), (225, 6.0), (100, 4.0), (9, 1.2)])
def test_colors_go_their_way_in_any_number_of_steps_and_less_in_few(steps, way):
    rates = learning_rates_of(keys(color_way=6.0, num_steps=steps))
    each = [value_at(rates["sh0"], step) for step in range(steps)]
    assert sum(each) == pytest.approx(way, rel=2 / steps)
    assert each == sorted(each, reverse=True)
    assert rates["means"] == LearningRates.means
    assert learning_rates_of(keys())["sh0"] == LearningRates.sh0


def test_schedules_of_rates_fall_in_a_line_or_by_a_ratio():
    cfg = keys(rate_schedules="exp", learning_rates=LearningRates(means=[0, 1e-4, 1e-6, 10], sh0=[0, 0.04, 0.01, 10]))
    rates = rates_at(edit_of(0, movement=movement_of(cfg)), 5)
    assert (rates["means"] / 4, rates["sh0"]) == pytest.approx((1e-5, 0.02))
    cfg.rate_schedules = "linear"
    rates = rates_at(edit_of(0, movement=movement_of(cfg)), 5)
    assert (rates["means"] / 4, rates["sh0"]) == pytest.approx((1e-5, 0.025))


def test_the_way_of_colors_is_the_same_whatever_the_other_rates_do():
    cfg = keys(rate_schedules="exp", color_way=6.0, num_steps=10)
    edit = edit_of(0, movement=movement_of(cfg))
    assert rates_at(edit, 5)["sh0"] == pytest.approx(value_at(learning_rates_of(cfg)["sh0"], 5))


def test_no_ratio_leads_to_a_rate_of_zero():
    cfg = keys(rate_schedules="exp", learning_rates=LearningRates(means=0.0, sh0=[0, 0.04, 0.0, 10]))
    with pytest.raises(ConfigError) as caught:
        learning_rates_of(cfg)
    assert caught.value.what == "a schedule reaches 0, system.learning_rates.sh0=[0.04, 0.0]"
    assert "system.rate_schedules=linear" in caught.value.fix
    assert learning_rates_of(keys(rate_schedules="exp", learning_rates=LearningRates(means=0.0)))["means"] == 0


@pytest.mark.parametrize(
    ("given", "source", "target", "kind"),
    [
        ("auto", "a red ball", "a blue ball", "recolor"),
        ("auto", "a red ball", "a red cube", "other"),
        ("auto", "a ball at night", "a ball by day", "relight"),
        ("auto", "a ball on grass", "a ball on sand", "material"),
        ("recolor", "a red ball", "a red cube", "recolor"),
        ("other", "a red ball", "a blue ball", "other"),
    ],
)
def test_the_kind_of_an_edit_is_what_the_words_or_the_config_say(given, source, target, kind):
    assert kind_of(keys(edit_kind=given), source, target) == kind


def test_an_instruction_is_read_without_the_caption():
    assert kind_of(keys(), "a photo of a red ball", "make it blue", is_instruction=True) == "recolor"
    assert kind_of(keys(), "a photo of a red ball", "make it blue") == "other"


@pytest.mark.parametrize(
    ("kind", "is_whole", "reach", "share"),
    [
        ("recolor", False, 1, 1),
        ("material", True, 2, 1 / 8),
        ("material", False, 3, 1 / 8),
        ("relight", True, 2, 1 / 48),
        ("relight", False, None, 1 / 48),
        ("other", True, 1, 0),
    ],
)
def test_the_kind_of_an_edit_says_how_far_colors_go_and_how_firmly_light_stays(world, kind, is_whole, reach, share):
    cfg = experiment(world, world, **{"system.color_way": 6, "system.learning_rates.sh0": 0.0125})
    source, is_object = toy_parts(keep_every=20)
    views = ViewPlan(cfg.data, toy_cameras(4, 24)).views(source, 32, 8)
    is_selected = torch.ones_like(is_object) if is_whole else is_object
    scene = scene_under_edit(cfg.system, source, is_selected, views, 0, 8, kind)
    edit = GaussianEdit([scene], Blue(), Movement(RATES), num_steps=10, background=torch.zeros(3))
    optimizers = edit.make_optimizers()
    edit.set_rates(optimizers, 0)
    if reach is None:  # by the square of the share of the views that the object takes
        shown, everything = (coverage(source, rows, views.train).sum() for rows in (is_object, is_object | True))
        reach = pytest.approx(4 * float(shown / everything) ** 2)
        assert 0.001 < reach.expected < 1.5
    assert scene.color_reach == reach
    assert [g["lr"] for g in optimizers[0].param_groups if g["name"] == "sh0"] == [0.2 * scene.color_reach]
    assert scene.shading_share == share


@pytest.mark.parametrize("count", [1, 4, 12])
def test_a_scene_s_steps_and_growth_are_counted_in_the_extent_of_its_capture(world, count):
    """Also for neighbours, which stand far nearer to one another than to the scene, and for one camera."""
    cfg, (source, is_object) = experiment(world, world, **{"data.num_train_views": 2}), toy_parts(keep_every=20)
    capture = toy_cameras(count, 24) if count != 4 else toy_cameras(48, 24)[0:8:2]
    views = ViewPlan(cfg.data, capture).views(source, 32, 8)
    scene = scene_under_edit(cfg.system, source, is_object, views, 0, 8)
    assert scene.extent == scene.growth.extent == cameras_extent(capture, source.means)
    assert scene.extent < views.orbit.radius / 10 if count == 4 else scene.extent > 5


def test_the_shading_term_is_in_the_loss_of_the_scenes_that_keep_light():
    edit = edit_of(0, 1, movement=Movement(RATES, lambda_shading=10.0))
    edit.scenes[1] = replace(edit.scenes[1], shading_share=0.5)
    edit.prepare()
    before, _ = edit.loss(0)
    with torch.no_grad():
        for scene in edit.scenes:
            scene.editable.selected["sh0"] += torch.tensor([-0.5, 0.0, 0.5])  # a push that flattens
    edit.objective = Nothing()
    loss, _ = edit.loss(0)
    loss.backward()
    assert float(before) > 0
    assert float(loss) > 0
    assert edit.scenes[1].editable.selected["sh0"].grad.abs().max() > 0
    assert not edit.scenes[0].editable.selected["sh0"].grad.any()


def test_a_latent_cell_is_measured_where_the_selection_is():
    """Twice the pixels a cell, twice the size; a camera at twice the distance sees it twice as large."""
    scene = edit_of(0).scenes[0]
    size = scene.cell_size()
    assert replace(scene, cell=2.0).cell_size() == pytest.approx(2 * size)
    farther = scene.cameras.viewmats.clone()
    means = scene.editable.source.means[scene.editable.is_selected]
    farther[:, 2, 3] += (means @ farther[:, 2, :3].T + farther[:, 2, 3]).median(0).values
    far = replace(scene, cameras=replace(scene.cameras, viewmats=farther))
    assert far.cell_size() == pytest.approx(2 * size, rel=0.05)


def test_color_readings_are_of_the_selection_before_and_now():
    edit = edit_of(0)
    (scene,) = edit.scenes
    before, after = edit.color_readings(scene)
    assert before == after
    assert before.out_of_range == 0
    with torch.no_grad():
        scene.editable.selected["sh0"][::2] += 5
    again, after = edit.color_readings(scene)
    assert again == before
    assert after.out_of_range == pytest.approx(0.5, abs=0.01)
    assert after.speckle_visible > before.speckle_visible + 0.3
