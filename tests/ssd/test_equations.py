"""docs/equations.md points at files, symbols and tests that exist, and leaves out no score."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN, TESTS = REPOSITORY / "custom" / "threestudio-ssd", REPOSITORY / "tests" / "ssd"
ROW = re.compile(r"\| `(?P<file>[^`]+):(?P<symbol>[^`:]+)` \| `(?P<test_file>[^`]+):(?P<test>[^`:]+)` \|$")


def table_lines():
    """Every line of a table but the heads."""
    lines = (REPOSITORY / "docs" / "equations.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("|") and not line.startswith(("|---", "| equation"))]


def defines(path: Path, symbol: str) -> bool:
    """Whether a file defines a function, a class, or ``Class.member``."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in symbol.split("."):
        matches = [node for node in body if getattr(node, "name", None) == name]
        if not matches:
            return False
        body = matches[0].body
    return True


@pytest.mark.parametrize("line", table_lines(), ids=lambda line: line.split("|")[1].strip()[:40])
def test_a_row_points_at_what_exists(line):
    row = ROW.search(line)
    assert row, "a row ends in `file:symbol` and `test file:test`"
    assert defines(PLUGIN / row["file"], row["symbol"]), f"{row['file']} has no {row['symbol']}"
    assert defines(TESTS / row["test_file"], row["test"]), f"{row['test_file']} has no {row['test']}"


def test_every_score_has_a_row():
    named = {ROW.search(line)["file"] for line in table_lines()}
    shared = {"scores/__init__.py"}
    files = {f"scores/{path.name}" for path in (PLUGIN / "scores").glob("*.py")} - shared
    assert files <= named
