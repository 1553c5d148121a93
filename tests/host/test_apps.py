"""What --run starts."""

from dataclasses import dataclass, field

import pytest

import threestudio
from threestudio import apps, registry
from threestudio.errors import ConfigError
from threestudio.run import main
from threestudio.utils.base import BaseObject
from threestudio.utils.config import parse_structured


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


def test_a_list_takes_all_words_that_are_left(calls):
    @threestudio.register("app-compare")
    class Compare(BaseObject):
        """Compares things."""

        needs_config = False
        positional = ("first", "others")

        @dataclass
        class Config(BaseObject.Config):
            first: str = ""
            others: list[str] = field(default_factory=list)
            size: int = 1

        cfg: Config

        def __call__(self, experiment):
            calls.append((self.cfg.first, list(self.cfg.others), self.cfg.size))

    assert main(["--run", "compare", "a", "b", "size=2", "c d", "007"]) == 0
    assert main(["--run", "compare", "a"]) == 0
    assert calls == [("a", ["b", "c d", "007"], 2), ("a", [], 1)]
    assert "[FIRST] [OTHERS ...]" in apps.app_help("compare")


KEYS = {"seed": False, "title": False, "data": True}
"""Of an experiment: two values and a group."""


def test_a_key_goes_to_whoever_has_it():
    given = ["seed=1", "port=2", "run.title=a", "data.port=3", "words=4"]
    assert apps.split_overrides("viewer", given, KEYS) == (["seed=1", "data.port=3", "words=4"], ["port=2", "title=a"])
    assert apps.split_overrides("viewer", ["seed=1", "run.port=2"], None) == ([], ["seed=1", "port=2"])
    assert apps.split_overrides("sum", ["port=2", "run.x=1"], KEYS) == (["port=2"], ["x=1"])
    assert apps.split_overrides("viewer", ["9"], KEYS) == (["9"], [])


def test_a_group_of_the_experiment_leaves_its_name_to_the_app():
    assert apps.split_overrides("viewer", ["port=2", "port.a=2"], {"port": True}) == (["port.a=2"], ["port=2"])


def test_a_key_that_both_have_must_say_whose_it_is():
    with pytest.raises(ConfigError) as caught:
        apps.split_overrides("viewer", ["title=a"], KEYS)
    assert str(caught.value) == (
        "title is a key of --run viewer and of the experiment; expected one of the two; "
        "write run.title=... for that of viewer, or set the experiment's in its file"
    )


def test_a_misspelt_key_of_the_app_is_told_the_app_s_name():
    with pytest.raises(ConfigError, match="unknown key prt; expected one of: port, title, .*; did you mean port"):
        apps.split_overrides("viewer", ["prt=1"], KEYS)


def test_an_app_may_have_a_usual_config(calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "usual.yaml").write_text("name: usual\nseed: 4\n")
    (tmp_path / "mine.yaml").write_text("name: mine\nseed: 5\n")
    monkeypatch.setattr("threestudio.utils.config_tree.complete", lambda cfg: cfg)
    monkeypatch.setattr("threestudio.run.EARLY_CHECKS", {})
    apps.find_app("viewer").usual_config = "usual.yaml"
    assert main(["--run", "viewer", "port=2"]) == 0
    assert main(["--run", "viewer", "port=2", "seed=6"]) == 0
    assert main(["--run", "viewer", "--config", "mine.yaml"]) == 0
    assert calls == [(2, "a", 4), (2, "a", 6), (8080, "a", 5)]
    (tmp_path / "usual.yaml").unlink()
    apps.find_app("viewer").usual_config = "configs/ssd-gs.yaml"
    assert main(["--run", "viewer", "port=2", "seed=7"]) == 0
    assert calls[-1][::2] == (2, 7)


def test_an_app_may_load_the_experiment_itself(calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\nseed: 5\n")
    given = []
    monkeypatch.setattr(apps.find_app("viewer"), "__call__", lambda self, words: given.append(words))
    apps.find_app("viewer").takes_words = True
    words = ["--run", "viewer", "--config", "mine.yaml", "port=2", "seed=6"]
    assert main([*words, "--resume", "a.ckpt", "--gpu", "0,1"]) == 0
    assert given == [apps.Words("mine.yaml", ("seed=6", "resume=a.ckpt"), "0,1")]


def test_a_group_of_an_app_may_be_a_file(tmp_path, capsys):
    @dataclass
    class Window:
        width: int = 1
        height: int = 2

    seen = []

    @threestudio.register("app-window")
    class Shown(BaseObject):
        needs_config = False

        @dataclass
        class Config(BaseObject.Config):
            window: Window = field(default_factory=Window)

        cfg: Config

        def __call__(self, experiment):
            seen.append((self.cfg.window.width, self.cfg.window.height))

    file = tmp_path / "window.yaml"
    file.write_text("width: 7\n")
    assert main(["--run", "window", f"window={file}", "window.height=8"]) == 0
    assert main(["--run", "window", "window={width: 3}"]) == 0
    assert seen == [(7, 8), (3, 2)]
    file.write_text("widht: 7\n")
    assert main(["--run", "window", f"window={file}"]) == 2
    assert "did you mean window.width?" in capsys.readouterr().err


def test_a_process_that_helps_another_leaves_the_word_to_it(calls, capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["--run", "viewr"]) == 0
    assert main(["--run", "viewer", "port=1"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(apps.find_app("viewer"), "__call__", lambda self, experiment: 1 / 0)
    assert main(["--run", "viewer"]) == 1


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


@pytest.mark.parametrize(
    ("is_resumable", "said"),
    [
        (True, "interrupted; the same command goes on from here\n"),
        (False, "interrupted before there was a checkpoint\n"),
    ],
)
def test_an_interrupted_app_says_how_to_go_on(is_resumable, said, capsys, monkeypatch):
    def stop(self, experiment):
        raise KeyboardInterrupt

    monkeypatch.setattr(apps.find_app("viewer"), "__call__", stop)
    apps.find_app("viewer").is_resumable = is_resumable
    assert main(["--run", "viewer"]) == 130
    assert capsys.readouterr().err == said


def test_an_error_that_a_library_makes_of_ctrl_c_is_one(capsys, monkeypatch):
    def stop(self, experiment):
        try:
            raise KeyboardInterrupt
        finally:
            None.flags

    monkeypatch.setattr(apps.find_app("viewer"), "__call__", stop)
    apps.find_app("viewer").is_resumable = True
    assert main(["--run", "viewer"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from here\n"


def test_a_value_that_holds_an_equals_sign_is_told_how_to_be_written(capsys):
    apps.find_app("viewer").positional = ("title",)
    assert main(["--run", "viewer", "a=b"]) == 2
    assert capsys.readouterr().err == (
        "error: unknown key a; expected one of: port, title; a value that holds = is written title=a=b\n"
    )
    assert main(["--run", "viewer", "titel=b"]) == 2
    assert "did you mean title?" in capsys.readouterr().err
    assert main(["--run", "viewer", "title=a=b"]) == 0


def test_a_positional_list_takes_all_that_are_left(capsys):
    given = []

    class Several:
        @dataclass
        class Config:
            first: str = ""
            rest: list[str] = field(default_factory=list)
            count: int = 1

        positional = ("first", "rest")

        def __init__(self, keys):
            self.cfg = parse_structured(self.Config, keys)

        def __call__(self, experiment):
            given.append((self.cfg.first, list(self.cfg.rest), self.cfg.count))

    registry.__modules__["app-several"] = Several
    assert apps.start("several", None, ["a", "b", "count=2", "c.ply", "1"]) == 0
    assert apps.start("several", None, []) == 0
    assert given == [("a", ["b", "c.ply", "1"], 2), ("", [], 1)]
    assert "[FIRST] [REST ...]" in apps.app_help("several")


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
        "A key that the config has as well is written with run. before it.\n"
    )
    assert main(["--run", "sum", "-h"]) == 0
    assert capsys.readouterr().out == "usage: launch.py --run sum --config X [key=value ...]\n\nIt takes no keys.\n"
