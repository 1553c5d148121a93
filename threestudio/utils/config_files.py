"""Reading config files and command-line overrides into one unresolved tree.

A file may ``include`` others, by paths relative to itself, to the current folder or to the repository; what comes later
wins, the file itself last. A top-level key that is no field of the experiment is a *word*: a short name that the rest
of the file refers to by interpolation (``${scene}``). A word is accepted only where a file declares it and something
refers to it.

What belongs to one value of a word alone stands in a block of its own, which holds as long as the word has that value
in the end, whoever set it, and so has every key that is no more than a reference to it::

    when:
      scene=data/toy-scene/scene.ply:
        cameras: data/toy-scene/cameras.json

Such a block wins over the rest of its file, and loses to files that include it and to the command line.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from threestudio.errors import ConfigError, first_line
from threestudio.registry import did_you_mean
from threestudio.utils.config_compare import is_below, leaves
from threestudio.utils.config_strict import field_hints, merge, unknown_key, wrong_value
from threestudio.utils.config_tree import takes_text
from threestudio.utils.places import SHIPPED_CONFIGS, config_file, place_of

_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][\w.\[\]]*)\s*(?=[}])")
_COMMENT = re.compile(r"(?:^|\s)#")
_CLOSED = ("[", "{", "'", '"')
"""What opens a value of YAML that ends only where its writer says, and may hold a ``#``."""
MAX_STEPS = "trainer.max_steps"
NULLS = ("null", "Null", "NULL", "~")
KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+|\[\d+\])*")


def read_file(path: str | Path, stack: tuple[Path, ...] = (), final: DictConfig | None = None) -> DictConfig:
    """One config file with everything it includes; nothing is resolved yet.

    Args:
        path: The file.
        stack: Files that include it.
        final: The keys as they are in the end, by which ``when`` blocks are chosen; None: none of them.

    Raises:
        ConfigError: If a file is missing, is not YAML, is not a group of keys, or includes itself.
    """
    file = Path(path) if stack else config_file(path)
    if file.resolve() in stack:
        chain = " includes ".join(step.name for step in (*stack, file.resolve()))
        raise ConfigError(what=f"{chain}: a circle", expected="includes that end", fix="remove one include")
    tree = _parse_file(file, stack)
    included = taken(tree, "include", str(file))
    names = [included] if isinstance(included, str) else [] if included is None else included
    if not isinstance(names, ListConfig | list) or not all(isinstance(name, str) for name in names):
        raise wrong_value(f"include in {file}", included, "a file name or a list of them", "name files to include")
    parents = [read_file(_included(file, name), (*stack, file.resolve()), final) for name in names]
    blocks = taken(tree, "when", str(file))
    return with_blocks(merge(*parents, tree), blocks, final, f"when in {file}")


def taken(tree: DictConfig, key: str, where: str) -> Any:
    """A key's value, taken out; None if it is not there.

    Raises:
        ConfigError: If it is computed and cannot be.
    """
    try:
        return tree.pop(key, None)
    except OmegaConfBaseException as cause:
        why, fix = str(cause).splitlines()[0], f"write {key} out"
        raise ConfigError(what=f"{key} in {where} cannot be computed ({why})", expected="a value", fix=fix) from cause


def _included(file: Path, name: str) -> Path:
    """The file that another one includes: beside it, here, or in the repository."""
    beside = file.parent / name
    return beside if beside.exists() else place_of(name, ()) or beside


def with_blocks(tree: DictConfig, blocks: object, final: DictConfig | None, where: str = "when") -> DictConfig:
    """The keys of a file with those of its ``when`` blocks that hold.

    Args:
        tree: The file's other keys, with all that it includes.
        blocks: What stands below ``when``; None for nothing.
        final: As for ``read_file``.
        where: What messages call the blocks.

    Raises:
        ConfigError: If they are no groups of declared keys below ``word=value``.
    """
    example = "write scene=FILE: and below it the keys that belong to that scene"
    if blocks is None:
        return tree
    if not isinstance(blocks, DictConfig):
        raise wrong_value(where, blocks, "a group of keys below each word=value", example)
    for condition in blocks:
        keys: Any = blocks._get_node(condition)
        word, equals, value = str(condition).partition("=")
        if not equals or word not in tree or not isinstance(keys, DictConfig):
            what = f"{where} has {condition}: {keys}"
            expected = "a word that the file declares, = and a value; below it a group of keys"
            raise ConfigError(what=what, expected=expected, fix=example)
        for key in leaves(OmegaConf.to_container(keys, resolve=False)):  # pyright: ignore[reportArgumentType]  # a dict
            if _is_undeclared(tree, key):
                expected = "keys that the file or what it includes declares"
                raise ConfigError(
                    what=f"{where}: {condition} sets {key}, which is not declared", expected=expected,
                    fix=f"check the key, or set {key} outside the block as well",
                )  # fmt: skip
        if final is not None and all(_has_value(final, path, value) for path in _readers(tree, word)):
            tree = merge(tree, keys)
    return tree


def _is_undeclared(tree: DictConfig, key: str) -> bool:
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            return True
        node = node._get_node(part)
    return False


def _has_value(final: DictConfig, path: str, wanted: str) -> bool:
    return _is_same(OmegaConf.select(final, path, throw_on_resolution_failure=False), wanted)


def _is_same(value: object, wanted: str) -> bool:
    """Whether a value is the wanted one, or another path to the same file."""
    if str(value) == wanted or not isinstance(value, str):
        return str(value) == wanted
    places = [place_of(path, ()) for path in (value, wanted)]
    return None not in places and os.path.samefile(*filter(None, places))


def _parse_file(file: Path, stack: tuple[Path, ...]) -> DictConfig:
    if not file.is_file():
        where = f", included by {stack[-1].name}," if stack else ""
        folder = file.parent
        stems: dict[str, Any] = {entry.stem: entry for entry in folder.glob("*.y*ml")} if folder.is_dir() else {}
        if not file.suffix and folder == Path():
            stems |= {entry.stem: entry.stem for entry in SHIPPED_CONFIGS.glob("*.yaml")}
        near = did_you_mean(file.stem, stems)
        fix = f"did you mean {stems[near]}?" if near else "check the path"
        raise ConfigError(what=f"the config {file}{where} does not exist", expected="a YAML file", fix=fix)
    try:
        tree = parse_text(file.read_bytes().decode("utf-8-sig"))
    except (*BROKEN_YAML, OSError) as cause:
        mark = getattr(cause, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(cause, "problem", None) or first_line(cause)
        raise ConfigError(
            what=f"{file}{place} is not valid YAML: {problem}",
            expected="keys and values as 'key: value'",
            fix="mend that line",
        ) from cause
    if not isinstance(tree, DictConfig):
        raise ConfigError(what=f"{file} is not a group of keys", expected="'key: value' lines", fix="mend the file")
    return tree


BROKEN_YAML = (
    yaml.YAMLError,
    OmegaConfBaseException,
    ValueError,
    RecursionError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What the libraries raise for texts that are no YAML, or hold values of kinds that configs do not have."""
MAX_TEXT, MAX_NODES = 1 << 18, 100_000
"""Characters of a config, and values that it may have once every alias is written out."""


def parse_text(text: str) -> Any:
    """A YAML text as an unresolved tree.

    Raises:
        ValueError: If it is larger, or its aliases stand for more, than any config.
        Exception: Another of ``BROKEN_YAML`` if it is no YAML.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"{len(text)} characters, more than {MAX_TEXT}")
    if "&" in text and "*" in text and _num_nodes(yaml.compose(text, yaml.SafeLoader), {}, set()) > MAX_NODES:
        raise ValueError(f"its aliases stand for more than {MAX_NODES} values")
    try:
        return OmegaConf.create(text) if text.strip() else OmegaConf.create({})
    except AssertionError as cause:  # how the library says it
        raise ValueError("it is a value alone") from cause


def _num_nodes(node: Any, counted: dict[int, int], above: set[int]) -> int:
    """How many values a node stands for; infinitely many are ``MAX_NODES`` more than allowed."""
    if id(node) in above:
        return 2 * MAX_NODES
    if id(node) not in counted:
        value = node.value if isinstance(node, yaml.CollectionNode) else []
        inner = [each for part in value for each in (part if isinstance(part, tuple) else (part,))]
        counted[id(node)] = 1 + sum(_num_nodes(each, counted, above | {id(node)}) for each in inner)
    return counted[id(node)]


def parse_override(text: str) -> tuple[str, str]:
    """Split ``key=value``.

    Raises:
        ConfigError: If it is not of that form.
    """
    key, equals, value = text.partition("=")
    if not equals or not KEY.fullmatch(key):
        raise ConfigError(what=f"{text!r} is not an override", expected="key=value", fix="write it as key=value")
    return key, value


def parse_value(text: str, is_text: bool = False) -> object:
    """The value of an override: nothing where YAML would read nothing, else a text as it is, else what YAML says.

    A command line has no comments: ``#1`` is a text.

    Args:
        text: As written.
        is_text: Whether a text is declared there, which stays a text whatever it looks like: prompts may hold colons
            and digits.
    """
    if text in NULLS:
        return None
    if is_text or not text.strip():
        return text
    try:
        value = merge(parse_text(f"value: {text}"))["value"]
    except BROKEN_YAML:
        return text
    if isinstance(value, DictConfig) and not text.lstrip().startswith(("{", "$")):
        return text
    return text if _COMMENT.search(text) and not text.lstrip().startswith(_CLOSED) else value


def apply_overrides(tree: DictConfig, overrides: Iterable[str], config_class: type) -> DictConfig:
    """Set keys from the command line.

    Args:
        tree: The keys of the files, unresolved; changed in place.
        overrides: ``key=value`` texts. What the files declare says of which type a value is; where they leave it
            open, the dataclass that reads the key.
        config_class: The dataclass of the experiment. Anything below its own keys is checked later.

    Raises:
        ConfigError: For a top-level key that neither the experiment nor a file declares, a sub-key of a word that no
            file declares, or a word given a value of another type than its declared one.
    """
    fields = field_hints(config_class)
    unclear: dict[str, str] = {}
    for text in overrides:
        key, raw = parse_override(text)
        is_word = key.split(".")[0].split("[")[0] not in fields
        if is_word:
            _check_declared(tree, key, list(fields))
        declared = OmegaConf.select(tree, key) if not _is_reference(tree, key) else None
        value = parse_value(raw, isinstance(declared, str))
        if is_word:
            _check_word_type(key, value, declared)
        unclear = {other: given for other, given in unclear.items() if not is_below(other, frozenset({key}))}
        if declared is None and value is not None and value != raw:
            unclear[key] = raw
        _set(tree, key, value)
    for key, raw in unclear.items():
        if any(takes_text(config_class, tree, path) for path in _readers(tree, key)):
            _set(tree, key, raw)
    return tree


def _set(tree: DictConfig, key: str, value: object) -> None:
    try:
        OmegaConf.update(tree, key, value, merge=False)
    except OmegaConfBaseException as cause:
        raise ConfigError(
            what=f"{key} cannot be set: {first_line(cause)}", expected="a path of keys", fix="check the key"
        ) from cause


def _readers(tree: DictConfig, key: str) -> Iterator[str]:
    """A key, and the paths of those that are no more than a reference to it or to a group it is in."""
    yield key
    unresolved: Any = OmegaConf.to_container(tree, resolve=False)
    for path, value in leaves(unresolved).items():
        referred = _referred(value)
        if referred is not None and is_below(key, frozenset({referred})):
            yield from _readers(tree, path + key.removeprefix(referred))


def _referred(value: object) -> str | None:
    """The key that a value is no more than a reference to."""
    match = _REFERENCE.match(value) if isinstance(value, str) else None
    return match.group(1) if match is not None and match.end() == len(match.string) - 1 else None


def check_steps(tree: DictConfig, usual: int | None) -> None:
    """Refuse a run of no steps by the key that says so, before anything is computed from it.

    Args:
        tree: The keys, unresolved. Lightning's -1, no end, may stand in ``trainer.max_steps`` itself.
        usual: Steps that the files say, for the message.

    Raises:
        ConfigError: If ``trainer.max_steps``, or the word it refers to, is below 1.
    """
    key, value = _steps(tree)
    if value is not None and value < 1 and (key, value) != (MAX_STEPS, -1):
        raise wrong_value(key, value, "at least 1", f"set {key}={usual if usual is not None and usual > 0 else 1}")


def steps_of(tree: DictConfig) -> int | None:
    """How many steps the unresolved keys say, if they say a number."""
    return _steps(tree)[1]


def _steps(tree: DictConfig) -> tuple[str, int | None]:
    unresolved: Any = OmegaConf.to_container(tree, resolve=False)
    values, key = leaves(unresolved), MAX_STEPS
    while (referred := _referred(values.get(key))) is not None:
        values, key = {name: value for name, value in values.items() if name != key}, referred
    value = values.get(key)
    return key, value if isinstance(value, int) and not isinstance(value, bool) else None


def check_words(tree: DictConfig, fields: Iterable[str]) -> None:
    """Refuse words that nothing refers to: they are misspelt keys.

    Raises:
        ConfigError: With the nearest known key.
    """
    fields = list(fields)
    references = set(_references(OmegaConf.to_container(tree, resolve=False)))
    words: list[Any] = [key for key in tree if key not in fields]
    for word in words:
        for leaf in _leaves(tree, word, str(word)):
            if any(leaf == ref or leaf.startswith((f"{ref}.", f"{ref}[")) for ref in references):
                continue
            names = [*fields, *(str(other) for other in words if other != word)]
            near = did_you_mean(str(word), names)
            expected = "a key of the experiment, or a word that something refers to as ${" + leaf + "}"
            fix = f"did you mean {near}?" if near else "remove it, or refer to it"
            raise ConfigError(what=f"unknown key {leaf}", expected=expected, fix=fix)


def _check_declared(tree: DictConfig, key: str, fields: list[str]) -> None:
    node: Any = tree
    parts = key.replace("[", ".[").split(".")
    for depth, part in enumerate(parts):
        if isinstance(node, ListConfig):
            return
        names = [str(name) for name in node] + (fields if depth == 0 else [])
        if part not in names:
            raise unknown_key(".".join(parts[: depth + 1]), names, None if depth else _where_it_is(part))
        node = node._get_node(part)
        if not isinstance(node, DictConfig | ListConfig) and depth + 1 < len(parts):
            raise unknown_key(key, [".".join(parts[: depth + 1])])


def _where_it_is(word: str) -> str | None:
    """Which shipped config has a word at its top, if one has, and that is what to do about it."""
    having = [file for file in sorted(SHIPPED_CONFIGS.glob("*.yaml")) if word in _parse_file(file, ())]
    return f"{having[0].parent.name}/{having[0].name} has this key" if having else None


def _check_word_type(key: str, value: object, declared: Any) -> None:
    if value is None or (isinstance(value, str) and "${" in value):
        return
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    kind = type(declared)
    allowed = {bool: (bool,), int: (int,), float: (int, float)}.get(kind)
    if allowed is None:
        if OmegaConf.is_list(declared) and not OmegaConf.is_list(value):
            raise wrong_value(key, value, "a list", f"write it as {key}=[...]")
        if OmegaConf.is_dict(declared) and not OmegaConf.is_dict(value):
            keys = ", ".join(f"{key}.{name}" for name in declared)
            raise wrong_value(key, value, f"one of its keys: {keys}", f"set {keys.split(', ')[0]}=...")
        return
    if not isinstance(value, allowed) or (kind is not bool and isinstance(value, bool)):
        raise wrong_value(key, value, names[kind], f"set {key}={declared}, for example")


def _is_reference(tree: DictConfig, key: str) -> bool:
    try:
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(tree, parent) if parent else tree
        return OmegaConf.is_dict(node) and last in node and OmegaConf.is_interpolation(node, last)
    except OmegaConfBaseException:
        return True


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
    elif isinstance(value, str):
        yield from (match.group(1) for match in _REFERENCE.finditer(value))


def _leaves(parent: Any, key: Any, path: str) -> Iterator[str]:
    node = parent._get_node(key)
    if OmegaConf.is_interpolation(parent, key) or not OmegaConf.is_dict(node):
        yield path
        return
    for inner in node:
        yield from _leaves(node, inner, f"{path}.{inner}")
