"""What only Unix has stops no other system: all is imported, and a scene converted and described, without it."""

import os
import subprocess
import sys

import psutil

from tests.host.test_hygiene import HOST, PLUGIN, sources
from threestudio.plugins import REPOSITORY
from threestudio_ssd import platforms

UNIX_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
UNIX_NAMES = {
    "os": (
        "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "initgroups", "killpg",
        "mkfifo", "nice", "register_at_fork", "sched_getaffinity", "setsid", "statvfs", "sysconf", "uname", "wait3",
    ),
    "signal": ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm", "setitimer"),
    "time": ("tzset",),
}  # fmt: skip
"""What Python has on Linux and not on Windows."""
WITHOUT_THEM = """
import importlib, sys, threestudio
threestudio.load_plugins()
for name in {ours!r}:
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] in ("threestudio", "threestudio_ssd")]:
    del sys.modules[name]  # ours are imported again; what others import is their own affair, and is there by now
for name in {modules!r}:
    sys.modules[name] = None
for module, names in {names!r}.items():
    for name in names:
        vars(sys.modules[module]).pop(name, None)
import threestudio, torch
threestudio.load_plugins()
for name in {ours!r}:
    importlib.import_module(name)
from threestudio.run import main
from threestudio_ssd.report.edit_report import peak_memory
assert main(["--run", "convert", "data/toy-scene/scene.ply", sys.argv[1] + "/scene.splat"]) == 0
assert main(["--run", "info", sys.argv[1] + "/scene.splat"]) == 0
assert peak_memory(torch.device("cpu")) > 1e8
"""


def our_modules() -> list[str]:
    """Every module of the host and of the plugin."""
    found = []
    for root, package in ((HOST, "threestudio"), (PLUGIN, "threestudio_ssd")):
        for path in sources(root):
            parts = path.relative_to(root).with_suffix("").parts
            found.append(".".join((package, *(part for part in parts if part != "__init__"))))
    return found


def test_everything_is_there_without_what_only_unix_has(tmp_path):
    assert all(hasattr(sys.modules[module], name) for module, names in UNIX_NAMES.items() for name in names)
    code = WITHOUT_THEM.format(modules=UNIX_MODULES, names=UNIX_NAMES, ours=our_modules())
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scene.splat").stat().st_size > 0


def test_memory_is_told_with_and_without_the_module_of_unix(monkeypatch):
    held = psutil.Process().memory_info().rss
    assert platforms.peak_memory_of_process() >= 0.9 * held
    assert abs(platforms.memory_of_process() - held) < 0.2 * held
    monkeypatch.setitem(sys.modules, "resource", None)
    assert abs(platforms.peak_memory_of_process() - held) < 0.2 * held
