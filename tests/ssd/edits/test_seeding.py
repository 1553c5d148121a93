"""Seeds: where they are, what they look like, and that nothing leaves their region."""

import pytest
import torch

from tests.edit_world import fit, toy_parts
from threestudio_ssd.edits.seeding import SeedConfig, check_seeds, seeded
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians import rgbs_from_sh0
from threestudio_ssd.gaussians.io import load_gaussians

UP = torch.tensor([0.0, 0.0, 1.0])


def test_seeds_lie_faint_in_the_region_in_colors_of_the_selection():
    scene, is_object = toy_parts()
    whole, is_moving, region = seeded(SeedConfig(count=300, opacity=0.05), scene, is_object, UP, 7)
    seeds = whole.select(slice(len(scene), None))
    assert len(seeds) == 300
    assert is_moving.sum() == is_object.sum() + 300
    assert region.contains(seeds.means).all()
    assert torch.allclose(seeds.opacities, torch.tensor(0.05))
    heights = (seeds.means[:, 2] - region.center[2]) / region.half[2]
    assert heights.min() < -0.9
    assert heights.max() > 0.9
    colors = rgbs_from_sh0(scene.select(is_object).sh0[:, 0]).clamp(0, 1)
    assert torch.cdist(rgbs_from_sh0(seeds.sh0[:, 0]), colors).amin(dim=1).max() < 1e-4
    again, _, _ = seeded(SeedConfig(count=300, opacity=0.05), scene, is_object, UP, 7)
    assert torch.equal(again.means, whole.means)
    other, _, _ = seeded(SeedConfig(count=300, opacity=0.05), scene, is_object, UP, 8)
    assert not torch.equal(other.means, whole.means)


@pytest.mark.parametrize(
    ("key", "value"), [("count", -1), ("opacity", 0.0), ("opacity", 1.0), ("room", [1.0]), ("room", [0.9, 2.0])]
)
def test_values_that_cannot_be_used_are_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=f"system.seeds.{key} is"):
        check_seeds("system.seeds", SeedConfig(**{key: value}))


def test_an_edit_with_seeds_keeps_the_rest_and_stays_in_its_region(world, tmp_path):
    system = fit(world, tmp_path, **{
        "system.seeds": {"count": 50}, "system.learning_rates.means": 1.0, "system.learning_rates.logit_opacities": 0.1,
    })  # fmt: skip
    job, result = system.job, system.job.editable.result()
    source = load_gaussians(world / "scene.ply")
    assert len(result) == len(source) + 50
    kept = ~job.selection.is_selected
    assert torch.equal(result.means[: len(source)][kept], source.means[kept])
    moved = result.means[len(source) :]
    assert job.region is not None
    places = job.region.unit(moved).abs()
    assert places[:, :2].norm(dim=1).max() < 1 + 1e-4
    assert places[:, 2].max() < 1 + 1e-4
    both, is_there = job.selection_in_view()
    assert len(both) == len(is_there) == len(source) + len(job.editable)
