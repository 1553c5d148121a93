"""Where a relative path of a config is looked for: in the current folder, beside the config, in the repository."""

from collections.abc import Iterable, Sequence
from os.path import exists, isfile  # unlike Path.exists, False also for a text that is too long for a path
from pathlib import Path
from typing import Any

from threestudio.plugins import REPOSITORY
from threestudio.registry import FILE_KEYS

SHIPPED_CONFIGS = REPOSITORY / "configs"


def place_of(path: str | Path, folders: Sequence[Path]) -> Path | None:
    """The first of the places where a path exists, or None; an absolute path has one place.

    Args:
        path: As it is written.
        folders: Those of the configs, between the current one and the repository.
    """
    places = (Path(path), *(folder / path for folder in folders), REPOSITORY / path)
    return next((place for place in places if exists(place)), None)


def config_file(path: str | Path) -> Path:
    """The file that a user means: a path here, one in the repository, or a shipped config's name such as ``ssd-gs``."""
    file = Path(path)
    places = (file, REPOSITORY / file, SHIPPED_CONFIGS / file, SHIPPED_CONFIGS / f"{file}.yaml")
    return next((place for place in places if isfile(place)), file)


def with_files(keys: Any, folders: Sequence[Path]) -> Any:
    """Plain keys in which files that lie beside their config are written with its folder; others stay as they are.

    Args:
        keys: Plain values.
        folders: Of the configs.
    """
    if isinstance(keys, dict):
        return {
            key: _placed(value, folders) if key in FILE_KEYS and isinstance(value, str) else with_files(value, folders)
            for key, value in keys.items()
        }
    return [with_files(each, folders) for each in keys] if isinstance(keys, list) else keys


def folders_of(configs: Iterable[str | Path]) -> list[Path]:
    """The folders that config files lie in, without the current one."""
    folders = [config_file(config).parent for config in configs]
    return [folder for folder in dict.fromkeys(folders) if folder != Path()]


def _placed(path: str, folders: Sequence[Path]) -> str:
    """A path as it is, unless it exists beside a config and not here."""
    if not path.strip() or exists(path):
        return path
    return next((str(folder / path) for folder in folders if exists(folder / path)), path)
