"""Every config in the repository is complete: known keys, right types, registered names."""

from dataclasses import fields

import pytest

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.masks import MaskConfig

FOLDERS = ("configs", "configs/baselines", "configs/smoke")
CONFIGS = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).glob("*.yaml"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_config_is_complete(path):
    cfg = complete(load_config(path))
    assert cfg.system.num_steps == cfg.trainer.max_steps
    if "guidance" in cfg.system:
        assert cfg.system.guidance.score.name
        assert cfg.system.prompt_processor.target_prompt


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_key_of_a_mask_can_be_set_at_the_top(path):
    """Where Gaussians are selected, the advice ``set mask.KEY=...`` works, and the defaults are the code's."""
    plain = load_config(path).system
    if "mask" not in plain:
        assert plain.get("scene") is None or path.stem.endswith("nerf-splat")  # a fit: nothing to select from
        return
    assert set(plain.mask) == {field.name for field in fields(MaskConfig)}
    for name in ("threshold", "num_views", "view_size", "grow", "clean"):
        assert plain.mask[name] == getattr(MaskConfig, name)
    chosen = load_config(path, cli_args=["mask.threshold=0.3", "mask.num_views=8", "mask.view_size=128"]).system.mask
    assert (chosen.threshold, chosen.num_views, chosen.view_size) == (0.3, 8, 128)


def test_the_smoke_configs_are_the_default_made_short():
    full, short = (complete(load_config(REPOSITORY / "configs" / name)) for name in ("ssd-gs.yaml", "smoke/edit.yaml"))
    assert short.system.guidance.model == full.system.guidance.model
    assert short.system.scene == full.system.scene
    assert short.system.num_steps == 4
    assert short.trial_dir.startswith("outputs/smoke/")
