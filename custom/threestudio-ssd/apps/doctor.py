"""Says whether edits can run here: ``launch.py --run doctor``."""

import sys
from typing import Any

import threestudio
from threestudio.utils.config import parse_structured

from ..report.doctor import DoctorConfig, examine, is_fit


@threestudio.register("app-doctor")
class Doctor:
    """Say whether edits can run on this machine, a line for each thing that they need; exit code 2 if they cannot."""

    needs_config = False
    Config = DoctorConfig

    def __init__(self, keys: Any = None) -> None:
        self.cfg = parse_structured(self.Config, keys)

    def __call__(self, experiment: object) -> int:
        """Print what was found, as it is found."""
        findings = []
        for finding in examine(self.cfg.out):
            findings.append(finding)
            sys.stdout.write(f"{finding}\n")
            sys.stdout.flush()
        is_well = is_fit(findings)
        end = "Edits can run: make edit" if is_well else "No edit can run before what is BAD is mended."
        sys.stdout.write(f"{end}\n")
        return 0 if is_well else 2
