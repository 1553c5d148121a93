"""How large an editor draws the old object and where the new one stands, and what is made of that."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from tests.oracle import NoNetwork
from threestudio_ssd.cameras.orbit import Orbit
from threestudio_ssd.editors import EditorPrompts, ImageEditor
from threestudio_ssd.editors.consistency import Independent
from threestudio_ssd.editors.loaded import LoadedEditor
from threestudio_ssd.masks.region import region_around
from threestudio_ssd.refits.carver import Carver
from threestudio_ssd.refits.editing import ViewEditing
from threestudio_ssd.refits.placement import (
    FARTHEST,
    RANGE,
    drawn_size,
    frame_in,
    measured,
    redrawing,
    resize_factor,
    resized,
    way_back,
)
from threestudio_ssd.refits.scene_refit import CarveConfig, SnapConfig
from threestudio_ssd.rendering import coverage, render_bchw

UP = torch.tensor([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Painter(ImageEditor):
    """Shows the scene with its ball in another size, if it is asked for the ball; else nothing but the ground."""

    scenes: Any = None

    def load(self, keys, device, prompts, words):
        raise NotImplementedError

    def edit(self, network, views):
        assert set(views.words) == {"seen from near"}
        return render_bchw(self.scenes[network.prompts.target == "a ball"], views.cameras, torch.zeros(3))


@pytest.fixture(scope="module")
def place():
    scene, is_object = toy_parts(keep_every=1)
    return scene, is_object, region_around(scene.means[is_object], UP)


def joined(empty, thing):
    """Both in one scene, and which of its Gaussians are the thing."""
    fields = {name: torch.cat([getattr(empty, name), value]) for name, value in thing.parameters().items()}
    whole = empty.replace(**fields)
    return whole, torch.arange(len(whole)) >= len(empty)


def carver_of(place, factor):
    scene, is_object, region = place
    cameras, empty = toy_cameras(12, 64), scene.select(~is_object)
    painted = scene.select(is_object)
    painted = resized(painted, region, factor)
    network = NoNetwork(EditorPrompts("a ball", "a cone", "ugly"))
    editor = LoadedEditor(Painter((empty, joined(empty, painted)[0])), network)
    words = (["seen from afar"] * len(cameras), ["seen from near"] * len(cameras))
    editing = ViewEditing(
        editor, cameras, region, scene, empty, torch.zeros(3), SnapConfig(), list(range(len(cameras))), *words
    )
    return Carver(editing, scene, is_object, CarveConfig())


def test_the_frame_of_the_new_object_has_its_foot_where_the_old_one_stood_and_its_front_where_it_is_said(place):
    scene, is_object, region = place
    orbit = Orbit(torch.zeros(3), 5.0, UP, torch.ones(3))
    frame, turned = frame_in(region, 0.0, orbit), frame_in(region, 90.0, orbit)
    ball = scene.means[is_object]
    middle = (ball.amin(dim=0) + ball.amax(dim=0)) / 2
    torch.testing.assert_close(frame.center, torch.tensor([*middle[:2].tolist(), float(ball[:, 2].min())]), atol=0.05,
                               rtol=0)  # fmt: skip
    assert frame.unit == 5.0
    torch.testing.assert_close(frame.axes, torch.eye(3), atol=1e-5, rtol=0)
    quarter = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(turned.axes, quarter, atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Knows(Independent):
    """Knows balls of one size in the frame's unit: the scene's, where that is ``unit``."""

    parts: Any = None
    unit: float = 5.0

    def drawn(self, network, views, own):
        ball, empty, region = self.parts
        return coverage(*joined(empty, resized(ball, region, views.frame.unit / self.unit)), views.cameras)[:, None]


@pytest.mark.parametrize("unit", [4.6, 5.0, 5.4, 9.0])
def test_the_unit_of_the_frame_is_that_in_which_the_old_object_is_as_large_as_it_is(place, unit):
    scene, is_object, region = place
    ball, empty = scene.select(is_object), scene.select(~is_object)
    cameras, frame = toy_cameras(12, 64), frame_in(region, 0.0, Orbit(torch.zeros(3), 5.0, UP, torch.ones(3)))
    for consistency in (Knows((ball, empty, region), unit), Independent()):
        editor = LoadedEditor(Painter(), NoNetwork(EditorPrompts("a ball", "a cone")), consistency=consistency)
        editing = ViewEditing(
            editor, cameras, region, scene, empty, torch.zeros(3), SnapConfig(), list(range(12)), frame=frame
        )
        carver = Carver(editing, scene, is_object, CarveConfig())
        expected = min(unit, 5.0 * RANGE[1]) if isinstance(consistency, Knows) else 5.0
        assert measured(carver).unit == pytest.approx(expected, rel=0.02)
        assert measured(replace(carver, editing=replace(editing, frame=None))) is None


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.15])
def test_the_old_object_is_drawn_as_large_as_the_editor_makes_it(place, factor):
    assert drawn_size(carver_of(place, factor), 0.98) == pytest.approx(factor, rel=0.03)


def test_an_editor_that_draws_nothing_says_nothing_of_sizes(place):
    carver = carver_of(place, 1.0)
    carver.editing.editor.network.prompts = EditorPrompts("", "a cone")
    assert resize_factor(drawn_size(carver, 0.98)) == 1.0


def test_the_old_object_is_asked_for_by_the_source_prompt():
    assert redrawing(EditorPrompts("a ball", "a cone", "ugly")) == EditorPrompts("a ball", "a ball", "ugly")


def test_the_new_object_gets_part_of_the_error_and_never_much():
    factors = [resize_factor(size) for size in (0.5, 0.9, 1.0, 1.1, 2.0)]
    assert factors == sorted(factors, reverse=True)
    assert factors[2] == 1.0
    assert 1 / 1.1 < factors[3] < 1 < factors[1] < 1 / 0.9
    assert factors[0] == RANGE[1]
    assert factors[4] == RANGE[0]


@pytest.mark.parametrize("factor", [0.9, 1.2])
def test_an_object_is_resized_about_its_foot(place, factor):
    scene, is_object, region = place
    ball = scene.select(is_object)
    larger = resized(ball, region, factor)
    foot = ball.means[:, 2].quantile(0.005)
    assert torch.allclose(larger.means[:, 2] - foot, factor * (ball.means[:, 2] - foot), atol=0.02)
    middles = [(each.means[:, :2].amax(dim=0) + each.means[:, :2].amin(dim=0)) / 2 for each in (ball, larger)]
    assert (middles[1] - middles[0]).abs().max() < 0.02
    assert torch.allclose(larger.log_scales.exp(), factor * ball.log_scales.exp())
    for name in ("raw_quats", "logit_opacities", "sh0"):
        assert torch.equal(getattr(larger, name), getattr(ball, name))


@pytest.mark.parametrize("away", [[0.1, 0.0, 0.0], [-0.06, 0.08, 0.1], [0.0, 0.0, 0.0]])
def test_an_object_is_moved_back_to_where_the_old_one_stood_but_not_up_or_down(place, away):
    scene, is_object, _ = place
    ball = scene.select(is_object)
    way = way_back(carver_of(place, 1.0), ball.replace(means=ball.means + torch.tensor(away)))
    assert way[2] == 0
    assert torch.allclose(way[:2], -torch.tensor(away[:2]), atol=0.015)


def test_no_object_is_moved_far_and_none_that_is_not_there(place):
    scene, is_object, region = place
    ball, carver = scene.select(is_object), carver_of(place, 1.0)
    way = way_back(carver, ball.replace(means=ball.means + torch.tensor([0.5, 0.0, 0.0])))
    assert float((way / region.half).norm()) == pytest.approx(FARTHEST, rel=1e-3)
    unseen = ball.replace(logit_opacities=ball.logit_opacities - 20)
    assert not way_back(carver, unseen).any()
