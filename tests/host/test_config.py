"""Config files: includes, words, overrides, interpolation, strictness."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from omegaconf import MISSING, OmegaConf

from threestudio import registry
from threestudio.errors import ConfigError
from threestudio.utils.config import (
    ExperimentConfig,
    config_to_primitive,
    dump_config,
    file_name,
    load_config,
    parse_structured,
)
from threestudio.utils.config_tree import complete


@pytest.fixture
def write(tmp_path):
    """Write config files and return the path of the last."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name}.yaml"
            path.write_text(text)
        return path

    return write


@dataclass
class Score:
    weight: float = 3.75
    kind: Literal["plain", "paper"] = "plain"


@dataclass
class Module:
    steps: int = 10
    prompt: str = ""
    is_fast: bool = False
    lambda_color: Any = 1.0
    anything: Any = None
    radius: float | None = None
    center: list[float] | None = None
    size: tuple[int, int] = (8, 8)
    score: Score = field(default_factory=Score)
    inner: dict = field(default_factory=dict)


def test_the_file_itself_wins_over_what_it_includes_and_later_includes_over_earlier(write):
    path = write(
        base="name: base\nseed: 1\ndescription: base\ndata: {a: 1, b: 1}\n",
        other="seed: 2\ndescription: other\ndata: {b: 2, c: 2}\n",
        main="include: [base.yaml, other.yaml]\ndescription: main\ndata: {c: 3}\n",
    )
    cfg = load_config(path)
    assert (cfg.name, cfg.seed, cfg.description) == ("base", 2, "main")
    assert cfg.data == {"a": 1, "b": 2, "c": 3}


def test_includes_are_relative_to_the_file_that_names_them(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "main.yaml").write_text("include: ../mid.yaml\n")
    (tmp_path / "deep" / "mid.yaml").write_text("include: ../top.yaml\nseed: 5\n")
    (tmp_path / "top.yaml").write_text("seed: 4\nname: top\n")
    cfg = load_config(tmp_path / "deep" / "er" / "main.yaml")
    assert (cfg.seed, cfg.name) == (5, "top")


def test_a_circle_of_includes_is_named(write):
    path = write(a="include: b.yaml\n", b="include: a.yaml\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.what == "b.yaml includes a.yaml includes b.yaml: a circle"


def test_words_are_referred_to_and_typed_by_what_the_file_declares(write):
    path = write(
        main="scene: a.ply\nsteps: 100\nrate: 0.5\nmask: {text: null, box: null}\nbig: true\n"
        "data: {scene: '${scene}', text: '${mask.text}', box: '${mask.box}', rate: '${rate}', big: '${big}'}\n"
        "trainer: {max_steps: '${steps}'}\n"
    )
    given = ["scene=007.ply", "steps=20", "mask.text=a face: left", "mask.box=[0,0,0,1,1,1]", "rate=2", "big=false"]
    cfg = load_config(path, cli_args=given)
    assert cfg.trainer.max_steps == 20
    assert cfg.data == {
        "scene": "007.ply", "text": "a face: left", "box": [0, 0, 0, 1, 1, 1], "rate": 2, "big": False,
    }  # fmt: skip
    assert "scene" not in cfg


def test_a_text_stays_a_text_whatever_it_looks_like(write):
    path = write(main="prompt: a\ndata: {prompt: '${prompt}'}\n")
    for text in ["1e3", "no", "nullable", "#1", "a #1", "{a: 1}", "[1]", "a: b", "", "a = b", "'quoted'", "007"]:
        assert load_config(path, cli_args=[f"prompt={text}"]).data.prompt == text


@pytest.mark.parametrize("declared", ["a", "null", "3", "[1]"])
def test_null_is_nothing_whatever_the_file_declares(write, declared):
    path = write(main=f"word: {declared}\ndata: {{of_word: '${{word}}', own: {declared}}}\n")
    for text in ["null", "~"]:
        data = load_config(path, cli_args=[f"data.own={text}", f"data.of_word={text}"]).data
        assert (data.own, data.of_word) == (None, None)
    if declared != "3":  # a number that something computes with
        assert load_config(path, cli_args=["word=null"]).data.of_word is None


@dataclass
class MaskKeys:
    text: str | None = None
    size: int = 1


class Texts:
    @dataclass
    class Config:
        mask: MaskKeys = field(default_factory=MaskKeys)
        note: str | None = None
        inner_type: str = "inner-texts"
        inner: dict = field(default_factory=dict)


class InnerTexts:
    Config = MaskKeys


TEXTS = ["#1 ball", "a #1 ball", "007", "1e3", "yes", "[1]", "{a: 1}", "'quoted'", "a: b", "2024-01-01"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("key", ["mask.text", "system.mask.text", "system.note", "system.inner.text", "note"])
def test_a_text_that_a_dataclass_declares_stays_a_text(write, monkeypatch, key, text):
    """Also where the file says null or nothing of it, and by however many references it is read."""
    monkeypatch.setattr(registry, "__modules__", {"texts": Texts, "inner-texts": InnerTexts})
    path = write(
        main="mask: {text: null, size: 1}\nnote: null\nagain: '${note}'\nsystem_type: texts\n"
        "system: {mask: '${mask}', note: '${again}'}\n"
    )
    reader = {"mask.text": "mask.text", "note": "note"}.get(key, key.removeprefix("system."))
    assert OmegaConf.select(load_config(path, cli_args=[f"{key}={text}"]).system, reader) == text


def test_an_escaped_reference_is_a_text_all_the_way(write, monkeypatch, tmp_path):
    """Through references, resolvers, dataclasses with checks of their own, and a saved config."""
    monkeypatch.setattr(registry, "__modules__", {"texts": Texts, "inner-texts": InnerTexts})
    path = write(
        main="prompt: a\ntag: '${rmspace:${prompt},_}'\nsystem_type: texts\ndata_type: texts\n"
        "system: {note: '${prompt}', inner: {text: 'so: ${prompt}'}}\ndata: {inner: {text: 'a'}}\n"
    )
    cfg = complete(load_config(path, cli_args=["prompt=a \\${x}", "data.inner.text=\\${"]))
    dump_config(tmp_path / "saved.yaml", cfg)
    for each in (cfg, complete(load_config(tmp_path / "saved.yaml"))):
        system = parse_structured(Texts.Config, each.system)
        inner = parse_structured(MaskKeys, system.inner)
        assert (each.tag, system.note, inner.text) == ("a_${x}", "a ${x}", "so: a ${x}")
        assert (each.trial_name.partition("@")[0], each.data.inner.text) == ("a__x_", "${")
        assert config_to_primitive(each)["system"]["note"] == "a ${x}"
    with pytest.raises(ConfigError, match=r"Interpolation key 'x' not found.*written with \\\$\{"):
        load_config(path, cli_args=["prompt=a ${x}"])


def test_what_no_dataclass_declares_is_what_yaml_says_but_for_comments(write):
    given = ["data.a=#1 ball", "data.b=5 #1", "data.c=[1, '#2']", "data.d='#3'", "data.e={a: '#4'}", "data.f=1e-3"]
    assert load_config(write(main="seed: 1\n"), cli_args=given).data == {
        "a": "#1 ball", "b": "5 #1", "c": [1, "#2"], "d": "#3", "e": {"a": "#4"}, "f": 1e-3,
    }  # fmt: skip


def test_texts_of_the_experiment_stay_texts(write):
    cfg = load_config(write(main="tag: '${name}'\n"), cli_args=["tag=007", "name=1e3", "description=a: b"])
    assert (cfg.tag, cfg.name, cfg.description) == ("007", "1e3", "a: b")


def test_a_word_nothing_refers_to_is_a_misspelt_key(write):
    path = write(main="scene: a.ply\nsystm_type: x\ndata: {scene: '${scene}'}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.what == "unknown key systm_type"
    assert caught.value.fix == "did you mean system_type?"


def test_a_leaf_of_a_word_nothing_refers_to_is_a_misspelt_key(write):
    path = write(main="mask: {text: face, boxx: null}\ndata: {text: '${mask.text}'}\n")
    with pytest.raises(ConfigError, match=r"unknown key mask\.boxx"):
        load_config(path)


def test_a_reference_may_stand_inside_a_resolver_or_a_text(write):
    path = write(main="steps: 3\nscene: a b.ply\ndata: {twice: '${mul:${steps},2}', at: 'x ${rmspace:${scene},_} y'}\n")
    assert load_config(path, cli_args=["steps=4"]).data == {"twice": 8, "at": "x a_b.ply y"}


def test_the_command_line_cannot_invent_words(write):
    path = write(main="source_prompt: a\nmask: {text: null}\ndata: {a: '${source_prompt}', b: '${mask.text}'}\n")
    for given, what, fix in [
        ("sorce_prompt=b", "unknown key sorce_prompt", "did you mean source_prompt?"),
        ("mask.txt=b", "unknown key mask.txt", "did you mean mask.text?"),
        ("source_prompt.x=b", "unknown key source_prompt.x", "remove it, or use one of these keys"),
        ("editor=sdedit", "unknown key editor", "configs/editor-image.yaml has this key"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_config(path, cli_args=[given])
        assert (caught.value.what, caught.value.fix) == (what, fix)


@pytest.mark.parametrize(
    ("given", "what", "expected"),
    [
        ("steps=abc", "steps is 'abc'", "a whole number"),
        ("steps=1.5", "steps is 1.5", "a whole number"),
        ("steps=true", "steps is True", "a whole number"),
        ("rate=fast", "rate is 'fast'", "a number"),
        ("big=maybe", "big is 'maybe'", "true or false"),
        ("list=3", "list is 3", "a list"),
        ("mask=3", "mask is 3", "one of its keys: mask.text"),
        ("seed=abc", "seed is 'abc'", "a whole number"),
        ("use_timestamp=maybe", "use_timestamp is 'maybe'", "true or false"),
        ("data=3", "data is 3", "a group of keys"),
    ],
)
def test_values_of_the_wrong_type(write, given, what, expected):
    path = write(
        main="steps: 100\nrate: 0.5\nbig: true\nlist: [1]\nmask: {text: a}\n"
        "data: {a: '${steps}', b: '${rate}', c: '${big}', d: '${list}', e: '${mask}'}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, cli_args=[given])
    assert (caught.value.what, caught.value.expected) == (what, expected)


@pytest.mark.parametrize("given", ["steps", "=3", "a b=3", "3", ""])
def test_overrides_have_a_form(write, given):
    with pytest.raises(ConfigError, match="is not an override"):
        load_config(write(main="seed: 1\n"), cli_args=[given])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [1\n", "main.yaml, line 2 is not valid YAML"),
        ("a: 1\na: 2\n", "is not valid YAML"),
        ("- 1\n- 2\n", "main.yaml is not a group of keys"),
        ("include: nowhere.yaml\n", "nowhere.yaml, included by main.yaml, does not exist"),
        ("include: 3\n", "include in"),
        ("data: {a: '${nowhere}'}\n", "data.a cannot be resolved"),
        ("data: {a: '${nosuch:1}'}\n", "data.a cannot be resolved"),
        ("data: {a: '${div:1,0}'}\n", "data.a cannot be resolved"),
        ("nmae: x\n", "unknown key nmae"),
    ],
)
def test_files_that_cannot_be_used(write, text, what):
    with pytest.raises(ConfigError) as caught:
        load_config(write(main=text))
    assert what in caught.value.what


def test_a_missing_file_brings_the_nearest_one(write, tmp_path):
    write(experiment="seed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "experimnt.yaml")
    assert caught.value.fix == f"did you mean {tmp_path / 'experiment.yaml'}?"
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${mul:2,3}", 6),
        ("${div:3,2}", 1.5),
        ("${rmspace:'a b c',_}", "a_b_c"),
    ],
)
def test_resolvers(write, written, value):
    assert load_config(write(main=f'data:\n  a: "{written}"\n')).data.a == value


def test_where_a_run_is_written(write):
    path = write(main="name: edits\ntag: a b/../c\nexp_root_dir: out\nuse_timestamp: false\n")
    cfg = load_config(path)
    assert cfg.trial_dir == "out/edits/a_b_.._c"
    cfg = load_config(path, cli_args=["use_timestamp=true"])
    assert cfg.trial_dir.startswith("out/edits/a_b_.._c@20")
    for given, what in [
        ("tag=", "tag is empty and use_timestamp is false"), ("tag=..", r"tag is \.\. and use_timestamp is false"),
        ("name=", "name is ''"), ("name=..", r"name is '\.\.'"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=what):
            load_config(path, cli_args=[given])


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        ("steps=0", "steps is 0", "set steps=20"),
        ("steps=-1", "steps is -1", "set steps=20"),
        ("steps=-3", "steps is -3", "set steps=20"),
        ("trainer.max_steps=0", "trainer.max_steps is 0", "set trainer.max_steps=20"),
    ],
)
def test_a_run_of_no_steps_is_refused_by_the_key_that_says_so(write, given, what, fix):
    """Before a rate is divided by it, or a schedule ends where it begins."""
    path = write(
        main="steps: 20\nlength: '${steps}'\ndata: {rate: ['${div:1,${steps}}', 0, '${steps}']}\n"
        "trainer: {max_steps: '${length}'}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, cli_args=[given])
    assert (caught.value.what, caught.value.expected, caught.value.fix) == (what, "at least 1", fix)
    assert load_config(path, cli_args=["trainer.max_steps=-1"]).trainer.max_steps == -1
    assert file_name("../" * 3) == "_.._.._"
    assert len(file_name("x" * 999)) == 120


def test_a_saved_config_is_a_config(write, tmp_path):
    path = write(main="steps: 3\ntag: t\ntrainer: {max_steps: '${steps}'}\n")
    cfg = load_config(path)
    dump_config(tmp_path / "saved" / "parsed.yaml", cfg)
    assert load_config(tmp_path / "saved" / "parsed.yaml") == cfg
    assert [entry.name for entry in (tmp_path / "saved").iterdir()] == ["parsed.yaml"]


def test_parse_structured_fills_in_defaults_and_converts():
    cfg = parse_structured(
        Module, {"steps": "5", "center": [0, 1, 2], "score": {"weight": 1}, "lambda_color": [0, 1, 2, 3]}
    )
    assert (cfg.steps, cfg.center, cfg.score.weight, cfg.score.kind) == (5, [0.0, 1.0, 2.0], 1.0, "plain")
    assert OmegaConf.get_type(cfg) is Module
    assert parse_structured(Module).steps == 10
    assert parse_structured(Module, cfg) == cfg


def test_null_unsets_a_key():
    unset = parse_structured(Module, {"steps": None, "score": None})
    assert unset == parse_structured(Module)
    assert parse_structured(Module, {"score": {"weight": None}}) == parse_structured(Module)


@pytest.mark.parametrize(
    ("given", "what", "expected", "fix"),
    [
        ({"step": 3}, "unknown key step", None, "did you mean steps?"),
        ({"score": {"wieght": 3}}, "unknown key score.wieght", "one of: weight, kind", "did you mean score.weight?"),
        ({"steps": "many"}, "steps is 'many'", "a whole number", "change steps"),
        ({"steps": 1.5}, "steps is 1.5", "a whole number", "change steps"),
        ({"radius": "wide"}, "radius is 'wide'", "a number or null", "change radius"),
        ({"is_fast": "maybe"}, "is_fast is 'maybe'", "true or false", "change is_fast"),
        ({"score": {"kind": "papr"}}, "score.kind is 'papr'", "one of: plain, paper", "did you mean paper?"),
        ({"score": 3}, "score is 3", "a group with weight, kind", "change score"),
        ({"size": [1, 2, 3]}, "size is [1, 2, 3]", "a list of 2 values, each a whole number", "change size"),
        ({"center": ["a"]}, "center[0] is 'a'", None, "change center[0]"),
        ({"inner": 3}, "inner is 3", "a group of keys", "change inner"),
        ({"lambda_color": "strong"}, "lambda_color is 'strong'", None, "change lambda_color"),
        ({"lambda_color": [3, 2, 1, 0]}, "lambda_color is [3, 2, 1, 0]", None, "change lambda_color"),
        ({"lambda_color": {"a": 1}}, "lambda_color is {'a': 1}", None, "change lambda_color"),
    ],
)
def test_parse_structured_refuses(given, what, expected, fix):
    with pytest.raises(ConfigError) as caught:
        parse_structured(Module, given)
    assert (caught.value.what, caught.value.fix) == (what, fix)
    assert expected is None or caught.value.expected == expected


def test_paths_are_those_of_the_whole_config():
    whole = OmegaConf.create({"system": {"guidance": {"score": {"wieght": 3}}}})
    with pytest.raises(ConfigError, match=r"unknown key system\.guidance\.score\.wieght"):
        parse_structured(Module, whole.system.guidance)
    whole = OmegaConf.create({"system": {"inner": {"deep": {"stps": 3}}}})
    system = parse_structured(Module, whole.system)
    with pytest.raises(ConfigError, match=r"unknown key system\.inner\.deep\.stps"):
        parse_structured(Module, system.inner.deep)


def test_an_item_of_a_list_is_named_by_its_place_in_brackets():
    cfg = OmegaConf.create({"mask": {"any_of": [{"weight": 1}, {"inner": [{"kind": "sqare"}]}]}})
    with pytest.raises(ConfigError) as caught:
        parse_structured(Score, cfg.mask.any_of[1].inner[0])
    assert caught.value.what == "mask.any_of[1].inner[0].kind is 'sqare'"
    with pytest.raises(ConfigError) as caught:
        parse_structured(Score, cfg.mask.any_of[1])
    assert caught.value.what == "unknown key mask.any_of[1].inner"


def test_required_keys_and_own_checks():
    @dataclass
    class Strict:
        needed: int = MISSING
        low: int = 0

        def __post_init__(self):
            if self.low > 5:
                raise ConfigError(what=f"low is {self.low}", expected="at most 5", fix="set low=5")

    with pytest.raises(ConfigError, match="needed is not set"):
        parse_structured(Strict, {"low": 1})
    with pytest.raises(ConfigError, match="low is 9"):
        parse_structured(Strict, {"needed": 1, "low": 9})
    assert parse_structured(Strict, {"needed": 1, "low": 5}).low == 5


def test_texts_can_be_configs_too():
    cfg = load_config("seed: 1\n", "seed: 2\n", from_string=True, n_gpus=2)
    assert (cfg.seed, cfg.n_gpus) == (2, 2)
    assert OmegaConf.get_type(cfg) is ExperimentConfig


@pytest.mark.parametrize("key", ["when", "include"])
def test_a_key_that_says_what_is_read_and_cannot_be_computed_is_one_line(tmp_path, key):
    file = tmp_path / "a.yaml"
    file.write_text(f"name: a\n{key}: ${{mul:1,x}}\n")
    with pytest.raises(ConfigError, match=rf"{key} in .*a.yaml cannot be computed .*; write {key} out"):
        load_config(file)
