"""Where a result comes from: ``history.json`` beside it, the chain of edits from the capture on; and the way back."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..early import named
from ..errors import ConfigError, SceneFormatError
from ..files import sha256, whole_file, write_json
from ..reading import read_json
from .results import Result

HISTORY = "history.json"


def digest_of(path: Path) -> str:
    """Checksum of a splat, hexadecimal: of the file, or of a folder's files with their names."""
    if path.is_file():
        return sha256(path)
    files = sorted(file for file in path.iterdir() if file.is_file())
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


def edits_behind(splat: Path) -> list[dict[str, Any]]:
    """The edits that led to a splat, the first one first; none for a capture.

    Args:
        splat: The file; a ``history.json`` beside it that is of another file does not count.

    Raises:
        SceneFormatError: If the history cannot be read.
    """
    file = splat.parent / HISTORY
    if not file.is_file():
        return []
    expected, fix = "the history.json that a run wrote", f"move {file} away"
    content = read_json(file, expected, fix)
    edits = content.get("edits") if isinstance(content, dict) else None
    keys = {"scene", "scene_sha256", "result_sha256"}
    if not isinstance(edits, list) or not all(isinstance(edit, dict) and keys <= {*edit} for edit in edits):
        raise SceneFormatError(what=f"{file} holds no list of edits", expected=expected, fix=fix)
    return edits if edits and edits[-1]["result_sha256"] == digest_of(splat) else []


def write_history(result: Path, scene: str | Path, facts: Mapping[str, Any]) -> None:
    """Write ``history.json`` beside a result: that of its scene, and this edit.

    Args:
        result: What the edit wrote.
        scene: The splat that it was made from.
        facts: Words, config, seed: what made it.
    """
    place = named(scene).resolve()
    edit = {
        "scene": str(place), "scene_from_here": os.path.relpath(place, result.parent.resolve()),
        "scene_sha256": digest_of(place), **facts, "result": result.name, "result_sha256": digest_of(result),
    }  # fmt: skip
    write_json(result.parent / HISTORY, {"edits": [*edits_behind(place), edit]})


def scene_before(result: Result) -> Path:
    """The scene that the last edit of a result was made from, found by its checksum.

    Raises:
        SceneFormatError: If there is no history of this result, or the scene is nowhere that it names.
    """
    edits = edits_behind(result.splat)
    if not edits:
        file = result.beside(HISTORY)
        why = "is of another file" if file.is_file() else "does not exist"
        expected, fix = f"the {HISTORY} that every edit of a scene writes", "take the scene that you edited"
        raise SceneFormatError(what=f"nothing can be undone: {file} {why}", expected=expected, fix=fix)
    last = edits[-1]
    places = dict.fromkeys([Path(last["scene"]), (result.splat.parent / last.get("scene_from_here", "")).resolve()])
    looked = []
    for place in places:
        if place.exists():
            if digest_of(place) == last["scene_sha256"]:
                return place
            looked.append(f"{place}, another file")
        else:
            looked.append(f"{place}, not there")
    raise SceneFormatError(
        what=f"the scene before {result.splat} is nowhere ({'; '.join(looked)})",
        expected=f"the file with sha256 {last['scene_sha256'][:12]}...", fix="put it back to one of these places",
    )  # fmt: skip


def undo(result: Result, out: str | Path = "") -> Path:
    """The scene before the last edit; where ``out`` is given, its bytes are copied there, with their own history.

    Returns:
        Where it is.

    Raises:
        ConfigError: If ``out`` has another suffix, or would take the history of another result.
        SceneFormatError: As in ``scene_before``.
    """
    place = scene_before(result)
    if not out:
        return place
    copy = Path(out)
    if place.is_dir() or copy.suffix != place.suffix:
        expected = "a file, which can be copied" if place.is_dir() else f"a file that ends with {place.suffix}"
        raise ConfigError(what=f"out is {out}, for {place}", expected=expected, fix="leave out away for the path alone")
    edits = edits_behind(result.splat)[:-1]
    if edits and (copy.parent / HISTORY).exists():
        expected, fix = f"a folder without {HISTORY}", "choose another folder for out"
        raise ConfigError(what=f"{copy.parent} has the {HISTORY} of another result", expected=expected, fix=fix)
    with whole_file(copy) as beside:
        shutil.copyfile(place, beside)
    if edits:
        write_json(copy.parent / HISTORY, {"edits": edits})
    return copy
