"""Every config in the repository is complete: known keys, right types, registered names."""

import pytest

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete

FOLDERS = ("configs", "configs/baselines", "configs/smoke")
CONFIGS = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).glob("*.yaml"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_config_is_complete(path):
    cfg = complete(load_config(path))
    assert cfg.system.num_steps == cfg.trainer.max_steps
    if "guidance" in cfg.system:
        assert cfg.system.guidance.score.name
        assert cfg.system.prompt_processor.target_prompt


def test_the_smoke_configs_are_the_default_made_short():
    full, short = (complete(load_config(REPOSITORY / "configs" / name)) for name in ("ssd-gs.yaml", "smoke/edit.yaml"))
    assert short.system.guidance.model == full.system.guidance.model
    assert short.system.scene == full.system.scene
    assert short.system.num_steps == 4
    assert short.trial_dir.startswith("outputs/smoke/")
