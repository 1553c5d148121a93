"""Every key there is, as one Markdown page: read from the dataclasses, with the texts below their fields."""

import textwrap
from collections.abc import Iterator, Mapping

from threestudio import registry
from threestudio.apps import PREFIX, describe_keys
from threestudio.utils.config import ExperimentConfig
from threestudio.utils.config_tree import named_config_class

YAML_WORDS = {"None": "null", "True": "true", "False": "false"}
HEAD = "| key | type | default | meaning |\n|---|---|---|---|"


def settings_page(opening: str, named: Mapping[str, Mapping[str, type]]) -> str:
    """The page: keys of the experiment, of everything that is registered, and of other named classes.

    Args:
        opening: What stands above the tables, with the title.
        named: What a kind of classes is called -> name in a config -> dataclass.
    """
    names = registry.registered_names()
    apps = [name for name in names if name.startswith(PREFIX)]
    parts = [opening.strip(), "## Every experiment", "Keys at the top of a config.", _table(ExperimentConfig)]
    parts += ["## Registered names", "Keys below `data` and `system`, by `data_type` and `system_type`, and of what"
              " these name\nin turn."]  # fmt: skip
    parts += _sections(names, frozenset(apps))
    for kind, classes in named.items():
        parts.append(f"## {kind}")
        for name, fields in sorted(classes.items()):
            parts += [f"### {name}", _about(fields), _table(fields)]
    parts += ["## Commands", "Keys of `launch.py --run NAME`."]
    parts += _sections([name for name in names if name in apps], frozenset())
    return "\n\n".join(filter(None, parts)) + "\n"


def _sections(names: list[str], without: frozenset[str]) -> Iterator[str]:
    for name in names:
        fields = None if name in without else named_config_class(name, name)
        if fields is not None:
            yield f"### {name.removeprefix(PREFIX)}"
            yield _table(fields)


def _about(fields: type) -> str:
    """The first paragraph of a class's docstring."""
    return textwrap.fill(" ".join((fields.__doc__ or "").partition("\n\n")[0].split()), 100)


def _table(fields: type) -> str:
    rows = [f"| `{key}` | {kind} | `{default}` | {meaning} |" for key, kind, default, meaning in _rows(fields)]
    return "\n".join([HEAD, *rows]) if rows else "No keys."


def _rows(fields: type) -> Iterator[tuple[str, ...]]:
    for key, kind, default, meaning in describe_keys(fields):
        default = YAML_WORDS.get(default, default)
        yield tuple(text.replace("|", "\\|").replace("``", "`") for text in (key, kind, default, meaning))
