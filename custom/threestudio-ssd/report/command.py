"""The command that makes a run again."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ENDS_A_RUN = {"--train", "--validate", "--test", "--export", "--verbose"}
"""Options that say how much of a run is made, or shown."""


def command_of(run: Path, argv: Sequence[str] | None = None) -> str:
    """A line for the shell that makes a run from its start.

    Args:
        run: The run's folder, whose copy of the config makes the same where the run was not started by ``launch.py``.
        argv: The words that started this process; None: those of ``sys.argv``.
    """
    words = list(sys.argv if argv is None else argv)
    if not words or Path(words[0]).name != "launch.py":
        return shlex.join(["python", "launch.py", "--config", str(run / "configs" / "parsed.yaml")])
    kept, is_value = [], False
    for word in words[1:]:
        is_resume = word == "--resume"
        if not (is_value or is_resume or word in ENDS_A_RUN or word.startswith(("--resume=", "resume="))):
            kept.append(word)
        is_value = is_resume
    return shlex.join(["python", *words[:1], *kept])
