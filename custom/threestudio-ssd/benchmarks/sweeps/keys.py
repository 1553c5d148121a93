"""The keys of a sweep: which settings it tries, and what its tables say of them."""

from dataclasses import dataclass, field
from typing import Literal

METRICS = (
    "clip_directional_similarity", "clip_similarity", "change_inside", "change_outside", "psnr_outside", "psnr",
)  # fmt: skip

Settings = list[dict]


@dataclass
class SweepKeys:
    """What varies. Where several of grid, zip, list and random are set, every combination of them is tried."""

    grid: dict = field(default_factory=dict)
    """Dotted key -> list of values; all combinations. A key ``a,b`` with values ``1,2`` sets several at once."""
    zip: dict = field(default_factory=dict)
    """Dotted key -> list of values; the first of each go together, then the second, and so on."""
    random: dict = field(default_factory=dict)
    """Dotted key -> {uniform: [low, high]}, {log_uniform: [low, high]} or {choice: [a, b, c]}; between whole numbers
    whole numbers are drawn."""
    count: int = 8
    """Draws of random, >= 1."""
    seed: int = 0
    """Of these draws."""
    labels: dict = field(default_factory=dict)
    """Dotted key -> what tables call it; without one, the last part of the key."""
    max_trials: int = 0
    """Only the first so many; 0: all."""
    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    """Figures of report.json that the tables show; those that no trial has are left out."""
    list: Settings = field(default_factory=list)
    """One group of dotted keys for each trial."""


@dataclass
class RunnerKeys:
    """Who runs the trials."""

    runner: Literal["local", "ray", "slurm"] = "local"
    """local: processes on this machine; ray: tasks of a Ray cluster; slurm: jobs of a Slurm cluster, by submitit."""
    workers: int = 1
    """Trials at a time, >= 1; on this machine they share its threads and GPUs."""
    shard: str = ""
    """3/8 makes the third eighth of the trials: eight such commands with one folder make all of them."""
    slurm: dict = field(default_factory=dict)
    """runner=slurm: what submitit's update_parameters takes, such as timeout_min and slurm_partition."""
