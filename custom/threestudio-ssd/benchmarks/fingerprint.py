"""What a kept result was made with: the whole config, the weights and the score, compared key by key.

A benchmark keeps each result beside its fingerprint, and takes the result again only where nothing that can change it
is different. The config counts whole, so that a key which is added tomorrow counts as well. Keys that cannot change a
result are listed where they belong, those of the host and those of edits, each group with its reason.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import threestudio
from threestudio.utils.config import parse_structured
from threestudio.utils.config_compare import CANNOT_CHANGE_RESULTS as CANNOT_CHANGE_RUNS
from threestudio.utils.config_compare import difference, is_below, leaves, plain, settings

from ..diffusion.lora import Lora
from ..diffusion.models import MODEL, VAE
from ..editors import ImageEditor, build_editor
from ..edits.keys import CANNOT_CHANGE_EDITS
from ..errors import ConfigError
from ..files import is_whole, sha256, write_json
from ..guidance.score_options import build_score
from ..pretrained import locate
from ..reading import read_json

CANNOT_CHANGE_RESULTS = CANNOT_CHANGE_RUNS | CANNOT_CHANGE_EDITS
"""Dotted keys, each with all that is below it, of the host and of edits."""
MODEL_FILES = (".safetensors", ".bin", ".json")
"""Suffixes of a model folder's files that count: the weights, and the settings of network, schedule and tokens."""


def fingerprint(
    experiment: DictConfig, *, without: frozenset[str] = CANNOT_CHANGE_RESULTS, **more: Any
) -> dict[str, str]:
    """Everything that a result depends on, flat: dotted key -> value as JSON.

    Args:
        experiment: Complete config of the run that makes the result.
        without: Dotted keys, each with all that is below it, that cannot change the result.
        **more: Whatever else decides it, such as the dataset's checksum.

    Returns:
        The keys of the config in its order, the score and the editor with all their fields; then the checksums or
        commits of the models' files below ``weights`` and ``editor_weights``; then ``more``.
    """
    config = plain(experiment)
    guidance = config["system"].get("guidance")
    if guidance is not None:
        more = {"weights": weights_of(guidance), **more}
        score = dataclasses.asdict(build_score(guidance["score"]))
        guidance["score"] = {"name": guidance["score"].get("name", "ssd"), **score}
    editing = config["system"].get("editing")
    if editing is not None and "editor" in editing:
        editor = build_editor(editing["editor"])
        more = {"editor_weights": _weights_of_editor(editor, editing), **more}
        editing["editor"] = {"name": editing["editor"].get("name", "sdedit"), **dataclasses.asdict(editor)}
    return settings(config, without) | settings(more, frozenset())


def check_same(path: str | Path, earlier: Mapping[str, str], now: Mapping[str, str], fix: str) -> None:
    """Refuse a kept result that was made with anything else than it would be made with now.

    Args:
        path: The file or folder of the result.
        earlier: Its fingerprint.
        now: The fingerprint of the run that wants it.
        fix: What the user can do.

    Raises:
        ConfigError: For the first key that differs, or that only one side has.
    """
    changed = difference(earlier, now)
    if changed is not None:
        raise ConfigError(what=f"{path} was made {changed}", expected="one folder for each setting", fix=fix)


def kept(file: Path, made_with: Mapping[str, str], make: Callable[[], Any], pictures: Iterable[Path] = ()) -> Any:
    """The rows in a file, or new ones that the file then keeps, whole or not at all.

    Args:
        file: JSON of ``settings``, a fingerprint, and ``rows``.
        made_with: The fingerprint of rows that were made now.
        make: Makes the rows.
        pictures: What it makes beside them; where one is empty or missing, all is made again.

    Raises:
        ConfigError: If the file's rows were made with anything else.
    """
    if all(map(is_whole, (file, *pictures))):
        expected, fix = "settings beside the rows", "delete the file to make it again"
        earlier = read_json(file, expected, fix)
        if "settings" not in earlier:
            raise ConfigError(what=f"{file} does not say what it was made with", expected=expected, fix=fix)
        fix = "write into another folder, or delete the file to make it again"
        check_same(file, earlier["settings"], made_with, fix)
        return earlier["rows"]
    rows = make()
    write_json(file, {"settings": dict(made_with), "rows": rows})
    return rows


def refuse_unread(
    experiment: DictConfig, reader: str, reads: frozenset[str], usual: Mapping[str, Any] | None = None
) -> None:
    """Refuse a config that sets a key which its reader would ignore.

    Args:
        experiment: Complete config.
        reader: Who reads it, for the message.
        reads: Dotted keys, each with all that is below it, that it reads, or that it replaces by its own.
        usual: Values that a key may have besides the default of its class.

    Raises:
        ConfigError: For the first key that has neither its default nor its usual value.
    """
    defaults = {**_defaults("data", experiment.data_type), **_defaults("system", experiment.system_type)}
    for key, value in leaves(experiment).items():
        if is_below(key, reads | CANNOT_CHANGE_RESULTS):
            continue
        allowed = [mapping[key] for mapping in (defaults, usual or {}) if key in mapping]
        if value not in allowed:
            raise ConfigError(
                what=f"{key} is {json.dumps(value)}, which {reader} does not read",
                expected=json.dumps(allowed[-1]) if allowed else "a config without this key",
                fix=f"set {key}={json.dumps(allowed[-1])}" if allowed else f"leave {key} out",
            )  # fmt: skip


def _weights_of_editor(editor: ImageEditor, editing: Mapping[str, Any]) -> dict[str, str]:
    """The same for an editor: of its model, unless it has none, and of a file of the network's weights alone."""
    checksums = weights_of(editing) if editor.has_network else {}
    quantization = str(getattr(editor, "quantization", ""))
    return checksums | ({quantization: _checksum(Path(quantization))} if Path(quantization).is_file() else {})


def weights_of(guidance: Mapping[str, Any]) -> dict[str, str]:
    """What stands behind the models that a guidance names: a checksum for each file, a commit for a hub id.

    Args:
        guidance: Keys of the guidance; of them ``model``, ``vae`` and ``lora`` name files. The VAE ``taesd`` is one
            published model, which its name says.

    Raises:
        ConfigError: If one of them does not exist or cannot be reached.
    """
    checksums = {}
    is_offline = bool(guidance.get("offline"))
    places = {"model": locate(guidance["model"], MODEL, revision=guidance.get("revision"), is_offline=is_offline)}
    if guidance.get("vae") not in (None, "taesd"):
        places["vae"] = locate(guidance["vae"], VAE, is_offline=is_offline)
    for key, place in places.items():
        folder = Path(place.location)
        if place.revision is not None:
            checksums[key] = place.revision
        elif folder.is_dir():
            files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix in MODEL_FILES)
            checksums |= {f"{key}/{file.relative_to(folder).as_posix()}": _checksum(file) for file in files}
    for lora in guidance.get("lora") or ():
        path = Lora.of(lora).path
        checksums[f"lora/{path}"] = _checksum(Path(path))
    return checksums


def _checksum(file: Path) -> str:
    """sha256 of a file; read once for each state of it."""
    stat = file.stat()
    return _checksum_of(file.resolve(), stat.st_mtime_ns, stat.st_size)


@cache
def _checksum_of(file: Path, modified: int, size: int) -> str:
    return sha256(file)


def _defaults(group: str, name: str) -> dict[str, Any]:
    """The defaults of the class that is registered under a name, by dotted key below its group."""
    config_class = getattr(threestudio.find(name), "Config", None)
    return {} if config_class is None else leaves({group: parse_structured(config_class)})
