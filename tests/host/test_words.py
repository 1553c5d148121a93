"""One name a thing: nothing in the source is called by a word that could be anything."""

import ast
from collections.abc import Iterator

import pytest

from threestudio.plugins import REPOSITORY

VAGUE = {"found", "known", "shown", "some"}


def names_given(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything a file names: variables, attributes, parameters, functions, classes, imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.lineno, node.name
        elif isinstance(node, ast.alias):
            yield node.lineno, node.asname or node.name


FILES = [file for root in ("threestudio", "custom") for file in sorted((REPOSITORY / root).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_everything_is_called_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    vague = [f"line {line}: {name}" for line, name in names_given(tree) if name in VAGUE]
    assert not vague, f"say what it is: {vague}"


def test_every_way_to_name_a_thing_is_read():
    source = """
some = 1
self.shown = 2
def found(known, *, some=3): ...
for shown in []: [found for found in []]
with open() as some: ...
try: ...
except Exception as found: ...
match 1:
    case [known, *some]: ...
if shown := 4: ...
import a as found
class known: ...
lambda some: some
"""
    vague = [name for _, name in names_given(ast.parse(source)) if name in VAGUE]
    assert sorted(vague) == sorted(
        "some shown found known some shown found some found known some shown found known some".split()
    )
