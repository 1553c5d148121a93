"""How long an answer takes: what a question imports, and its time beside that of ``import torch``."""

import ast
import os
import resource
import subprocess
import sys

import pytest

import threestudio
import threestudio_ssd
from tests.host.test_hygiene import PLUGIN, parse, sources
from threestudio import apps, registry
from threestudio.plugins import REPOSITORY
from threestudio.utils.config_strict import field_hints
from threestudio.utils.config_tree import USUAL_KEYS, config_class_of
from threestudio_ssd.host import COMMANDS

HEAVY = {"torch", "numpy", "numba", "pytorch_lightning", "torchmetrics", "diffusers", "transformers", "cv2", "PIL"}
TRAINING = {"pytorch_lightning", "lightning_fabric", "torchmetrics", "tensorboard", "diffusers", "transformers"}
LIST = "sys.stdout.write('\\n' + ' '.join({word.split('.')[0] for word in sys.modules}))"


def run_python(*argv: str) -> tuple[float, subprocess.CompletedProcess]:
    """CPU seconds of a fresh process, whatever else the machine does; and what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {key: value for key, value in os.environ.items() if key != "THREESTUDIO_PLUGIN_FOLDERS"}
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=False, cwd=REPOSITORY, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


def launch(*argv: str) -> tuple[float, int, set[str], str, str]:
    """``launch.py`` in a fresh process: seconds, exit code, top packages imported, what it printed and complained."""
    code = f"import sys\nfrom threestudio.run import main\ncode = main(sys.argv[1:])\n{LIST}\nsys.exit(code)"
    seconds, done = run_python("-c", code, *argv)
    text, _, modules = done.stdout.rpartition("\n")
    return seconds, done.returncode, set(modules.split()), text, done.stderr


@pytest.fixture(scope="module")
def torch_seconds() -> float:
    """What ``import torch`` takes here and now: the better of two, since the first may read from the disk."""
    return min(run_python("-c", "import torch")[0] for _ in range(2))


def test_help_lists_every_app_with_a_line(torch_seconds):
    seconds, code, modules, out, _ = launch("--help")
    assert (code, modules & HEAVY) == (0, set())
    assert seconds < torch_seconds / 2
    names = apps.app_names()
    assert len(names) > 10
    for name in names:
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {name} ")]
        assert len(line.split(maxsplit=1)[1].split()) >= 4, f"{name} says nothing of itself"
    _, code, modules, listed, _ = launch("--run")
    assert (code, modules & HEAVY) == (0, set())
    assert listed.strip() in out


def test_help_of_an_app_lists_its_keys():
    _, code, _, out, _ = launch("--run", "convert", "--help")
    assert code == 0
    assert out.startswith("usage: launch.py --run convert [SRC] [DST]")
    assert "\nValues without key= are, in this order: src, dst.\n" in out
    for name in field_hints(config_class_of(threestudio.find("app-convert"))):
        assert f"\n  {name}  (" in out
    assert "true or false; False)" in out


@pytest.mark.parametrize("name", [name for name in threestudio_ssd.PLACES if name.startswith("app-")])
def test_every_app_has_help(name):
    text = apps.app_help(name.removeprefix("app-"))
    assert text.startswith(f"usage: launch.py --run {name.removeprefix('app-')}")
    keys = [line for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    config_class = config_class_of(threestudio.find(name))
    assert len(keys) >= len(field_hints(config_class) if config_class is not None else ())


def test_loading_plugins_imports_nothing_heavy(torch_seconds):
    seconds, done = run_python("-c", f"import sys, threestudio; threestudio.load_plugins(); {LIST}")
    assert not set(done.stdout.split()) & HEAVY
    assert seconds < torch_seconds / 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--config", "configs/none.yaml"], "the config configs/none.yaml does not exist"),
        (["--config", "configs/ssd-gs.yaml", "scen=a.ply"], "unknown key scen"),
        (["--config", "configs/ssd-gs.yaml", "scene=no/a.ply"], "no/a.ply does not exist; expected a splat file"),
        (["--config", "configs/ssd-gs.yaml", "cameras=no/a.json"], "cameras no/a.json do not exist"),
        (["--config", "configs/ssd-gs.yaml", "mask.picture=no/masks"], "mask.picture no/masks does not exist"),
        (["--config", "configs/ssd-gs.yaml", "mask.saved=no/a.npy"], "mask.saved no/a.npy does not exist"),
        (["--config", "configs/fit-gs.yaml", "cameras=no/capture"], "no/capture does not exist"),
        (["--config", "configs/ssd-image.yaml", "picture=no/a.png"], "picture no/a.png cannot be read"),
    ],
)
def test_what_is_missing_is_said_before_anything_heavy_is_imported(given, message, torch_seconds):
    seconds, code, modules, _, err = launch(*given)
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1
    assert not modules & HEAVY
    assert seconds < torch_seconds


def test_a_misspelt_key_of_the_views_does_without_lightning(torch_seconds):
    seconds, code, modules, _, err = launch("--config", "configs/ssd-gs.yaml", "data.num_train_view=3")
    assert code == 2
    assert "unknown key data.num_train_view" in err
    assert not modules & TRAINING
    assert seconds < 2.5 * torch_seconds


def test_an_empty_config_is_answered_by_one_sentence(tmp_path):
    (tmp_path / "empty.yaml").write_text("name: mine\n")
    _, code, modules, _, err = launch("--config", str(tmp_path / "empty.yaml"))
    assert (code, modules & HEAVY) == (2, set())
    assert err == (
        "error: the config does not set data_type and system_type; expected a whole experiment; "
        "start from configs/ssd-gs.yaml: copy it, or include it\n"
    )
    assert (REPOSITORY / "configs" / "ssd-gs.yaml").is_file()


def decorated_names() -> dict[str, str]:
    """Registered name -> ``module:attribute``, as the decorators in the plugin's source say."""
    names = {}
    for path in sources(PLUGIN):
        module = ".".join(path.relative_to(PLUGIN).with_suffix("").parts)
        for node in ast.walk(parse(path)):
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "threestudio.register":
                    assert isinstance(call.args[0], ast.Constant)
                    names[call.args[0].value] = f"{module}:{node.name}"
    return names


def test_table_and_decorators_agree():
    targets = {name: place if isinstance(place, str) else place[0] for name, place in threestudio_ssd.PLACES.items()}
    assert targets == decorated_names()


KEYS = {name: place for name, place in threestudio_ssd.PLACES.items() if not isinstance(place, str)}


@pytest.mark.parametrize("name", KEYS)
def test_keys_have_the_place_that_the_table_says(name):
    config_class = registry.Place("threestudio_ssd", *KEYS[name]).load(KEYS[name][1])
    assert config_class is config_class_of(threestudio.find(name))


def test_keys_that_have_a_place_need_no_lightning():
    modules = sorted({f"threestudio_ssd.{config.partition(':')[0]}" for _, config in KEYS.values()})
    code = f"import sys, importlib, threestudio\nfor name in {modules}: importlib.import_module(name)\n{LIST}"
    _, done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & TRAINING


def test_a_conversion_imports_torch_and_little_else(tmp_path):
    """Of its CPU seconds (docs/formats.md) most are ``import torch``."""
    code = (
        "import sys, torch; before = {*sys.modules}\n"
        "from threestudio.run import main; given = 'data/toy-scene/scene.ply'\n"
        "for suffix in ('ply', 'compressed.ply', 'splat', 'spz', 'glb'):\n"
        "    assert main(['--run', 'convert', given, f'{sys.argv[1]}/a.{suffix}']) == 0\n"
        "sys.stdout.write('\\n' + ' '.join({*sys.modules} - before))"
    )
    _, done = run_python("-c", code, str(tmp_path))
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.rpartition("\n")[2].split())
    assert not {name.split(".")[0] for name in modules} & ((HEAVY | TRAINING | {"sympy", "scipy"}) - {"numpy"})
    assert len(modules) < 220, sorted(modules)


def test_bases_and_saving_need_no_lightning():
    code = f"import sys, threestudio.utils.base, threestudio.utils.saving, threestudio.systems.config\n{LIST}"
    _, done = run_python("-c", code)
    assert not set(done.stdout.split()) & TRAINING


def test_a_host_without_places_gets_every_class_but_commands_at_once():
    """As upstream threestudio, which has ``register`` and ``find`` only."""
    code = (
        "import sys, threestudio; del threestudio.register_places, threestudio.register_early_check\n"
        "threestudio.load_plugins(); from threestudio.registry import Place, __modules__\n"
        "assert not any(isinstance(held, Place) for held in __modules__.values())\n"
        "sys.stdout.write(' '.join(__modules__))"
    )
    _, done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    targets = {name: place if isinstance(place, str) else place[0] for name, place in threestudio_ssd.PLACES.items()}
    commands = {name for name, target in targets.items() if target.partition(".")[0] in COMMANDS}
    assert set(done.stdout.split()) == set(threestudio_ssd.PLACES) - commands


def test_usual_keys_are_lightnings_own():
    """What is let through without importing Lightning is what it would take."""
    import pytorch_lightning as pl
    from omegaconf import OmegaConf
    from pytorch_lightning.callbacks import ModelCheckpoint

    from threestudio.utils.config_tree import check_arguments

    values = {int: 3, str: "cpu", bool: False}
    for function, group in ((pl.Trainer.__init__, "trainer"), (ModelCheckpoint.__init__, "checkpoint")):
        for key, hint in USUAL_KEYS[group].items():
            for value in [values[hint]] if hint in values else hint.__args__:
                check_arguments(function, OmegaConf.create({key: value}), group)
