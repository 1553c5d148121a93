"""Texts made of exceptions."""

import pytest

from threestudio.errors import ConfigError, first_line, one_line
from threestudio.utils.config import load_config


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "a"),
        (ValueError("\n  b  \n"), "b"),
        (ValueError(""), "ValueError"),
        (KeyError(), "KeyError"),
    ],
)
def test_the_first_line_of_an_error_is_never_missing(error, line):
    assert first_line(error) == line


def test_one_line_has_no_breaks():
    assert one_line(ConfigError(what="a\nb", expected="c", fix="d")) == "error: a b; expected c; d"


def test_a_resolver_that_fails_without_a_text_is_an_error_of_the_config(monkeypatch):
    from omegaconf import OmegaConf

    def fail(*_):
        raise ValueError

    OmegaConf.register_resolver("fail", fail, replace=True)
    with pytest.raises(ConfigError, match=r"data\.a cannot be resolved: "):
        load_config("data: {a: '${fail:1}'}\n", from_string=True)
    OmegaConf.clear_resolver("fail")
