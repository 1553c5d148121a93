"""``make soak``: a long run in one process; after its first tenth neither memory nor open files may grow.

python -m tests.torture.soak --steps 10000
"""

import argparse
import gc
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

MOST_GROWTH = 0.02
"""Share of the memory at a tenth of the run that it may grow by until the end."""


def soak(folder: Path, num_steps: int) -> tuple[list[tuple[int, float, int]], int]:
    """Run an edit with growth off, checkpoints and pictures on.

    Args:
        folder: Where it may write.
        num_steps: Its length.

    Returns:
        Step, resident memory in bytes and open files, at each tenth of the run; and the exit code.
    """
    from pytorch_lightning.callbacks import Callback

    from tests.edit_world import experiment, write_world
    from threestudio import trainer as runs

    process, rows = psutil.Process(), []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, *unused):
            if trainer.global_step % (num_steps // 10) == 0:
                gc.collect()
                files = process.num_fds() if hasattr(process, "num_fds") else len(process.open_files())
                rows.append((trainer.global_step, process.memory_info().rss, files))

    build = runs.build_trainer

    def watched(*args, **kwargs):
        trainer = build(*args, **kwargs)
        trainer.callbacks.append(Watch())
        return trainer

    runs.build_trainer = watched
    try:
        (folder / "world").mkdir()
        words = {
            "trainer.enable_progress_bar": "false", "steps": num_steps, "tag": "soak",
            "checkpoint.every_n_train_steps": max(2, num_steps // 50), "system.preview_every": max(2, num_steps // 20),
            "trainer.log_every_n_steps": 10,
        }  # fmt: skip
        cfg = experiment(write_world(folder / "world"), folder / "out", **words)
        return rows, runs.run_experiment(cfg, ["train", "test", "export"])
    finally:
        runs.build_trainer = build


def faults_of(rows: list[tuple[int, float, int]]) -> list[str]:
    """What grew between a tenth of the run and its end."""
    (_, memory, files), (_, last_memory, last_files) = rows[0], rows[-1]
    faults = []
    if last_memory > (1 + MOST_GROWTH) * memory:
        faults.append(f"memory grew by {last_memory / memory - 1:.1%}")
    if last_files > files:
        faults.append(f"{last_files - files} more files are open")
    return faults


def main(argv: list[str] | None = None) -> int:
    """Soak, print the rows, and say what grew; 1 if anything did."""
    import threestudio

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args(argv)
    threestudio.load_plugins()
    begin = time.monotonic()
    with TemporaryDirectory() as name:
        rows, code = soak(Path(name), args.steps)
    for step, memory, files in rows:
        sys.stdout.write(f"step {step:>6}: {memory / 1e6:.1f} MB, {files} open files\n")
    faults = faults_of(rows)
    sys.stdout.write(
        f"exit code {code}, {(time.monotonic() - begin) / 60:.1f} minutes; {'; '.join(faults) or 'steady'}\n"
    )
    return int(bool(faults) or code not in (0, 3))


if __name__ == "__main__":
    sys.exit(main())
