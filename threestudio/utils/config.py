"""Configs: YAML files with includes, overrides and interpolation, merged strictly into dataclasses."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from threestudio.errors import ConfigError, first_line
from threestudio.utils.config_compare import leaves
from threestudio.utils.config_files import (
    apply_overrides,
    check_steps,
    check_words,
    parse_text,
    read_file,
    steps_of,
    taken,
    with_blocks,
)
from threestudio.utils.config_strict import field_hints, literal, merge, merge_structured, path_of, resolved
from threestudio.utils.places import folders_of, with_files
from threestudio.utils.resolvers import C_max, hiding, register_resolvers, without_environment  # noqa: F401  # upstream has C_max here

register_resolvers()

MAX_NAME = 200
"""Bytes of a folder's name, with room for the suffixes of temporary files in what file systems take (255)."""


@dataclass
class ViewerConfig:
    """Keys of a window onto a run, which a plugin provides under the name ``run-viewer``."""

    enable: bool = False
    """Whether the run is served to a browser while it is made."""
    host: str = "127.0.0.1"
    """Address it is served at; any other than this machine's own needs the token."""
    port: int = 8080
    """Where; the next free one if somebody has it."""
    token: str | None = None
    """What the link must carry; none: drawn where it is needed. ``${oc.env:NAME}`` keeps it out of the run folder."""


@dataclass
class ExperimentConfig:
    """The top level of a config file."""

    name: str = "default"
    """First folder below ``exp_root_dir``."""
    description: str = ""
    """Free text, kept with the run."""
    tag: str = ""
    """Second folder; characters that do not belong in a file name become ``_``."""
    seed: int = 0
    """Seed of every random number generator of the run."""
    use_timestamp: bool = True
    """Append the time to the tag, so that no run overwrites another."""
    timestamp: str | None = None
    """The appended text; made when the run starts."""
    exp_root_dir: str = "outputs"
    """Where runs are written, relative to the current directory."""

    exp_dir: str = ""
    """Derived: ``exp_root_dir/name``."""
    trial_name: str = ""
    """Derived: tag and timestamp."""
    trial_dir: str = ""
    """Derived: the run folder."""
    n_gpus: int = 1
    """Derived: how many GPUs the command line named."""
    from_environment: dict = field(default_factory=dict)
    """Derived: keys whose values are of the environment, and how they are written; so they are saved."""

    resume: str | None = None
    """Checkpoint to go on from, or ``auto`` for the run folder's last one."""

    data_type: str = ""
    """Registered name of the data module."""
    data: dict = field(default_factory=dict)
    """Its keys."""
    system_type: str = ""
    """Registered name of the system."""
    system: dict = field(default_factory=dict)
    """Its keys."""
    trainer: dict = field(default_factory=dict)
    """Keyword arguments of Lightning's ``Trainer``."""
    checkpoint: dict = field(default_factory=dict)
    """Keyword arguments of Lightning's ``ModelCheckpoint``."""
    viewer: ViewerConfig = field(default_factory=ViewerConfig)
    """A window onto the run in a browser."""

    def __post_init__(self) -> None:
        if not file_name(self.name):
            expected = "a name for the folder of runs, with a letter or digit"
            raise ConfigError(what=f"name is {self.name!r}", expected=expected, fix="set name=...")
        if not file_name(self.tag) and not self.use_timestamp and not file_name(self.timestamp or ""):
            what = f"tag is {self.tag or 'empty'} and use_timestamp is false"
            raise ConfigError(what=what, expected="a name for the run folder", fix="set tag=..., or use_timestamp=true")
        if not 0 <= self.seed < 2**32:
            expected, fix = "0 to 4294967295, which every generator takes", "set seed=0"
            raise ConfigError(what=f"seed is {self.seed}", expected=expected, fix=fix)
        if self.timestamp is None:
            self.timestamp = datetime.now().strftime("@%Y%m%d-%H%M%S") if self.use_timestamp else ""
        self.trial_name = file_name(f"{file_name(self.tag)}{self.timestamp}")
        self.exp_dir = str(Path(self.exp_root_dir) / file_name(self.name))
        self.trial_dir = str(Path(self.exp_dir) / self.trial_name)


def file_name(text: str, longest: int = 120) -> str:
    """A text as one folder name: other characters than letters, digits and ``. _ - + = , @`` become ``_``.

    Every part of a path that is made of words goes through here.

    Args:
        text: Any.
        longest: Characters; no more than ``MAX_NAME`` bytes of them in any case.
    """
    name = re.sub(r"[^\w.+=,@-]+", "_", text).strip(".")[:longest]
    return name.encode("utf-8", "replace")[:MAX_NAME].decode("utf-8", "ignore")


def load_config(*yamls: str | Path, cli_args: Iterable[str] = (), from_string: bool = False, **kwargs) -> DictConfig:
    """Load an experiment.

    A file that a relative path names may also lie beside the config, or in the repository.

    Args:
        *yamls: Config files, or YAML texts when ``from_string``; later ones win.
        cli_args: Dotted overrides, ``key=value``; they win over the files.
        from_string: Take ``yamls`` as texts.
        **kwargs: Top-level keys that win over everything.

    Returns:
        A resolved ``ExperimentConfig``; the keys below ``data`` and ``system`` are checked by
        :func:`threestudio.utils.config_tree.complete`.

    Raises:
        ConfigError: For a missing file, an unknown key, a value of the wrong type, or a dangling interpolation.
    """
    fields, overrides = field_hints(ExperimentConfig), list(cli_args)

    def read(final: DictConfig | None) -> DictConfig:
        return merge(*(_read_text(str(text), final) if from_string else read_file(text, (), final) for text in yamls))

    plain = read(None)
    check_words(plain, fields)
    tree = read(merge(apply_overrides(plain, overrides, ExperimentConfig), kwargs))
    check_words(tree, fields)
    usual_steps = steps_of(tree)
    tree = merge(apply_overrides(tree, overrides, ExperimentConfig), kwargs)
    check_steps(tree, usual_steps)
    keys = _resolve(tree)
    keys = with_files(keys, [] if from_string else folders_of(yamls))
    keys["from_environment"] = literal(_from_environment(tree, keys))
    return merge_structured(ExperimentConfig, {key: keys[key] for key in keys if key in fields})


def _read_text(text: str, final: DictConfig | None) -> DictConfig:
    tree = merge(parse_text(text))
    blocks = taken(tree, "when", "the text")
    return with_blocks(tree, blocks, final)


def _resolve(tree: DictConfig) -> dict[str, Any]:
    try:
        return resolved(tree)
    except OmegaConfBaseException as cause:
        what = f"{cause.full_key or 'the config'} cannot be resolved: {first_line(cause)}"
        expected = "references to keys that exist, and resolvers that fit their values"
        fix = "check the ${...} there; a text that holds ${ itself is written with \\${"
        raise ConfigError(what=what, expected=expected, fix=fix) from cause


def _from_environment(tree: DictConfig, keys: dict[str, Any]) -> dict[str, Any]:
    """The resolved keys that have a value of the environment in them, and what they are with its names in its place."""
    unresolved: Any = OmegaConf.to_container(tree, resolve=False)
    if "oc.env" not in str(unresolved):
        return {}
    resolved_keys, written = leaves(keys), {}
    with hiding():
        for path in resolved_keys:
            try:
                value = OmegaConf.select(tree, path)
            except OmegaConfBaseException:  # a number that is computed of it has no name
                continue
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            if literal(value) != resolved_keys[path]:
                is_text = not isinstance(value, str) or isinstance(resolved_keys[path], str)
                written[path] = value if is_text else f"${{oc.decode:{value}}}"
    return written


def config_to_primitive(config: Any, resolve: bool = True) -> Any:
    """A config as plain dicts, lists and values."""
    return OmegaConf.to_container(config, resolve=resolve)


def dump_config(path: str | Path, config: object) -> None:
    """Write a config as YAML, whole or not at all; values of the environment as their names."""
    from threestudio.utils.saving import atomic_path

    config = _without_environment(config)
    with atomic_path(path) as temporary:
        OmegaConf.save(config=config, f=temporary)


def _without_environment(config: Any) -> Any:
    written = config.get("from_environment") if isinstance(config, DictConfig) else None
    if not written:
        return config
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key in ("exp_root_dir", "exp_dir", "trial_name", "trial_dir"):
        plain[key] = without_environment(plain[key])
    for path, value in plain.pop("from_environment").items():
        *groups, last = path.split(".")
        node = plain
        for group in groups:
            node = node.get(group, {})
        if last in node:
            node[last] = _unescaped(value)
    return OmegaConf.create(plain)


def _unescaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_unescaped(each) for each in value]
    return value.replace("\\${", "${") if isinstance(value, str) else value


def parse_structured(fields: type, cfg: dict | DictConfig | None = None) -> DictConfig:
    """Merge keys into a dataclass, strictly.

    Args:
        fields: The dataclass.
        cfg: The keys; None for the defaults.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type or a required key that is not set, with its path
            in the whole config.
    """
    return merge_structured(fields, cfg, path_of(cfg))
