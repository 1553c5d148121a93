"""Names for classes."""

import sys

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


def test_a_place_is_known_but_not_imported_until_it_is_asked_for(tmp_path, monkeypatch):
    folder = tmp_path / "placed"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "thing.py").write_text(
        "import threestudio\nfrom .keys import ThingConfig\n\n\n"
        "@threestudio.register('a-thing')\nclass Thing:\n    Config = ThingConfig\n"
    )
    (folder / "keys.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass ThingConfig:\n    size: int = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    threestudio.register_places("placed", {"a-thing": ("thing:Thing", "keys:ThingConfig")})
    assert registry.registered_names() == ["a-thing"]
    place = registry.place_of("a-thing")
    assert place.load(place.config)().size == 3
    assert "placed.thing" not in sys.modules
    thing = threestudio.find("a-thing")
    assert (thing.__module__, thing.Config().size) == ("placed.thing", 3)
    assert registry.place_of("a-thing") is None
    threestudio.register_places("placed", {"a-thing": "thing:Thing"})
    assert threestudio.find("a-thing") is thing
    for name in ("placed", "placed.thing", "placed.keys"):
        del sys.modules[name]


def test_decorator_and_place_must_agree():
    threestudio.register_places("builtins", {"number": "int:int"})
    with pytest.raises(ValueError, match=r"'number' is registered twice: by builtins.int.int and by builtins.float"):
        threestudio.register("number")(float)
    threestudio.register("text")(str)
    with pytest.raises(ValueError, match=r"'text' is registered twice"):
        threestudio.register_places("builtins", {"text": "int:int"})
