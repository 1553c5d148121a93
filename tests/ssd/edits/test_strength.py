"""One word for how strong an edit is: what it does to keys, that 1 does nothing, that results grow with it."""

import sys
from itertools import pairwise

import pytest
import torch
from omegaconf import OmegaConf

import threestudio_ssd as ssd
from tests.edit_world import REPOSITORY, SOURCE, TARGET
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.benchmarks.toy.trials import Trial, scene_batch
from threestudio_ssd.edits.scene_edit import learning_rates_of
from threestudio_ssd.edits.strength import at_strength, strength_of_round, times
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.guidance import build_score
from threestudio_ssd.metrics import edit_regions, mean_psnr
from threestudio_ssd.refits import rounds
from threestudio_ssd.toyworld import PART_OBJECT, build_scene
from threestudio_ssd.toyworld.edits import toy_edit
from threestudio_ssd.toyworld.judge import luminance_slope
from threestudio_ssd.toyworld.truth import part_coverage
from threestudio_ssd.toyworld.views import held_out_orbit


def system(*changes, config="ssd-gs"):
    return complete(load_config(REPOSITORY / f"configs/{config}.yaml", cli_args=changes)).system


@pytest.mark.parametrize("config", ["ssd-gs", "ssd-image", "smoke/edit", "published/ssd-sd21"])
def test_at_1_every_key_is_the_config_s(config):
    cfg = system(config=config)
    assert at_strength(cfg) is cfg
    one = [rounds.Round(0.9), rounds.Round(0.02, max_strength=0.98)]
    assert rounds.at_strength(one, 1) == one


def test_below_1_rates_shrink_and_the_score_stays():
    cfg = at_strength(system("strength=0.5"))
    assert cfg.color_way == 3.15
    assert cfg.guidance.score == system().guidance.score
    free = system("strength=0.5", config="ssd-gs-sd21")
    assert learning_rates_of(at_strength(free))["means"] == [0, 0.8e-4, 0.8e-5, free.num_steps]
    assert at_strength(free).learning_rates.shN == 0.5 * free.learning_rates.shN


def test_above_1_the_score_asks_for_more_and_rates_stay():
    cfg, usual = at_strength(system("strength=2")), build_score(system().guidance.score)
    assert cfg.color_way == 6.3
    strong = build_score(cfg.guidance.score)
    assert strong.cross_prompt_weight == 4 * usual.cross_prompt_weight
    assert strong.settle_guidance == 4 * usual.settle_guidance
    assert strong.enhance_weight == usual.enhance_weight
    dds = build_score(at_strength(system("strength=1.5", config="baselines/dds")).guidance.score)
    assert dds.guidance_scale == 7.5 * 1.5**2


def test_schedules_are_multiplied_value_by_value():
    assert times(3, 0.5) == 1.5
    assert times([4.0, 2.0, 100], 0.5) == [2.0, 1.0, 100]
    assert times([10, 4.0, 2.0, 100, 8.0, 200], 0.5) == [10, 2.0, 1.0, 100, 4.0, 200]


def test_rounds_go_less_far_or_leave_less():
    assert strength_of_round(0.8, 0.5) == 0.4
    assert strength_of_round(0.8, 2) == pytest.approx(0.9)
    assert 0 < strength_of_round(0.8, 0) < 1e-3
    drawn = rounds.at_strength([rounds.Round(0.2, max_strength=0.8), rounds.Round(0.5)], 0.5)
    assert [(each.strength, each.max_strength) for each in drawn] == [(0.1, 0.4), (0.25, 0)]


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan")])
def test_out_of_range_is_refused(strength):
    cfg = OmegaConf.merge(system(), {"strength": strength})
    message = rf"strength is {strength:g}; expected from 0 to 2; set strength=1, which leaves the config as it is"
    with pytest.raises(ConfigError, match=message):
        at_strength(cfg)


def test_a_preset_is_one_word_and_any_key_overrides_it():
    assert system("preset=subtle").strength == 0.5
    assert system("preset=strong").strength == 1.5
    assert system("preset=strong", "strength=1.2").strength == 1.2
    assert system("preset=style").edit_kind == "relight"
    assert system("preset=local").guidance.score.name == "ssd-local"
    with pytest.raises(ValueError, match="system.preset is 'lokal'; expected one of: none, local, style"):
        system("preset=lokal")


def test_a_scene_changes_more_the_stronger_the_edit_and_at_0_not_visibly(world):
    def edited(strength):
        edit = ssd.edit_scene(
            world / "scene.ply", cameras=world / "cameras.json", source=SOURCE, target=TARGET, model=world / "model",
            mask=ssd.Mask(picture=str(world / "masks")), steps=3, strength=strength, config="configs/smoke/edit.yaml",
        )  # fmt: skip
        edit.run()
        return edit.result(), edit.source, edit.is_selected

    changes = []
    for strength in (0, 0.5, None):
        after, before, is_selected = edited(strength)
        moved = (after.sh0 - before.sh0).abs()
        assert torch.equal(after.sh0[~is_selected], before.sh0[~is_selected])
        changes.append(float(moved[is_selected].mean()))
    assert changes[0] < 1e-4 < changes[1] < changes[2]


def figures_of(trials, *changes, use_masks):
    """Per trial of 100 steps: change inside, slope of luminance, PSNR to the truth inside, to the source outside."""
    cfg = complete(load_config(REPOSITORY / "configs/ssd-gs.yaml", cli_args=["steps=100", *changes]))
    batch = scene_batch(trials, cfg, use_masks=use_masks)
    batch.edit.prepare()
    batch.edit.make_steps()
    rows = []
    for trial, truth, images in zip(trials, batch.truths, batch.images(), strict=True):
        toy = build_scene(trial.edit.source, trial.scene_seed)
        inside, outside = edit_regions(part_coverage(toy, PART_OBJECT, held_out_orbit(images.shape[-1])))
        change = float((images - truth.source).abs().mean(1)[inside].mean())
        near, kept = mean_psnr(images, truth.target, inside), mean_psnr(images, truth.source, outside)
        rows.append((change, luminance_slope(images, truth), near, kept))
        figures = f"change {change:.3f}, to the truth {near:.1f} dB, slope {rows[-1][1]:.2f}, outside {kept:.1f} dB"
        sys.stdout.write(f"{' '.join(changes)} {trial.edit.name} {trial.seed}: {figures}\n")
    return rows


@pytest.mark.slow
def test_on_toy_edits_the_change_grows_with_the_strength_and_the_rest_stays():
    """The figures of docs/steering.md: three masked edits of 100 steps at four strengths; -s shows them."""
    trials = [Trial(toy_edit(name), 0, 3) for name in ("blue-ball", "red-car", "purple-mushroom")]
    figures = [figures_of(trials, f"strength={strength}", use_masks=True) for strength in (0.5, 1, 1.5, 2)]
    assert min(kept for rows in figures for *_, kept in rows) > 60
    for weaker, stronger in pairwise(figures):
        assert all(less[0] < more[0] for less, more in zip(weaker, stronger, strict=True))


@pytest.mark.slow
def test_without_a_mask_local_leaks_less_than_the_default_and_is_as_near_to_the_truth():
    """The figures of docs/steering.md: five edits of 100 steps, two seeds; -s shows them."""
    edits = ("blue-ball", "red-car", "purple-mushroom", "striped-cylinder", "plain-house")
    trials = [Trial(toy_edit(name), seed, 3 + seed) for seed in (0, 1) for name in edits]
    usual, local = (figures_of(trials, f"preset={name}", use_masks=False) for name in ("none", "local"))
    gains = [more[3] - less[3] for less, more in zip(usual, local, strict=True)]
    assert sum(gain > 0 for gain in gains) >= 8
    assert min(gains) > -0.5
    assert sum(row[2] for row in local) > sum(row[2] for row in usual)
