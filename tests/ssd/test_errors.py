"""Messages made of other errors."""

import pytest

from threestudio_ssd.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [(OSError(), "OSError"), (ValueError("\n  \n"), "ValueError"), (KeyError("a"), "'a'"),
     (RuntimeError("\n one \n two"), "one"), (RuntimeError("x" * 200), "x" * 157 + "...")],
)  # fmt: skip
def test_the_first_line_of_any_error(error, line):
    assert first_line(error) == line
