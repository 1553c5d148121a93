"""Where things are in a run's folder, and which folder ``--resume`` means; quick to import."""

from pathlib import Path
from typing import Any

CONFIG_OF_RUN = Path("configs", "parsed.yaml")
"""Where a run folder keeps its config."""
NAMES_A_FOLDER = ("name", "tag", "exp_root_dir", "timestamp", "use_timestamp")
"""Keys that say which folder a run is in."""


def folder_of_run(resume: str | Path) -> Path:
    """The run folder that ``--resume`` names: itself, or the one that a checkpoint lies in."""
    path = Path(resume)
    if path.is_dir():
        return path
    return (path.absolute() if path.parent == Path() else path).parent.parent


def set_run_folder(cfg: Any, run_dir: Path) -> None:
    """Have a run of this config take place in a folder.

    Args:
        cfg: An ``ExperimentConfig``.
        run_dir: The folder.
    """
    cfg.trial_dir, cfg.trial_name, cfg.exp_dir = str(run_dir), run_dir.absolute().name, str(run_dir.parent)
