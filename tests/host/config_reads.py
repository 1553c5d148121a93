"""Which fields of config dataclasses nothing reads, where a read counts only near the class that holds the field."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CFG = {"cfg", "config", "experiment", "settings"}
"""What variables and attributes that hold a config are called."""


@dataclass(frozen=True)
class ConfigClass:
    """A dataclass of keys, as the source has it.

    Attributes:
        module: The file that defines it.
        name: Its name, behind that of the class around it, if any: ``SceneEditSystem.Config``.
        fields: Its own fields.
        holds: Every name in its annotations and bases: classes that it contains or extends.
    """

    module: Path
    name: str
    fields: tuple[str, ...]
    holds: frozenset[str]

    @property
    def handles(self) -> set[str]:
        """Names that give access to it: its own, unless that is just ``Config``, and that of the class around it."""
        return set(self.name.split(".")) - {"Config"}


def config_classes(module: Path, tree: ast.AST, around: str = "", bases: frozenset[str] = frozenset()) -> Iterator:
    """Every class whose name ends in Config, at any depth, with the bases of the class around it."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        own_bases = frozenset(name for base in node.bases for name in names_in(base))
        if node.name.endswith("Config"):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            holds = own_bases | bases | {name for field in fields for name in names_in(field.annotation)}
            yield ConfigClass(module, around + node.name, tuple(ast.unparse(field.target) for field in fields), holds)
        yield from config_classes(module, node, f"{around}{node.name}.", own_bases)


def names_in(tree: ast.AST) -> set[str]:
    """Every name and attribute below a node, also inside annotations that are written as texts."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(node.value.replace(".", " ").split())
    return names


def imports_of(module: Path, tree: ast.AST) -> tuple[set[str], set[Path]]:
    """The names that a module imports from others, and the files of its own package that it imports from."""
    names, files = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
            folder = module.parents[node.level - 1] if node.level else Path()
            path = folder.joinpath(*(node.module or "").split("."))
            files |= {
                path.with_suffix(".py"),
                path / "__init__.py",
                *(path / f"{alias.name}.py" for alias in node.names),
            }
    return names, files


def read_words(tree: ast.AST) -> set[str]:
    """Attributes that are read, and texts, which may name one."""
    words = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            words.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    return words


def read_of_cfg(tree: ast.AST) -> set[str]:
    """Attributes that are read of something called as configs are, at any depth: ``system.cfg.mask.grow`` gives two."""
    words = set()
    for node in ast.walk(tree):
        chain, inner = [], node
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        path = [inner.id if isinstance(inner, ast.Name) else "", *reversed(chain)]
        start = next((place for place, word in enumerate(path) if word in CFG), len(path))
        words |= set(path[start + 1 :])
    return words


def hands_cfg_on(tree: ast.AST) -> bool:
    """Whether a whole config is an argument of a call, or is read by keys that are computed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and any(
            _is_cfg(part) for part in [*node.args, *(k.value for k in node.keywords)]
        ):
            return True
        if isinstance(node, ast.Subscript) and _is_cfg(node.value) and not isinstance(node.slice, ast.Constant):
            return True
    return False


def _is_cfg(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id in CFG) or (isinstance(node, ast.Attribute) and node.attr in CFG)


def unread_fields(trees: dict[Path, ast.Module], part_of: Callable[[Path], object]) -> list[str]:
    """Fields that nothing near their class reads, as ``file: Class.field``.

    A read counts in the module of the class; in modules that import it, a class that contains it or one that extends
    it; in the modules that these import from, where they hand the whole config on; and, of something called as configs
    are, in modules of the same part that have no field of that name themselves.

    Args:
        trees: The source of every module, by its file.
        part_of: The part of the program that a file belongs to.
    """
    classes = [held for module, tree in trees.items() for held in config_classes(module, tree)]
    imports = {module: imports_of(module, tree) for module, tree in trees.items()}
    words = {module: read_words(tree) for module, tree in trees.items()}
    of_cfg = {module: read_of_cfg(tree) for module, tree in trees.items()}
    unread = []
    for held in classes:
        handles = set(held.handles)
        while (wider := handles.union(*(other.handles for other in classes if other.holds & handles))) != handles:
            handles = wider
        near = {module for module in trees if module == held.module or imports[module][0] & handles}
        handed = {file for module in near if hands_cfg_on(trees[module]) for file in imports[module][1] & set(trees)}
        handed |= {file for package in handed if package.name == "__init__.py" for file in imports[package][1]}
        near |= handed & set(trees)
        read = set().union(*(words[module] for module in near))
        for name in held.fields:
            owners = {other.module for other in classes if name in other.fields}
            others = {module for module in trees if part_of(module) == part_of(held.module)} - owners
            if name not in read and not any(name in of_cfg[module] for module in others):
                unread.append(f"{held.module.name}: {held.name}.{name}")
    return unread
