"""What the source itself promises: layers, known names, keys that are read, configs that parse, no machine's paths."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.host.config_reads import unread_fields
from threestudio.plugins import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete

HOST, PLUGIN = REPOSITORY / "threestudio", REPOSITORY / "custom" / "threestudio-ssd"
GROUND = {
    "early", "errors", "files", "images", "named", "neighbors", "platforms", "pretrained", "ranks", "reading", "seeds",
}  # fmt: skip
SPACE = GROUND | {"gaussians", "cameras", "rasterizers", "fields", "scenes"}
VIEWS = SPACE | {"rendering", "metrics", "masks"}
EDITS = VIEWS | {"scores", "diffusion", "guidance", "data", "host", "latents"}
MAY_IMPORT = {
    "arguments": {"errors"},
    "early": {"errors"},
    "errors": set(),
    "files": {"errors"},
    "host": {"files"},
    "images": {"early", "errors", "files", "reading"},
    "named": {"errors"},
    "neighbors": set(),
    "platforms": set(),
    "pretrained": {"early", "errors", "files"},
    "ranks": set(),
    "reading": {"errors"},
    "seeds": set(),
    "scores": GROUND,
    "metrics": GROUND,
    "gaussians": GROUND,
    "cameras": GROUND,
    "rasterizers": GROUND,
    "fields": GROUND | {"cameras", "gaussians"},
    "scenes": GROUND | {"fields", "gaussians"},
    "latents": GROUND | {"diffusion", "fields", "scenes"},
    "diffusion": GROUND,
    "rendering": SPACE,
    "masks": SPACE | {"rendering", "host"},
    "data": SPACE | {"rendering", "host"},
    "guidance": GROUND | {"scores", "diffusion", "host"},
    "toyworld": VIEWS,
    "edits": EDITS,
    "editors": EDITS | {"edits"},
    "refits": EDITS | {"edits", "editors"},
    "report": EDITS,
    "systems": EDITS | {"edits", "editors", "refits", "report"},
    "api": EDITS | {"arguments", "edits", "editors", "refits"},
    "study": EDITS | {"report"},
    "viewer": EDITS | {"api", "edits", "report"},
    "training": SPACE | {"rendering", "toyworld", "diffusion", "metrics"},
    "benchmarks": EDITS | {"toyworld", "edits", "editors", "refits", "report", "systems"},
}
"""Plugin part -> the other parts it may import. Apps stand on top and may import all."""
WITHOUT_HOST = GROUND - {"pretrained"} | {"scores", "metrics", "gaussians", "cameras", "rasterizers"}
PLAIN_ONLY = {"scores", "gaussians", "cameras", "rasterizers"}
PLAIN = {"torch", "numpy", "numba", "llvmlite", "jaxtyping", "PIL", "cv2", "zstandard", "gsplat"}


def sources(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(path: Path) -> list[tuple[str, str | None]]:
    """Module and imported name of every import; relative ones start with as many dots as written."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(f"{'.' * node.level}{node.module or ''}", alias.name) for alias in node.names]
    return found


def part_of(path: Path) -> str:
    """The plugin part a file belongs to: its top folder, or its own name."""
    return path.relative_to(PLUGIN).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The plugin parts a file imports."""
    package = path.relative_to(PLUGIN).parts[:-1]
    found = set()
    for module, name in imports(path):
        if module.startswith("."):
            level = len(module) - len(module.lstrip("."))
            target = [*package[: len(package) - (level - 1)], *filter(None, module.lstrip(".").split("."))]
            found.add(target[0] if target else name)
        elif module.split(".")[0] == "threestudio_ssd":
            found.add((module.split(".") + [name or ""])[1])
    return found


def top_level(path: Path) -> set[str]:
    return {module.split(".")[0] for module, _ in imports(path) if not module.startswith(".")}


def listed_names(heading: str | None) -> set[tuple[str, str]]:
    """Names listed in docs/plugin-api.md: those of upstream (None) or those below a heading."""
    text = (REPOSITORY / "docs" / "plugin-api.md").read_text(encoding="utf-8")
    first, _, rest = text.partition("## Names of this host only")
    section = first if heading is None else rest.partition("\n## ")[0]
    rows = re.findall(r"^- `([\w.]+)`: (.*)$", section, re.MULTILINE)
    return {(module, name) for module, names in rows for name in re.findall(r"`(\w+)`", names)}


def used_names(path: Path) -> set[tuple[str, str]]:
    """Host names a file uses, as (module, name)."""
    used = set()
    for module, name in imports(path):
        if module.split(".")[0] == "threestudio" and name is not None:
            used.add((module, name))
        elif module.startswith("threestudio."):
            used.add((module, "*"))
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "threestudio":
            used.add(("threestudio", node.attr))
    return used


@pytest.mark.parametrize("path", sources(PLUGIN), ids=lambda path: str(path.relative_to(PLUGIN)))
def test_arrows_point_down(path):
    part = part_of(path)
    if part in ("__init__", "apps"):
        return
    assert part in MAY_IMPORT, f"{part} is a new part: say in MAY_IMPORT what it may import"
    upwards = imported_parts(path) - MAY_IMPORT[part] - {part}
    assert not upwards, f"{part} must not import {sorted(upwards)}"
    if part in WITHOUT_HOST:
        assert "threestudio" not in top_level(path), f"{part} must not import the host"
    if part in PLAIN_ONLY:
        extra = top_level(path) - set(sys.stdlib_module_names) - PLAIN
        assert not extra, f"{part} must not import {sorted(extra)}"


def test_the_host_knows_no_plugin_no_gaussian_and_no_score():
    forbidden = {"threestudio_ssd", "gsplat", "diffusers", "transformers", "numba"}
    found = {str(path): top_level(path) & forbidden for path in [*sources(HOST), REPOSITORY / "launch.py"]}
    assert not {path: names for path, names in found.items() if names}


def test_the_plugin_uses_listed_names_only():
    upstream, of_this_host = listed_names(None), listed_names("this host")
    assert ("threestudio.systems.base", "BaseSystem") in upstream
    for path in sources(PLUGIN):
        is_free = part_of(path) in ("__init__", "api", "apps", "benchmarks", "host", "viewer")
        allowed = upstream | of_this_host if is_free else upstream
        assert not used_names(path) - allowed, f"{path.relative_to(PLUGIN)}: not in docs/plugin-api.md"


def test_listed_names_exist():
    for module, name in listed_names(None) | listed_names("this host"):
        assert hasattr(__import__(module, fromlist=[name]), name), f"{module} has no {name}"


def place_in_house(path: Path) -> str:
    """The plugin part a file belongs to, or the host."""
    return part_of(path) if path.is_relative_to(PLUGIN) else "threestudio"


def test_every_config_field_is_read_near_its_class():
    unread = unread_fields({path: parse(path) for path in [*sources(HOST), *sources(PLUGIN)]}, place_in_house)
    assert unread == ["config.py: ExperimentConfig.description"]  # free text of the user


def test_a_field_read_only_of_an_unrelated_class_counts_as_unread():
    def tree(**files: str) -> dict[Path, ast.Module]:
        return {Path(name.replace("__", "/") + ".py"): ast.parse(text) for name, text in files.items()}

    mask = "class MaskConfig:\n    grow: float = 0.0\n    clean: bool = True\n"
    system = (
        "from ..masks.mask import MaskConfig\nclass System:\n    class Config:\n        mask: MaskConfig\n"
        "        seed: int = 0\n    def go(self):\n        return self.cfg.mask.grow\n"
    )
    other = "class Other:\n    clean = True\n    seed = 3\ndef go(other):\n    return other.clean, other.seed\n"
    unread = unread_fields(tree(masks__mask=mask, systems__system=system, systems__other=other), lambda p: p.parent)
    assert unread == ["mask.py: MaskConfig.clean", "system.py: System.Config.seed"]
    report = "def report(system):\n    return system.cfg.seed\n"
    files = tree(masks__mask=mask, systems__system=system, systems__report=report)
    assert unread_fields(files, lambda p: p.parent) == ["mask.py: MaskConfig.clean"]
    user = "from ..systems.system import System\ndef go(system):\n    return system.settings.clean\n"
    files = tree(masks__mask=mask, systems__system=system, apps__user=user, systems__report=report)
    assert unread_fields(files, lambda p: p.parent) == []
    checker = "def check(keys):\n    return keys['clean']\n"
    handed = mask + "from ..ground.check import check\ndef go(cfg):\n    check(cfg)\n"
    files = tree(masks__mask=handed, systems__system=system, systems__report=report, ground__check=checker)
    assert unread_fields(files, lambda p: p.parent) == []


KEYS_OF_SWEEPS = REPOSITORY / "configs" / "sweeps" / "keys"
CONFIGS = sorted(path for path in (REPOSITORY / "configs").rglob("*.yaml") if path.parent != KEYS_OF_SWEEPS)


def test_there_is_a_default_config():
    assert REPOSITORY / "configs" / "ssd-gs.yaml" in CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY / "configs")))
def test_every_config_parses_strictly(path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    cfg = complete(load_config(path))
    assert cfg.system_type
    assert path.read_text(encoding="utf-8").startswith("#"), "a config opens with what it is for"


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    return [REPOSITORY / name for name in listed.split("\0") if name and (REPOSITORY / name).is_file()]


def test_no_machine_paths_in_tracked_files():
    roots = "|".join(["wo" + "rk", "ro" + "ot", "fa" + "rm", "ho" + "me", "tm" + "p"])
    pattern = re.compile(rf"(?<![\w.~/])/(?:{roots})/[A-Za-z.]|(?<!torch)\.lib" + "rary")
    found = []
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" in data[:8192] or path.suffix in (".ply", ".spz", ".sog"):
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if pattern.search(line) and not line.startswith("#!"):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}")
    assert not found


def test_tracked_files_are_small():
    large = {str(path): path.stat().st_size for path in tracked_files() if path.stat().st_size > 40e6}
    assert not large


def test_every_imported_package_is_required():
    """Whatever the packages import is named in a requirements file, under its distribution's name."""
    required = set()
    for path in REPOSITORY.glob("requirements*.txt"):
        rows = re.findall(r"^([A-Za-z][\w.-]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        required |= {row.lower().replace("_", "-") for row in rows}
    bundled = {
        "llvmlite": "numba",
        "huggingface-hub": "transformers",
        "tokenizers": "transformers",
        "pyyaml": "omegaconf",
        "packaging": "transformers",
    }
    distributions = packages_distributions()
    for path in [*sources(HOST), *sources(PLUGIN)]:
        for module in top_level(path) - set(sys.stdlib_module_names) - {"threestudio", "threestudio_ssd"}:
            names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
            names |= {bundled[name] for name in names & set(bundled)}
            assert names & required, (
                f"{path.relative_to(REPOSITORY)} imports {module}, which no requirements file names"
            )


def test_every_warning_of_ours_is_of_a_kind_that_tests_make_an_error():
    """``warnings.warn`` with a kind of Python's own would be lost among those of the libraries."""
    for path in [*sources(HOST), *sources(PLUGIN)]:
        for node in ast.walk(parse(path)):
            is_warn = isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
            assert not is_warn or ast.unparse(node.args[1]) == "SceneFormatWarning", f"{path}:{node.lineno}"
