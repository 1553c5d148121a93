"""Every system on a disk that gets full: a line and an exit code, nothing half, and the same bytes once there is room.

python -m tests.torture.disks --tries 3
The disk is a file system in memory that only this process sees (Linux's ``unshare``).
"""

import argparse
import random
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import threestudio
from tests.torture.kills import reference
from tests.torture.runs import Torment, torments

ALONE = ["unshare", "--map-root-user", "--mount"]
GOOD = (0, 2, 3, 4)
"""Exit codes that docs/resume.md names for a full disk."""
ROOM = 64 << 20
"""Bytes of the disk once there is room."""


def fill(torment: Torment, folder: Path, tries: int, seed: int) -> tuple[int, list[str]]:
    """Run a system on disks of random sizes, then give it room.

    Args:
        torment: The system.
        folder: Where it may write.
        tries: Disks.
        seed: Decides their sizes.

    Returns:
        How many it survived, and what went wrong.
    """
    draws, faults, survived = random.Random(seed), [], 0
    expected, _ = reference(torment, folder / "reference")
    whole = sum(file.stat().st_size for file in (folder / "reference").rglob("*") if file.is_file())
    disk, elsewhere = folder / "disk", folder / "elsewhere"
    for each in (disk, elsewhere):
        each.mkdir()
    for _ in range(tries):
        size = max(1 << 16, int(whole * draws.uniform(0.05, 0.95)))
        _mount(disk, size)
        try:
            code, errors = _run(torment, disk / "out", elsewhere)
            problem = _problem(code, errors)
            _mount(disk, ROOM, "remount")
            code, errors = _run(torment, disk / "out", elsewhere)
            problem = problem or _problem(code, errors)
            if problem is None and torment.results(disk / "out") != expected:
                problem = "other bytes once there was room"
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        shutil.rmtree(elsewhere)
        elsewhere.mkdir()
        survived += problem is None
        faults += [f"a disk of {size:,} bytes: {problem}"] if problem else []
    return survived, faults


def _mount(disk: Path, size: int, *how: str) -> None:
    options = ",".join([*how, f"size={size}"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def _run(torment: Torment, out: Path, elsewhere: Path) -> tuple[int, str]:
    process = torment.start(out, elsewhere)
    _, errors = process.communicate()
    return process.returncode, errors


def _problem(code: int, errors: str) -> str | None:
    if code not in GOOD:
        return f"exit code {code}: {errors[-500:]}"
    return f"a traceback: {errors[-500:]}" if "Traceback" in errors else None


def main(argv: list[str] | None = None) -> int:
    """Print survived / tried of each system; 1 if one did not survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=3, help="disks for each system")
    parser.add_argument("--systems", default="", help="names with commas between; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not args.alone:
        given = sys.argv[1:] if argv is None else argv
        return subprocess.call([*ALONE, sys.executable, "-m", "tests.torture.disks", *given, "--alone"])
    threestudio.load_plugins()
    is_bad = False
    with TemporaryDirectory() as name:
        every = torments(Path(name))
        for place, system in enumerate(args.systems.split(",") if args.systems else every):
            folder = Path(name) / "out" / system
            folder.mkdir(parents=True)
            survived, faults = fill(every[system], folder, args.tries, args.seed + place)
            is_bad |= bool(faults)
            sys.stdout.write(f"{system:<10} {survived} / {args.tries}\n" + "".join(f"  {each}\n" for each in faults))
            sys.stdout.flush()
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
