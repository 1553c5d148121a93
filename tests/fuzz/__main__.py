"""Breaks valid files until a reader answers with anything but success or one line: ``make fuzz``.

Each format has a process of its own, so that a crash or a hang costs only that. Inputs that reach lines which no input
reached before are kept and broken further. ``SECONDS=60`` gives each format a minute instead of ten, ``FORMATS="ply
sog"`` takes two of the formats, and ``SEED=1`` other random numbers. What was wrong is kept in ``outputs/fuzz``.
"""

import argparse
import contextlib
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

OUT = Path("outputs", "fuzz")
CORPUS = 400
SILENCE = 90.0
"""Seconds after which a process that tries no new input is stopped."""
HEADROOM = 3 << 30
"""Bytes of address space that a process may take beyond what it has after its imports."""


def main() -> int:
    """Fuzz the formats one after the other; returns how many gave a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("formats", nargs="*", help="names of formats; all if there is none")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.formats[0], args.seconds, args.seed)
    from tests.fuzz.targets import TARGETS

    names = args.formats or list(TARGETS)
    unknown = sorted(set(names) - set(TARGETS))
    if unknown:
        parser.error(f"no format is called {unknown[0]}; there are {', '.join(TARGETS)}")
    return min(sum(not fuzz(name, args.seconds, args.seed) for name in names), 100)


def fuzz(name: str, seconds: float, seed: int) -> bool:
    """Fuzz one format in a process of its own; returns whether every answer was right."""
    options = [name, "--worker", "--seconds", str(seconds), "--seed", str(seed)]
    current = _current(name)
    current.parent.mkdir(parents=True, exist_ok=True)
    current.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "tests.fuzz", *options])
    last = time.time() + 60  # it has to import everything first
    while process.poll() is None:
        time.sleep(0.2)
        with contextlib.suppress(FileNotFoundError):  # it has tried none yet, or has ended
            last = current.stat().st_mtime
        if time.time() - last > SILENCE:
            process.kill()
            process.wait()
    if process.returncode not in (0, 1):
        print(f"{name}: the process ended with {process.returncode}; its last input is {current}", flush=True)  # noqa: T201
    return process.returncode == 0


def _current(name: str) -> Path:
    return OUT / f"{name}.current"


def work(name: str, seconds: float, seed: int) -> int:
    """Break files of one format for so long; returns 1 if an answer was wrong."""
    import threestudio

    threestudio.load_plugins()
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.trial import trial

    target, rng = TARGETS[name], Random(f"{name}-{seed}")
    corpus, reached, problems, count = target.seeds(), set(), {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for data in corpus:
            path = Path(folder, "valid", target.file)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            target.read(path)
        _limit_memory()
        trace, until = _tracer(reached), time.monotonic() + seconds
        while time.monotonic() < until:
            data = rng.choice(corpus)
            for _ in range(rng.choice((1, 1, 2, 3))):
                data = target.mutate(rng, data)
            _current(name).write_bytes(data)
            lines, count = len(reached), count + 1
            sys.settrace(trace)
            try:
                problem = trial(target, data, Path(folder, "input"))
            finally:
                sys.settrace(None)
            if len(reached) > lines and len(data) < 200_000:
                corpus.append(data)
                del corpus[CORPUS:]
            kind = problem and problem.split(":")[0] + problem[problem.rfind("(") :]
            if problem is not None and kind not in problems:
                problems[kind] = problem
                kept = OUT / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}{Path(target.file).suffix}"
                kept.write_bytes(data)
                print(f"{name}: {problem}; {kept}", flush=True)  # noqa: T201
    _current(name).unlink(missing_ok=True)
    print(f"{name}: {count} files in {seconds:.0f} s, {len(reached)} lines, {len(problems)} findings", flush=True)  # noqa: T201
    return int(bool(problems))


def _limit_memory() -> None:
    """So that a bomb costs an exception, not the machine."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmSize"))
        limit = int(line.split()[1]) * 1024 + HEADROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _tracer(reached: set):
    """A trace function that gathers the lines of ours that are run."""

    def in_frame(frame, event, argument):
        if event == "line":
            reached.add((frame.f_code, frame.f_lineno))
        return in_frame

    def trace(frame, event, argument):
        file = frame.f_code.co_filename
        return in_frame if "threestudio" in file and "site-packages" not in file else None

    return trace


if __name__ == "__main__":
    sys.exit(main())
