"""Files are whole or not there, and a writer that fails leaves the old one."""

import ast
import errno
import hashlib
import os
import subprocess
import sys

import pytest

from threestudio.plugins import REPOSITORY
from threestudio_ssd.errors import StorageError
from threestudio_ssd.files import (
    open_whole,
    sampled_sha256,
    sha256,
    weights_table,
    whole_file,
    write_json,
    write_text,
)


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


def test_a_disk_that_fills_up_is_said_in_one_line_and_the_old_file_stays(tmp_path):
    """Also where a library wraps what the system said."""
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(StorageError) as caught, whole_file(path) as beside:
        beside.write_text("half")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise RuntimeError("unexpected pos 704 vs 598") from cause
    assert caught.value.what == f"{path} cannot be written (No space left on device)"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_limit_on_the_size_of_files(tmp_path):
    """A real one, in a process of its own: a checkpoint of torch, an array, a picture."""
    program = f"""
import resource, sys
import numpy as np, torch
from threestudio_ssd.errors import StorageError
from threestudio_ssd.files import whole_file, write_image
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
def torches(path):
    with whole_file(path) as beside, beside.open("wb") as file:
        torch.save(torch.zeros(100000), file)
def arrays(path):
    with whole_file(path) as beside:
        np.save(beside, noise)
for name, write in {{"a.pt": torches, "a.npy": arrays, "a.png": lambda path: write_image(path, noise)}}.items():
    try:
        write({str(tmp_path)!r} + "/" + name)
    except StorageError as error:
        print(error.what)
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    load = "import threestudio; threestudio.load_plugins()\n"
    done = subprocess.run([sys.executable, "-c", load + program], env=environment, capture_output=True, text=True)
    reasons = {"a.pt": "File too large", "a.npy": "120000 requested and 19872 written", "a.png": "File too large"}
    assert done.stdout.splitlines() == [
        f"{tmp_path / name} cannot be written ({why})" for name, why in reasons.items()
    ], done.stderr
    assert not list(tmp_path.iterdir())


def test_large_files_are_told_apart_by_samples(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(bytes(2**23))
    first = sampled_sha256(path)
    assert sampled_sha256(path) == first
    path.write_bytes(bytes(2**23 - 1))
    assert sampled_sha256(path) != first
    for size in (0, 1, 1000):
        path.write_bytes(b"a" * size)
        smaller = sampled_sha256(path)
        path.write_bytes(b"b" * size)
        assert size == 0 or sampled_sha256(path) != smaller


WRITES = {"write_text", "write_bytes", "imwrite", "savez", "savez_compressed", "VideoWriter"}
WRITING_CALLS = {"torch.save", "np.save", "json.dump", "shutil.copy", "shutil.copyfile", "shutil.move"}
BESIDE = {"whole_file", "atomic_path", "open_whole"}


def direct_writes(tree):
    """Calls that write a file outside a block of the one writer: (line, what is called)."""
    inside = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any(isinstance(n, ast.Name | ast.Attribute) and getattr(n, "id", getattr(n, "attr", "")) in BESIDE
                for item in block.items for n in ast.walk(item.context_expr))
        for node in ast.walk(block)
    }  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in inside:
            continue
        text = ast.unparse(node.func)
        name = text.rpartition(".")[2]
        modes = [arg.value for arg in [*node.args, *(k.value for k in node.keywords)] if isinstance(arg, ast.Constant)]
        opens = name == "open" and any(isinstance(m, str) and set(m) & set("wax+") and len(m) < 4 for m in modes)
        is_method = not isinstance(node.func, ast.Name)  # a function is ours of that name
        if (is_method and name in WRITES) or opens or text in WRITING_CALLS:
            yield node.lineno, name


def test_no_file_is_written_but_by_the_one_writer():
    """``files.py`` of the plugin, ``saving.py`` of the host; but for logs and what is gone with the process."""
    allowed = {
        ("streams.py", "open"), ("benchmarks/pie/run.py", "open"), ("training/publish.py", "copy"),
        ("benchmarks/toy/whole.py", "save"), ("benchmarks/sweeps/job.py", "open"),
    }  # fmt: skip
    faults = []
    for root in (REPOSITORY / "threestudio", REPOSITORY / "custom" / "threestudio-ssd"):
        for path in sorted(root.rglob("*.py")):
            place = str(path.relative_to(root))
            for line, name in direct_writes(ast.parse(path.read_text(encoding="utf-8"))):
                if (place, name) not in allowed:
                    faults.append(f"{place}:{line}: {name}")
    assert not faults
