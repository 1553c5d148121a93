"""Results of edits as users name them: a run folder, its save folder, or a splat file of any tool."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..early import named
from ..errors import SceneFormatError
from ..fields import is_field
from ..reading import read_json

NAMES = ("edited.*", "fitted.ply")
"""What the splat of a run is called in its save folder; checked in this order."""


@dataclass(frozen=True)
class Result:
    """A splat, and what its run left beside it.

    Attributes:
        label: What the user called it, short.
        splat: The file.
        report: Content of ``report.json``; empty where there is none.
    """

    label: str
    splat: Path
    report: dict[str, Any]

    def beside(self, name: str) -> Path:
        """A file in the folder of the splat; it need not exist."""
        return self.splat.parent / name


def find_result(path: str | Path) -> Result:
    """The result that a path means.

    Raises:
        SceneFormatError: If it is not there or holds none.
    """
    place = named(path)
    if not place.exists():
        fix = "check the path"
        raise SceneFormatError(what=f"{path} does not exist", expected="a run folder or a splat file", fix=fix)
    if place.is_file() or (place / "meta.json").is_file():
        return Result(place.name, place, _report(place.parent) if _is_of_run(place) else {})
    for folder in (place / "save", place):
        for pattern in NAMES:
            for splat in sorted(folder.glob(pattern)):
                return Result(place.name if place.name != "save" else place.parent.name, splat, _report(folder))
    expected = "a run folder with save/edited.ply, its save folder, or a splat file"
    if is_field(place):
        fix = f"make a splat of it: launch.py --run convert {path} scene.ply"
        raise SceneFormatError(what=f"{path} is a radiance field", expected=expected, fix=fix)
    raise SceneFormatError(what=f"{path} holds no result", expected=expected, fix="name the splat file itself")


def _is_of_run(splat: Path) -> bool:
    """Whether a splat is what a run wrote, so that the report beside it is its own."""
    return any(splat.match(pattern) for pattern in NAMES)


def _report(folder: Path) -> dict[str, Any]:
    file = folder / "report.json"
    if not file.is_file():
        return {}
    report = read_json(file, "the report.json of a run", "move it away, or make the result again")
    return report if isinstance(report, dict) else {}
