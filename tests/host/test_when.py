"""Keys that belong to one value of a word alone: ``when`` blocks in configs."""

import pytest

from threestudio.errors import ConfigError
from threestudio.utils.config import load_config

BASE = """
scene: shipped.ply
cameras: ""
mask: {picture: null, grow: 0.0}
words: {a: '${scene}'}
data: {scene: '${scene}', cameras: '${cameras}', picture: '${mask.picture}', grow: '${mask.grow}', words: '${words}'}
when:
  scene=shipped.ply:
    cameras: shipped.json
    mask: {picture: masks}
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The config in a folder of its own, with the shipped scene beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shipped.ply").write_text("a scene")
    (tmp_path / "other.ply").write_text("a scene")
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def keys(path, *given, **words):
    data = load_config(path, cli_args=given, **words).data
    return data.cameras, data.picture


def test_a_block_holds_for_its_value_alone(base):
    assert keys("base.yaml") == ("shipped.json", "masks")
    assert keys("base.yaml", "scene=other.ply") == ("", None)
    assert keys("base.yaml", scene="other.ply") == ("", None)
    assert load_config(BASE, from_string=True).data.cameras == "shipped.json"
    assert load_config(BASE, from_string=True, cli_args=["scene=other.ply"]).data.cameras == ""


def test_the_last_word_on_the_value_decides(base):
    assert keys("base.yaml", "scene=other.ply", "scene=shipped.ply") == ("shipped.json", "masks")
    (base / "mine.yaml").write_text("include: base.yaml\nscene: other.ply\n")
    assert keys("mine.yaml") == ("", None)
    assert keys("mine.yaml", "scene=shipped.ply") == ("shipped.json", "masks")


def test_another_path_to_the_same_file_is_the_same_value(base):
    assert keys("base.yaml", f"scene={base / 'shipped.ply'}") == ("shipped.json", "masks")
    assert keys("base.yaml", "scene=./shipped.ply") == ("shipped.json", "masks")
    (base / "copy.ply").write_bytes((base / "shipped.ply").read_bytes())
    assert keys("base.yaml", "scene=copy.ply") == ("", None)
    assert keys("base.yaml", "scene=" + "x" * 5000) == ("", None)


def test_what_the_modules_get_decides_beside_the_word(base):
    """``data.scene`` is what the word is for: set by itself, it is another scene as well."""
    assert keys("base.yaml", "data.scene=other.ply") == ("", None)
    assert keys("base.yaml", "words.a=other.ply") == ("", None)
    assert keys("base.yaml", "data.scene=./shipped.ply") == ("shipped.json", "masks")
    assert keys("base.yaml", data={"scene": "other.ply"}) == ("", None)
    (base / "mine.yaml").write_text("include: base.yaml\ndata: {scene: other.ply}\n")
    assert keys("mine.yaml") == ("", None)


def test_a_block_loses_to_files_that_include_it_and_to_the_command_line(base):
    (base / "mine.yaml").write_text("include: base.yaml\ncameras: mine.json\nmask: {picture: null}\n")
    assert keys("mine.yaml") == ("mine.json", None)
    assert keys("base.yaml", "cameras=", "mask.picture=null") == ("", None)
    assert keys("base.yaml", cameras="", mask={"picture": None}) == ("", None)


def test_a_file_may_have_a_block_on_what_it_includes(base):
    block = "when:\n  scene=shipped.ply: {cameras: mine.json}\n  scene=other.ply: {cameras: other.json}\n"
    (base / "mine.yaml").write_text(f"include: base.yaml\n{block}")
    assert keys("mine.yaml") == ("mine.json", "masks")
    assert keys("mine.yaml", "scene=other.ply") == ("other.json", None)


def test_what_a_block_sets_is_typed_as_a_file_s(base):
    """A text that looks like a list stays one, since the block declares a text there."""
    assert keys("base.yaml", "mask.picture=[a]")[1] == "[a]"


GROUP = "a word that the file declares, = and a value; below it a group of keys"


@pytest.mark.parametrize(
    ("block", "what", "expected"),
    [
        ("when: 3", "when in {file} is 3", "a group of keys below each word=value"),
        ("when: {scene: {cameras: a}}", "when in {file} has scene: {{'cameras': 'a'}}", GROUP),
        ("when: {scen=a: {cameras: a}}", "when in {file} has scen=a: {{'cameras': 'a'}}", GROUP),
        ("when: {scene=a: b}", "when in {file} has scene=a: b", GROUP),
        ("when: {scene=a: {camera: b}}", "when in {file}: scene=a sets camera, which is not declared",
         "keys that the file or what it includes declares"),
        ("when: {scene=a: {mask: {pictures: b}}}", "when in {file}: scene=a sets mask.pictures, which is not declared",
         "keys that the file or what it includes declares"),
    ],
)  # fmt: skip
def test_a_block_that_cannot_be_used_is_said_whether_it_holds_or_not(base, block, what, expected):
    (base / "mine.yaml").write_text(f"include: base.yaml\n{block}\n")
    with pytest.raises(ConfigError) as caught:
        load_config("mine.yaml")
    assert (caught.value.what, caught.value.expected) == (what.format(file="mine.yaml"), expected)
    assert "scene=FILE" in caught.value.fix or "set " in caught.value.fix
