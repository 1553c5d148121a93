"""Names for classes."""

import pytest

import threestudio
from threestudio import registry
from threestudio.errors import ConfigError


@pytest.fixture(autouse=True)
def _own_names(monkeypatch):
    monkeypatch.setattr(registry, "__modules__", {})


def test_find_returns_what_was_registered():
    @threestudio.register("a-thing")
    class Thing:
        pass

    assert threestudio.find("a-thing") is Thing


def test_an_unknown_name_brings_the_nearest_one():
    threestudio.register("ssd-gs-system")(int)
    with pytest.raises(ConfigError) as caught:
        threestudio.find("ssd-gs-sytem")
    assert caught.value.what == "nothing is registered under 'ssd-gs-sytem'"
    assert caught.value.fix == "did you mean 'ssd-gs-system'?"


def test_a_far_name_brings_all_names():
    threestudio.register("b")(int)
    threestudio.register("a")(float)
    with pytest.raises(ConfigError) as caught:
        threestudio.find("quite different")
    assert caught.value.expected == "one of: a, b"
    assert caught.value.fix == "use one of these names"


def test_two_classes_cannot_share_a_name():
    threestudio.register("a")(int)
    with pytest.raises(ValueError, match=r"'a' is registered twice: by builtins.int and by builtins.float"):
        threestudio.register("a")(float)


def test_a_definition_imported_again_replaces_itself():
    def define():
        @threestudio.register("again")
        class Again:
            pass

        return Again

    first, second = define(), define()
    assert first is not second
    assert threestudio.find("again") is second


def test_main_and_sub_make_a_class_in_which_the_sub_overrides():
    @threestudio.register("main")
    class Main:
        def say(self):
            return "main"

        def stay(self):
            return "main"

    @threestudio.register("sub")
    class Sub:
        def say(self):
            return f"sub of {super().say()}"

    @threestudio.register("other")
    class Other:
        def stay(self):
            return "other"

    made = threestudio.find("main:sub,other")()
    assert made.say() == "sub of main"
    assert made.stay() == "other"
    with pytest.raises(ConfigError, match="did you mean 'sub'"):
        threestudio.find("main:subb")
