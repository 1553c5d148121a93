"""``make torture``: every system killed at random moments; each must end as if nobody had touched it.

python -m tests.torture.kills --kills 20 --minutes 40
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import threestudio
from tests.torture.runs import Torment, torments

STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138}
"""Exit codes of runs that a signal ends; after SIGKILL there is nobody to say anything."""


def reference(torment: Torment, folder: Path) -> tuple[dict[str, bytes], float]:
    """The results of a run that nobody touches, and how long it takes, seconds.

    Raises:
        RuntimeError: If it fails.
    """
    begin = time.monotonic()
    process = torment.start(folder)
    _, errors = process.communicate()
    if process.returncode not in (0, 3):  # a few steps need not change anything visible
        raise RuntimeError(f"exit code {process.returncode}: {errors[-2000:]}")
    return torment.results(folder), time.monotonic() - begin


def stop(process: subprocess.Popen, after: float, how: signal.Signals) -> bool:
    """Send a signal after so many seconds; whether the process was still there."""
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        return True
    return False


def torture(
    torment: Torment, folder: Path, kills: int, seed: int, deadline: float, signals: Iterator[signal.Signals]
) -> tuple[int, int, list[str]]:
    """Kill a system again and again, and let it go on.

    Args:
        torment: The system.
        folder: Where it may write.
        kills: How often.
        seed: Decides the moments.
        deadline: ``time.monotonic()`` after which no more are killed.
        signals: What to send, in this order.

    Returns:
        Kills it survived, kills there were, and what went wrong.
    """
    draws, faults = random.Random(seed), []
    expected, seconds = reference(torment, folder / "reference")
    here, survived, tried, pending = folder / "killed", 0, 0, 0
    while tried < kills or pending:
        process = torment.start(here)
        sent, is_over = None, tried >= kills or time.monotonic() > deadline
        if not is_over and stop(process, draws.uniform(0, 1.1 * seconds), sent := next(signals)):
            tried, pending = tried + 1, pending + 1
        else:
            sent = None
        _, errors = process.communicate()
        if process.returncode in (-signal.SIGKILL, STOPPED.get(sent, -signal.SIGKILL)):
            continue
        if sent is not None and process.returncode < 0:  # it came before anybody listened
            continue
        if process.returncode not in (0, 3):
            faults.append(f"exit code {process.returncode} after {sent}: {errors[-500:]}")
        elif (results := torment.results(here)) != expected:
            names = [name for name in expected.keys() | results.keys() if expected.get(name) != results.get(name)]
            faults.append(f"other bytes in {sorted(names)[:5]}")
        else:
            survived += pending
        left = [str(file) for file in here.rglob(".*.tmp*")]
        faults += [f"left behind: {left}"] if left and torment.app is None else []
        pending = 0
        shutil.rmtree(here, ignore_errors=True)
        if time.monotonic() > deadline:
            break
    return survived, tried, faults


def order(seed: int) -> Iterator[signal.Signals]:
    """Mostly what nobody can catch; now and then each of the others."""
    draws = random.Random(seed)
    while True:
        yield draws.choice([signal.SIGKILL] * 6 + list(STOPPED))


def main(argv: list[str] | None = None) -> int:
    """Torture all systems, two at a time, and print survived / tried of each; 1 if one did not survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each system")
    parser.add_argument("--minutes", type=float, default=40.0, help="after which no more are killed")
    parser.add_argument("--systems", default="", help="names with commas between; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="systems at a time")
    args = parser.parse_args(argv)
    threestudio.load_plugins()
    begin, is_bad = time.monotonic(), False
    with TemporaryDirectory() as name, ThreadPoolExecutor(args.jobs) as pool:
        every = torments(Path(name))
        chosen = args.systems.split(",") if args.systems else list(every)
        deadline = begin + 60 * args.minutes - 60
        jobs = {
            system: pool.submit(
                torture, every[system], Path(name) / "out" / system, args.kills, args.seed + place, deadline,
                order(args.seed + place),
            )
            for place, system in enumerate(chosen)
        }  # fmt: skip
        for system, job in jobs.items():
            survived, tried, faults = job.result()
            is_bad |= bool(faults) or survived < tried
            sys.stdout.write(f"{system:<10} {survived} / {tried}\n" + "".join(f"  {fault}\n" for fault in faults))
            sys.stdout.flush()
    sys.stdout.write(f"{(time.monotonic() - begin) / 60:.1f} minutes\n")
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
