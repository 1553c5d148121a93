"""Files are whole or not there, and a writer that fails leaves the old one."""

import hashlib

import pytest

from threestudio_ssd.files import open_whole, sha256, weights_table, whole_file, write_json, write_text


def test_a_block_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), whole_file(path) as beside:
        beside.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_place_is_empty_until_the_block_ends(tmp_path):
    path = tmp_path / "a.png"
    with open_whole(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    with whole_file(path) as beside:
        assert beside.suffix == ".png"
        beside.write_bytes(b"")


def test_files_get_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    write_json(tmp_path / "a.json", {"a": 1})
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_checksums(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"x" * 1000)
    expected = hashlib.sha256(b"x" * 1000).hexdigest()
    assert sha256(tmp_path / "w.safetensors") == expected
    assert f"| `w.safetensors` | 0.00 MB | `{expected}` |" in weights_table(tmp_path)
