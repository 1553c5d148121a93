"""``--run evaluate``: figures of any edit; with a benchmark's config, the benchmark."""

import sys
from dataclasses import dataclass

from omegaconf import DictConfig

import threestudio
from threestudio.utils.base import Configurable

from ..errors import ConfigError
from ..report.evaluate_config import EvaluateConfig


@threestudio.register("app-evaluate")
class Evaluate(Configurable):
    """Measure an edit: BEFORE AFTER [CAMERAS], splats of any tool; or a benchmark: --config configs/bench/toy.yaml."""

    needs_config = False
    positional = ("before", "after", "cameras")

    @dataclass
    class Config(EvaluateConfig):
        """Keys of a measurement."""

    cfg: Config

    def __call__(self, experiment: DictConfig | None) -> int:
        """Measure, or run the benchmark of the config."""
        if self.cfg.before or self.cfg.after:
            from ..report.evaluate import write_evaluation

            sys.stdout.write(write_evaluation(self.cfg))
            return 0
        if experiment is None or experiment.system_type != "toy-benchmark":
            raise ConfigError(
                what="--run evaluate was given no splats",
                expected="BEFORE AFTER [CAMERAS], or --config of a benchmark",
                fix="write --run evaluate before.ply after.ply cameras.json, or --config configs/bench/toy.yaml",
            )
        from ..benchmarks.toy.run import run_benchmark

        sys.stdout.write(f"{run_benchmark(experiment)}\n")
        return 0
