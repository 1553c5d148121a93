"""Scores from the words of a config."""

import dataclasses
import typing

import pytest

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance.score_options import PRESETS, build_score
from threestudio_ssd.scores import SCORES, SDS, SSD, ssd_paper

NAMES = f"one of {', '.join([*SCORES, *PRESETS])}"


@pytest.mark.parametrize("name", SCORES)
def test_every_score_by_its_name_has_the_class_s_defaults(name):
    assert build_score({"name": name}) == SCORES[name]()


def test_presets():
    assert build_score({"name": "ssd-code"}) == SSD()
    assert build_score({"name": "ssd-paper"}) == ssd_paper()
    assert build_score({}) == SSD()


@pytest.mark.parametrize("name", [*SCORES, *PRESETS])
def test_every_field_of_every_score_can_be_set(name):
    base = PRESETS[name] if name in PRESETS else SCORES[name]()
    for field in dataclasses.fields(base):
        default = getattr(base, field.name)
        choices = typing.get_args(typing.get_type_hints(type(base))[field.name])
        value = choices[-1] if choices else not default if isinstance(default, bool) else type(default)(2)
        changed = build_score({"name": name, field.name: value})
        assert getattr(changed, field.name) == value
        assert dataclasses.replace(changed, **{field.name: default}) == base


def test_a_preset_keeps_its_other_fields():
    assert build_score({"name": "ssd-paper", "enhance_weight": 3}) == dataclasses.replace(
        ssd_paper(), enhance_weight=3.0
    )


def test_a_whole_number_becomes_a_weight():
    weight = build_score({"name": "ssd", "enhance_weight": 3}).enhance_weight
    assert weight == 3.0
    assert isinstance(weight, float)


@pytest.mark.parametrize(
    ("options", "what", "expected", "fix"),
    [
        ({"name": "ssdd"}, "system.guidance.score.name is 'ssdd'",
         NAMES, "did you mean ssd?"),
        ({"name": "ssd-pap"}, "system.guidance.score.name is 'ssd-pap'",
         NAMES, "did you mean ssd-paper?"),
        ({"name": "ssd", "enhance_wieght": 3},
         "system.guidance.score.enhance_wieght is not a field of the score ssd",
         "one of cross_prompt_weight, cross_trajectory_weight, enhance_weight, id_weight",
         "did you mean enhance_weight?"),
        ({"name": "dds", "enhance_weight": 3}, "system.guidance.score.enhance_weight is not a field of the score dds",
         "one of guidance_scale", "choose one of those for system.guidance.score"),
        ({"name": "ssd", "id_weight": "much"}, "system.guidance.score.id_weight is 'much'", "a number",
         "set system.guidance.score.id_weight=0.075"),
        ({"name": "ssd", "id_weight": True}, "system.guidance.score.id_weight is True", "a number",
         "set system.guidance.score.id_weight=0.075"),
        ({"name": "ssd", "id_weight": None}, "system.guidance.score.id_weight is None", "a number",
         "set system.guidance.score.id_weight=0.075"),
        ({"name": "sds", "weighting": 3}, "system.guidance.score.weighting is 3", "one of sigma2, uniform, fantasia3d",
         "choose one of those for system.guidance.score.weighting"),
        ({"name": "sds", "weighting": "sigma"}, "system.guidance.score.weighting is 'sigma'",
         "one of sigma2, uniform, fantasia3d", "did you mean sigma2?"),
        ({"name": "nfsd", "domain_timestep": 200.5}, "system.guidance.score.domain_timestep is 200.5", "a whole number",
         "set system.guidance.score.domain_timestep=200"),
        ({"name": "ssd", "id_weight": float("nan")}, "system.guidance.score.id_weight is nan", "a finite number",
         "set system.guidance.score.id_weight=0.075"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_word_for_word(options, what, expected, fix):
    with pytest.raises(ConfigError) as error:
        build_score(options)
    assert (error.value.what, error.value.expected, error.value.fix) == (what, expected, fix)


@pytest.mark.parametrize("name", ["sigma2", "uniform", "fantasia3d"])
def test_weighting_by_name(name):
    assert build_score({"name": "sds", "weighting": name}) == SDS(weighting=name)
    assert build_score({"name": "vsd", "weighting": name}).weighting == name
