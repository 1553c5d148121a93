"""The page of all keys is what the code says: ``launch.py --run settings docs/settings.md`` makes it."""

import os
import subprocess
import sys
from dataclasses import dataclass

from threestudio import settings
from threestudio.plugins import REPOSITORY


def test_the_page_is_what_is_generated(tmp_path):
    """In a process of its own: other tests register classes, and load plugins."""
    command = [sys.executable, "launch.py", "--run", "settings", str(tmp_path / "settings.md")]
    env = {name: value for name, value in os.environ.items() if name != "THREESTUDIO_PLUGIN_FOLDERS"}
    subprocess.run(command, cwd=REPOSITORY, env=env, check=True, capture_output=True)
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    made = (tmp_path / "settings.md").read_text(encoding="utf-8")
    assert page == made, "make it again: launch.py --run settings docs/settings.md"


def test_a_row_has_type_default_and_the_text_below_the_field(monkeypatch):
    @dataclass
    class Inner:
        share: float | None = None
        """How much | in ``[0, 1]``."""

    monkeypatch.setattr(settings.registry, "registered_names", lambda: [])
    page = settings.settings_page("# Keys", {"Kinds": {"one": Inner}})
    assert "## Kinds\n\n### one\n\n" in page
    assert "| `share` | a number or null | `null` | How much \\| in `[0, 1]`. |" in page
