"""What --run starts."""

from dataclasses import dataclass

import pytest

import threestudio
from threestudio import apps, registry
from threestudio.errors import ConfigError
from threestudio.run import main
from threestudio.utils.base import BaseObject


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    monkeypatch.setattr(registry, "__modules__", {})
    monkeypatch.setattr("threestudio.run.load_plugins", dict)
    calls = []

    @threestudio.register("app-viewer")
    class Viewer(BaseObject):
        """Shows things."""

        needs_config = False

        @dataclass
        class Config(BaseObject.Config):
            port: int = 8080
            """Where it listens, 1 .. 65535."""
            title: str = "a"

        cfg: Config

        def __call__(self, experiment):
            calls.append((self.cfg.port, self.cfg.title, experiment and experiment.seed))
            return 3 if self.cfg.port == 1 else None

    @threestudio.register("app-sum")
    def add_up(experiment):
        calls.append(experiment.seed)

    return calls


def test_a_class_gets_its_options_and_the_experiment(calls):
    assert main(["--run", "viewer", "port=9", "title=b"]) == 0
    assert main(["--run", "viewer", "run.port=1"]) == 3
    assert main(["--run", "viewer", "title=#007"]) == 0
    assert main(["--run", "viewer", "title=007"]) == 0
    assert calls == [(9, "b", None), (1, "a", None), (8080, "#007", None), (8080, "007", None)]


def test_overrides_without_the_prefix_are_the_experiments():
    assert apps.split_overrides(["seed=1", "run.port=2"], has_config=True) == (["seed=1"], ["port=2"])
    assert apps.split_overrides(["seed=1", "run.port=2"], has_config=False) == ([], ["seed=1", "port=2"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--run", "viewr"], "error: --run viewr: there is no such app; expected one of: sum, viewer; "
         "did you mean --run viewer?\n"),
        (["--run", "sum"], "error: --run sum needs --config; expected --config and a YAML file; add --config\n"),
        (["--run", "viewer", "prt=1"], "error: unknown key prt; expected one of: port, title; did you mean port?\n"),
        (["--run", "viewer", "port=x"], "error: port is 'x'; expected a whole number; change port\n"),
    ],
)  # fmt: skip
def test_mistakes(given, message, capsys):
    assert main(given) == 2
    assert capsys.readouterr().err == message


def test_functions_take_no_options():
    with pytest.raises(ConfigError, match="--run sum was given x"):
        apps.start("sum", None, ["x=1"])


def test_apps_and_their_keys_are_listed(capsys):
    assert main(["--run"]) == 0
    assert capsys.readouterr().out == "\napps, for --run NAME:\n  sum\n  viewer  Shows things.\n"
    assert main(["--run", "viewer", "--help"]) == 0
    assert capsys.readouterr().out == (
        "usage: launch.py --run viewer [key=value ...]\n\nShows things.\n\n"
        "keys:\n  port  (a whole number; 8080)\n      Where it listens, 1 .. 65535.\n  title  (a text; 'a')\n"
        "With --config, each key is written with run. before it.\n"
    )
    assert main(["--run", "sum", "-h"]) == 0
    assert capsys.readouterr().out == "usage: launch.py --run sum --config X [key=value ...]\n\nIt takes no keys.\n"
