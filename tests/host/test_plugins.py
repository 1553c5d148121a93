"""Plugins as importable packages."""

import os
import pickle
import subprocess
import sys

import pytest

import threestudio
from threestudio import plugins, registry
from threestudio.errors import PluginError
from threestudio.plugins import load_plugins

GOOD = {
    "__init__.py": "from . import parts, deep\n",
    "parts.py": "import threestudio\nfrom .deep.inner import VALUE\n\n\n"
    "@threestudio.register('{name}-thing')\nclass Thing:\n    value = VALUE\n\n\ndef double(x):\n    return 2 * x\n",
    "deep/__init__.py": "",
    "deep/inner.py": "VALUE = 7\n",
}


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    """Leave no module, name or folder behind."""
    before = set(sys.modules)
    monkeypatch.setattr(registry, "__modules__", dict(registry.__modules__))
    monkeypatch.setenv(plugins._FOLDERS_VARIABLE, os.environ.get(plugins._FOLDERS_VARIABLE, ""))
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0].startswith("plug_"):
            del sys.modules[name]


def write_plugin(root, name, files=GOOD):
    for path, text in files.items():
        file = root / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{name}", name))


def test_a_hyphenated_folder_is_a_package(tmp_path):
    write_plugin(tmp_path, "plug-one")
    loaded = load_plugins(tmp_path)
    assert list(loaded) == ["plug_one"]
    import plug_one.deep.inner

    assert plug_one.deep.inner.VALUE == 7
    assert threestudio.find("plug-one-thing").value == 7
    assert threestudio.find("plug-one-thing").__module__ == "plug_one.parts"


def test_loading_again_changes_nothing(tmp_path):
    write_plugin(tmp_path, "plug-two")
    first = load_plugins(tmp_path)["plug_two"]
    names = dict(registry.__modules__)
    assert load_plugins(tmp_path)["plug_two"] is first
    assert registry.__modules__ == names


def test_its_objects_are_pickled_by_name(tmp_path):
    write_plugin(tmp_path, "plug-three")
    load_plugins(tmp_path)
    import plug_three.parts

    assert pickle.loads(pickle.dumps(plug_three.parts.double)) is plug_three.parts.double


def test_a_fresh_process_that_imports_the_host_finds_it(tmp_path):
    write_plugin(tmp_path, "plug-four")
    load_plugins(tmp_path)
    import plug_four.parts

    code = (
        "import sys, pickle, threestudio; "
        "double = pickle.loads(bytes.fromhex(sys.argv[1])); import plug_four.deep.inner as inner; "
        "sys.stdout.write(str(double(inner.VALUE)))"
    )
    pickled = pickle.dumps(plug_four.parts.double).hex()
    done = subprocess.run(
        [sys.executable, "-c", code, pickled], capture_output=True, text=True, cwd=plugins.REPOSITORY, check=True
    )
    assert done.stdout == "14"


def test_a_spawned_worker_finds_it(tmp_path):
    write_plugin(tmp_path, "plug-five")
    (tmp_path / "main.py").write_text(
        "import sys, multiprocessing\n"
        f"sys.path.insert(0, {str(plugins.REPOSITORY)!r})\n"
        "import threestudio\n"
        "if __name__ == '__main__':\n"
        f"    threestudio.load_plugins({str(tmp_path)!r})\n"
        "    from plug_five.parts import double\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        sys.stdout.write(str(pool.map(double, [1, 2])))\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "main.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "[2, 4]"


def test_hidden_and_disabled_folders_and_files_are_left_alone(tmp_path):
    write_plugin(tmp_path, ".plug-hidden")
    write_plugin(tmp_path, "plug-off.disabled")
    write_plugin(tmp_path, "_plug")
    (tmp_path / "plug_file.py").write_text("raise RuntimeError\n")
    (tmp_path / "plug-empty").mkdir()
    assert load_plugins(tmp_path) == {}


@pytest.mark.parametrize(
    ("files", "where", "cause"),
    [
        (
            {"__init__.py": "from . import inner\n", "inner.py": "x = 1\nimport no_such_module\n"},
            "inner.py:2",
            ImportError,
        ),
        ({"__init__.py": "from . import inner\n", "inner.py": "x = 1\ndef f(:\n"}, "inner.py:2", SyntaxError),
        ({"__init__.py": "\n\n1 / 0\n"}, "__init__.py:3", ZeroDivisionError),
        ({"__init__.py": "import os\nos.no_such_name\n"}, "__init__.py:2", AttributeError),
    ],
)
def test_a_broken_plugin_names_file_line_and_cause(tmp_path, files, where, cause):
    write_plugin(tmp_path, "plug-broken", files)
    with pytest.raises(PluginError) as caught:
        load_plugins(tmp_path)
    assert isinstance(caught.value.__cause__, cause)
    assert f"{tmp_path / 'plug-broken'}{os.sep}{where}: " in caught.value.what
    assert type(caught.value.__cause__).__name__ in caught.value.what
    assert not [name for name in sys.modules if name.startswith("plug_broken")]


PLACED = "import threestudio\nthreestudio.register_places(__name__, {'late': 'late:Late'})\n"


@pytest.mark.parametrize(
    ("text", "where", "cause"),
    [("x = 1\nimport no_such_module\n", "late.py:2", ImportError), ("x = 1\n", "__init__.py", AttributeError)],
)
def test_a_place_that_is_broken_names_file_line_and_cause(tmp_path, text, where, cause):
    write_plugin(tmp_path, "plug-late", {"__init__.py": PLACED, "late.py": text})
    load_plugins(tmp_path)
    with pytest.raises(PluginError) as caught:
        threestudio.find("late")
    assert isinstance(caught.value.__cause__, cause)
    assert caught.value.what.startswith(
        f"the plugin plug-late cannot be loaded: {tmp_path / 'plug-late'}{os.sep}{where}: "
    )


def test_what_a_broken_plugin_registered_is_taken_back(tmp_path):
    text = (
        "import threestudio\n\n\n@threestudio.register('half')\nclass Half:\n    pass\n\n\n"
        "threestudio.register_places(__name__, {'rest': 'rest:Rest'})\nthreestudio.register_early_check(Half)\n1 / 0\n"
    )
    write_plugin(tmp_path, "plug-half", {"__init__.py": text})
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        load_plugins(tmp_path)
    assert not {"half", "rest"} & set(registry.__modules__)
    assert "plug_half.Half" not in registry.EARLY_CHECKS


TAKEN = "import threestudio\n\n\n@threestudio.register('ssd-gs-system')\nclass Mine:\n    pass\n"


@pytest.mark.parametrize("is_first", [False, True])
def test_a_name_that_is_taken_is_said_with_both_files_whatever_was_loaded_first(tmp_path, monkeypatch, is_first):
    write_plugin(tmp_path, "plug-taken", {"__init__.py": TAKEN})
    places = {name: place for name, place in registry.__modules__.items() if name != "ssd-gs-system"}
    if is_first:
        monkeypatch.setattr(registry, "__modules__", places)
        load_plugins(tmp_path)
    with pytest.raises(PluginError) as caught:
        if is_first:
            registry.register_places("threestudio_ssd", {"ssd-gs-system": "systems.scene_edit:SceneEditSystem"})
        else:
            load_plugins(tmp_path)
    assert caught.value.what.startswith("'ssd-gs-system' is registered twice: by ")
    assert f"by plug_taken.Mine ({tmp_path / 'plug-taken' / '__init__.py'})" in caught.value.what
    assert "threestudio-ssd" in caught.value.what
    assert caught.value.fix == "choose another name in the file of yours"


def test_an_error_meant_for_the_user_stays_itself(tmp_path):
    text = (
        "from threestudio.errors import MissingPackageError\n"
        "raise MissingPackageError(what='the viewer needs viser', expected='viser', fix='pip install viser')\n"
    )
    write_plugin(tmp_path, "plug-needs", {"__init__.py": text})
    with pytest.raises(ValueError, match="the viewer needs viser") as caught:
        load_plugins(tmp_path)
    assert type(caught.value).__name__ == "MissingPackageError"


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(PluginError, match="does not exist"):
        load_plugins(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_a_module_is_an_error(tmp_path):
    write_plugin(tmp_path, "3d plug")
    with pytest.raises(PluginError, match="cannot be a module name"):
        load_plugins(tmp_path)


def test_two_folders_with_one_module_name_are_an_error(tmp_path):
    write_plugin(tmp_path / "a", "plug-six")
    write_plugin(tmp_path / "b", "plug_six")
    load_plugins(tmp_path / "a")
    with pytest.raises(PluginError, match="would be imported as plug_six"):
        load_plugins(tmp_path / "b")


def test_importing_the_host_brings_in_nothing_heavy():
    code = (
        "import sys, threestudio; "
        "heavy = {'torch', 'numpy', 'pytorch_lightning', 'omegaconf', 'cv2', 'yaml'} & set(sys.modules); "
        "sys.stdout.write(str(sorted(heavy)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=plugins.REPOSITORY, check=True
    )
    assert done.stdout == "[]"
