"""Growth inside the selection: when, how much, what it leaves alone, and that a resumed run grows alike."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from tests.edit_world import REPOSITORY, fit, run, toy_cameras, toy_parts, vertex_rows
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.edits.editable_gaussians import EditableGaussians
from threestudio_ssd.edits.growth import Growth, GrowthConfig, check_growth
from threestudio_ssd.edits.visible_adam import VisibleAdam
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.masks import load_selection
from threestudio_ssd.rendering import render_with_info
from threestudio_ssd.systems.edit_base import EditSystem

EXTENT = 6.0
FAST = {
    "system.growth.start": 1, "system.growth.every": 2, "system.growth.stop": 100, "system.growth.top_share": 0.2,
    "system.lambda_anchor.means": 1.0, "steps": 5,
}  # fmt: skip


def growing(kind, num_steps=1500, **keys):
    """A selection with gradients recorded from one render against black, its optimiser, and its growth."""
    source, is_object = toy_parts(keep_every=20)
    editable = EditableGaussians(source, is_object)
    keys = {"start": 1, "stop": 1400, "every": 2, **keys}
    growth = Growth(GrowthConfig(kind=kind, **keys), editable, extent=EXTENT, num_steps=num_steps, seed=3)
    groups = [{"params": [p], "lr": 1e-3} for p in editable.selected.values() if p.numel()]
    optimizer = VisibleAdam(groups)
    observe(growth)
    optimizer.step()
    return editable, growth, optimizer


def observe(growth, factor=1.0, loss_scale=1.0, is_good=True):
    images, _, info = render_with_info(growth.editable.scene(), toy_cameras(2, 24), torch.zeros(3))
    growth.watch(info, step=1)
    (factor * images.pow(2).mean()).backward()
    growth.record(torch.tensor(is_good), loss_scale)
    return info


def test_when_it_grows():
    _, growth, _ = growing("hierarchical", stop=6)
    assert [step for step in range(12) if growth.is_due(step)] == [2, 4, 6]
    assert [growth.num_growths(step) for step in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(growth.generation_weights(5)) == 3
    _, never, _ = growing("none")
    assert not never.is_due(2)
    assert never.generation_weights(100) is None


def growth_of(config, *words):
    """Growth as a shipped config has it, and the length of its run."""
    cfg = complete(load_config(REPOSITORY / "configs" / f"{config}.yaml", cli_args=list(words))).system
    check_growth(cfg.growth, cfg.num_steps)
    source, is_object = toy_parts(keep_every=20)
    editable = EditableGaussians(source, is_object)
    return Growth(cfg.growth, editable, extent=EXTENT, num_steps=cfg.num_steps, seed=0), cfg.num_steps


@pytest.mark.parametrize(("config", "count"), [("ssd-gs-sd15", 14), ("add-gs", 7)])
@pytest.mark.parametrize("steps", [100, 300, 500, 1500, 3000, 5000])
def test_it_grows_as_often_in_a_run_of_any_length(config, count, steps):
    growth, num_steps = growth_of(config, f"steps={steps}")
    due = [step for step in range(num_steps) if growth.is_due(step)]
    assert len(due) == growth.num_growths(num_steps) == count
    assert 0.06 < due[0] / steps < due[-1] / steps < 0.95


@pytest.mark.parametrize(
    ("config", "steps", "due"),
    [
        ("ssd-gs-sd15", 1500, range(100, 1401, 100)),
        ("add-gs", 1500, range(300, 1201, 150)),
        ("fit-gs", 3000, range(300, 2001, 100)),
    ],
)
def test_at_its_own_length_a_config_grows_at_the_published_steps(config, steps, due):
    growth, _ = growth_of(config, f"steps={steps}")
    assert [step for step in range(steps) if growth.is_due(step)] == list(due)


def test_opacities_are_reset_at_a_share_of_the_run():
    for num_steps in (10, 1500):
        editable, growth, optimizer = growing("default", reset_every=0.5, stop=2, num_steps=num_steps)
        growth.before_step(num_steps // 2 - 1, optimizer)
        assert editable.current().opacities.max() > 0.5
        growth.before_step(num_steps // 2, optimizer)
        assert editable.current().opacities.max() < 0.011


def test_steps_that_a_run_never_reaches_are_said(caplog):
    cfg = OmegaConf.structured(GrowthConfig(kind="default", start=100, every=100, stop=1400))
    check_growth(cfg, 1500)
    assert not caplog.records
    check_growth(cfg, 60)
    (record,) = caplog.records
    assert record.message.startswith("Nothing grows in 60 steps: system.growth starts at 100 and goes by 100.")


def test_gradients_are_gsplat_s():
    """The mean over visible views of the screen gradient, in units of half the picture, as its strategy keeps it."""
    from gsplat.strategy import DefaultStrategy

    editable, growth, _ = growing("hierarchical")
    editable.grad_sums.zero_()
    editable.grad_counts.zero_()
    info = observe(growth)
    params = {"means": editable.scene().means}
    state = DefaultStrategy().initialize_state()
    DefaultStrategy()._update_state(params, state, info, packed=True)
    ours = slice(editable.num_fixed, None)
    assert editable.grad_counts.max() == 2
    torch.testing.assert_close(editable.grad_sums, state["grad2d"][ours])
    torch.testing.assert_close(editable.grad_counts, state["count"][ours])


def test_a_gradient_scaler_is_taken_out_and_what_is_not_finite_does_not_count():
    editable, growth, _ = growing("hierarchical")
    editable.grad_sums.zero_()
    observe(growth)
    once = editable.grad_sums.clone()
    editable.grad_sums.zero_()
    observe(growth, factor=65536.0, loss_scale=65536.0)
    torch.testing.assert_close(editable.grad_sums, once)
    counts = editable.grad_counts.clone()
    observe(growth, factor=float("inf"))
    assert torch.isfinite(editable.grad_sums).all()
    assert (editable.grad_counts <= counts + 2).all()
    sums, counts = editable.grad_sums.clone(), editable.grad_counts.clone()
    observe(growth, is_good=False)
    assert torch.equal(editable.grad_sums, sums)
    assert torch.equal(editable.grad_counts, counts)


@pytest.mark.parametrize(
    ("plugin", "scale"), [({"scaler": SimpleNamespace(get_scale=lambda: 1024.0)}, 1024.0), ({}, 1.0)]
)
def test_every_system_takes_the_trainer_s_gradient_scaler_out(plugin, scale):
    """What the trainer multiplies a loss with reaches the edit, whose growth divides by it."""
    recorded = []
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(**plugin), optimizers=[])
    run = SimpleNamespace(
        trainer=trainer, optimizers=lambda: None, _backward=None, true_global_step=0,
        edit=SimpleNamespace(step=lambda *args, loss_scale, **words: recorded.append(loss_scale) or {}),
    )  # fmt: skip
    EditSystem.training_step(run, {}, 0)
    assert recorded == [scale]


@pytest.mark.parametrize("kind", ["hierarchical", "default"])
def test_it_grows_inside_the_selection_and_keeps_everything_in_step(kind):
    editable, growth, optimizer = growing(kind, grad_above=1e-7, top_share=0.5)
    count, fixed = len(editable), editable.num_fixed
    growth.before_step(1, optimizer)
    assert len(editable) == count
    growth.before_step(2, optimizer)
    assert count < len(editable) <= 2 * count
    assert editable.num_fixed == fixed
    is_new = editable.generations == 1
    assert 0 < is_new.sum() < len(editable)
    assert not editable.grad_sums.any()
    assert editable.drift("means") == 0
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        assert any(parameter is ours for ours in editable.selected.values())
        moments = optimizer.state[parameter]["exp_avg"]
        assert moments.shape == parameter.shape
        assert not moments[is_new].any()
        assert moments[~is_new].any()
    observe(growth)
    optimizer.step()
    assert editable.is_finite()
    growth.before_step(4, optimizer)
    assert editable.generations.max() == 2


@pytest.mark.parametrize("kind", ["hierarchical", "default"])
def test_the_cap_is_hard(kind):
    source, _ = toy_parts(keep_every=20)
    editable, growth, optimizer = growing(kind, grad_above=1e-9, top_share=1.0, max_gaussians=len(source) + 5)
    for step in (2, 4, 6):
        growth.before_step(step, optimizer)
        observe(growth)
        assert len(editable.result()) <= len(source) + 5
    assert len(editable.result()) > len(source)


def test_faint_and_overgrown_ones_leave_but_what_was_large_stays():
    source, is_object = toy_parts(keep_every=20)
    scales = source.log_scales.clone()
    rows = is_object.nonzero()[:, 0]
    scales[rows[0]] = 1.0
    editable = EditableGaussians(source.replace(log_scales=scales), is_object)
    cfg = GrowthConfig(kind="hierarchical", start=1, every=2, least_grad=1e9)
    growth = Growth(cfg, editable, extent=EXTENT, num_steps=10, seed=0)
    with torch.no_grad():
        editable.selected["logit_opacities"][1] = -9.0
        editable.selected["log_scales"][2] = 1.0
    optimizer = VisibleAdam([{"params": [editable.selected["means"]], "lr": 0.1}])
    growth.before_step(2, optimizer)
    assert editable.rows.tolist() == [row for i, row in enumerate(rows.tolist()) if i not in (1, 2)]


def test_opacities_are_reset_with_their_moments():
    editable, growth, optimizer = growing("default", reset_every=4, stop=2)
    growth.before_step(3, optimizer)
    assert editable.current().opacities.max() > 0.5
    growth.before_step(4, optimizer)
    parameter = editable.selected["logit_opacities"]
    torch.testing.assert_close(editable.current().opacities.max().item(), 0.01, atol=1e-4, rtol=0)
    assert not optimizer.state[parameter]["exp_avg"].any()
    assert optimizer.state[editable.selected["means"]]["exp_avg"].any()


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("every", 0, 0.06667),
        ("every", 0.0, 0.06667),
        ("every", 1.5, 0.06667),
        ("start", -1, 0.06),
        ("stop", 1.2, 0.94),
        ("reset_every", -0.5, 0),
        ("top_share", 0.0, 0.01),
        ("max_gaussians", 0, 1_000_000),
        ("stop", 50, 0.06),
        ("stop", 0.05, 0.06),
    ],
)
def test_keys_out_of_range_are_refused(key, value, fix):
    cfg = OmegaConf.structured(GrowthConfig(kind="default"))
    check_growth(cfg, 1500)
    cfg[key] = value
    with pytest.raises(ConfigError) as error:
        check_growth(cfg, 1500)
    assert error.value.what == f"system.growth.{key} is {value}"
    assert error.value.fix == f"set system.growth.{key}={fix}"


@pytest.fixture(scope="module")
def grown(world, tmp_path_factory):
    """A run of five steps with two growths."""
    more = FAST | {"system.growth.kind": "hierarchical"}
    return run(world, tmp_path_factory.mktemp("grown"), "train", "test", "export", **more)


def test_unselected_rows_are_the_same_bytes(grown, world):
    code, folder = grown
    assert code == 0
    before, after = vertex_rows(world / "scene.ply"), vertex_rows(folder / "save" / "edited.ply")
    is_selected = load_selection(folder / "save" / "selection.npy", len(before))
    is_ours = load_selection(folder / "save" / "edited_selection.npy", len(after))
    assert len(after) > len(before)
    assert [row for row, ours in zip(after, is_ours, strict=True) if not ours] == [
        row for row, ours in zip(before, is_selected, strict=True) if not ours
    ]
    assert is_ours[len(before) :].all()


def test_resuming_between_growths_gives_the_same_bytes(grown, world, tmp_path):
    """Step 2 is when the first growth is due: it is in neither checkpoint nor lost."""
    more = FAST | {"system.growth.kind": "hierarchical"}
    whole = (grown[1] / "save" / "edited.ply").read_bytes()
    for halt in (2, 3):
        out = tmp_path / str(halt)
        run(world, out, "train", **more, **{"trainer.max_steps": halt})
        code, folder = run(world, out, "train", "export", resume="auto", **more)
        assert code == 0
        assert (folder / "save" / "edited.ply").read_bytes() == whole, halt


def test_gsplat_s_strategy_in_a_run_with_colour_steps_by_visible_weight(world, tmp_path):
    more = FAST | {
        "system.growth.kind": "default",
        "system.growth.grad_above": 1e-6,
        "system.color_steps": "visible-weight",
    }
    system = fit(world, tmp_path, **more)
    source, result = load_gaussians(world / "scene.ply"), system.job.editable.result()
    assert len(result) > len(source)
    kept = ~system.job.editable.result_selection()
    assert torch.equal(result.means[kept], source.means[~system.job.editable.is_selected])
