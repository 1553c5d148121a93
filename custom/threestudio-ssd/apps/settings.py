"""Lists every key there is: ``launch.py --run settings``."""

import sys
from dataclasses import dataclass

import threestudio
from threestudio.settings import settings_page
from threestudio.utils.base import Configurable

from ..files import write_text

OPENING = """
# Settings

This page is for you if you look for a key: its type, its default and what it does. It is made of
the code by

```
python launch.py --run settings docs/settings.md
```

A default here is the code's; a config may set another, and `--config X` decides. Keys are written
with dots on the command line: `system.growth.kind=hierarchical`. A misspelt one is an error that
names the right one. What to turn when a result is not what you want:
[troubleshooting.md](troubleshooting.md).
"""


@threestudio.register("app-settings")
class Settings(Configurable):
    """List every key with its type, default and meaning, as Markdown: --run settings [FILE]; without FILE it prints."""

    needs_config = False
    positional = ("out",)

    @dataclass
    class Config:
        """Keys of the list."""

        out: str = ""
        """File to write; empty: the list is printed."""

    cfg: Config

    def __call__(self, experiment: object) -> int:
        """Write or print the page."""
        page = reference()
        if self.cfg.out:
            write_text(self.cfg.out, page)
            threestudio.info(f"{self.cfg.out} lists every key.")
        else:
            sys.stdout.write(page)
        return 0


def reference() -> str:
    """The page of all keys, with those of scores and editors."""
    from ..editors import CONSISTENCIES, CONTROLS, EDITORS, INVERSIONS
    from ..scores import SCORES

    named = {
        "Scores, `system.guidance.score`": SCORES, "Editors, `system.editing.editor`": EDITORS,
        "Inversions, `system.editing.editor.inversion`": INVERSIONS,
        "Controls, `system.editing.editor.control`": CONTROLS,
        "Consistency of edited views, `system.editing.consistency`": CONSISTENCIES,
    }  # fmt: skip
    return settings_page(OPENING, named)
