"""Whether edits can run on this machine: one line a thing, with what mends it. torch is imported only where asked for.

A check never stops the others: whatever a broken package raises becomes its line.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..early import data_folder, repository
from ..errors import first_line

Verdict = Literal["OK", "--", "BAD"]
"""Fine; works, but costs something; no run is possible before it is mended."""
BREAKS = (ImportError, OSError, RuntimeError, ValueError, AttributeError, TypeError, AssertionError)
"""What broken packages and devices raise; torch asserts that it was made for a device."""
LEAST_PYTHON = (3, 11)
LEAST_MEMORY, LEAST_DISK = 2.0, 1.0
"""GB: the default edit peaks at 0.85 and loads beside what else runs; a run folder holds a checkpoint and a video."""
SETUP = f"{Path(sys.executable).name} -m pip install -r requirements.txt"
EMBEDDED = ("tiny-ldm", "tiny-ip2p", "tiny-clip", "tiny-seg")


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        name: What was looked at.
        verdict: How it is.
        text: What was found; where that is not fine, what it costs.
        fix: The one line that mends it; empty where nothing has to be.
    """

    name: str
    verdict: Verdict
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:4}{self.name:13}{self.text}" + (f"; to mend it: {self.fix}" if self.fix else "")


@dataclass
class DoctorConfig:
    """Keys of the doctor."""

    out: str = "outputs"
    """Folder that runs are written to."""


def examine(out: str) -> Iterator[Finding]:
    """Look at everything an edit needs.

    Args:
        out: Folder that runs are written to.
    """
    yield python()
    yield system()
    yield packages()
    for check in (torch_and_devices, gsplat_kernel, rasteriser, memory):
        yield guarded(check)
    yield disk(Path(out))
    yield embedded_models()
    yield hub()
    yield from extras()
    yield guarded(video)


def guarded(check: Callable[[], Finding]) -> Finding:
    """What a check finds, or what stopped it."""
    try:
        return check()
    except BREAKS as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        return Finding(check.__name__.partition("_")[0], "BAD", why, SETUP)


def python() -> Finding:
    """The interpreter."""
    where = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < LEAST_PYTHON:
        return Finding("python", "BAD", f"{where}; 3.11 is needed", "make setup PYTHON=/path/to/python3.11")
    return Finding("python", "OK", where)


def system() -> Finding:
    """The operating system: what is tested runs on Linux."""
    name = platform.platform(terse=True)
    if platform.system() == "Linux":
        return Finding("system", "OK", f"{name}, {os.cpu_count()} cores")
    return Finding("system", "--", f"{name}: tests run on Linux; here, only what it lacks of Unix is simulated by them")


def packages() -> Finding:
    """Whether what ``requirements.txt`` names is installed, in versions that fit."""
    from packaging.requirements import Requirement

    lines = (repository() / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in (line.partition("#")[0].strip() for line in lines) if line]
    faults = []
    for each in wanted:
        version = version_of(each.name)
        if version is None:
            faults.append(f"{each.name} is missing")
        elif not each.specifier.contains(version, prereleases=True):
            faults.append(f"{each.name} is {version}, not {each.specifier}")
    if faults:
        return Finding("packages", "BAD", ", ".join(faults), SETUP)
    return Finding("packages", "OK", f"all {len(wanted)} of requirements.txt")


def version_of(package: str) -> str | None:
    """The installed version, None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_and_devices() -> Finding:
    """torch, and the devices it sees."""
    import torch

    if torch.cuda.is_available():
        kind = "ROCm" if torch.version.hip else "CUDA"
        cards = [torch.cuda.get_device_properties(place) for place in range(torch.cuda.device_count())]
        names = ", ".join(f"{card.name} ({card.total_memory / 1e9:.0f} GB)" for card in cards)
        return Finding("torch", "OK", f"{torch.__version__}, {kind}: {names}")
    has_mps = torch.backends.mps.is_available()
    seen = "Apple's GPU is there and not used" if has_mps else "no GPU is seen"
    cost = "the embedded models run on the CPU, larger ones want a GPU"
    return Finding("torch", "OK" if torch.version.cuda is None else "--", f"{torch.__version__}, {seen}: {cost}")


def gsplat_kernel() -> Finding:
    """Whether gsplat's CUDA kernel loads and renders; tried only where there is CUDA."""
    import torch

    if not torch.cuda.is_available():
        return Finding("gsplat", "OK", "not needed without CUDA: the CPU has a rasteriser of its own")
    if importlib.util.find_spec("gsplat.csrc") is None and not _is_built():
        if shutil.which("nvcc") is None:
            fix = "install the CUDA toolkit (nvcc), or a gsplat wheel made for this torch"
            return Finding("gsplat", "BAD", "its kernel is not built, and there is no nvcc to build it", fix)
        return Finding("gsplat", "--", "its kernel is not built yet: the first render builds it, in some minutes")
    try:
        renders = _render("cuda")
    except BREAKS as error:
        fix = "pip install --force-reinstall gsplat==1.5.3, beside a CUDA toolkit that fits torch"
        return Finding("gsplat", "BAD", f"its kernel does not run ({first_line(error)})", fix)
    return Finding("gsplat", "OK", "its CUDA kernel renders") if renders else _renders_nothing("gsplat")


def _is_built() -> bool:
    """Whether torch has built the kernel before."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    return any(Path(root).glob("**/gsplat_cuda/*.so")) or any(Path(root).glob("**/gsplat_cuda/*.pyd"))


def rasteriser() -> Finding:
    """Whether the rasteriser of the CPU renders; where it was never compiled, that is left to the first render."""
    from ..rasterizers.compiling import is_compiled

    if not is_compiled():
        return Finding("rasteriser", "--", "not compiled yet: the first render takes about 20 seconds more")
    return Finding("rasteriser", "OK", "renders on the CPU") if _render("cpu") else _renders_nothing("rasteriser")


def _render(device: str) -> bool:
    """Whether one Gaussian in front of a camera is seen."""
    import torch

    from ..cameras import orbit_cameras
    from ..gaussians import Gaussians
    from ..rendering import render

    ones = torch.ones(1, 3)
    quat = torch.tensor([[1.0, 0, 0, 0]])
    ball = Gaussians(0 * ones, -2 * ones, quat, torch.tensor([4.0]), ones[:, None], torch.zeros(1, 0, 3)).to(device)
    camera = orbit_cameras([0.0, 0, 0], 2.0, 0.0, 0.0, 40.0, 32, 32).to(device)
    image = render(ball, camera, torch.zeros(3, device=device))[0][0]
    return bool(image[16, 16].min() > 0.5) and bool(image[0, 0].max() < 0.01)


def _renders_nothing(name: str) -> Finding:
    return Finding(name, "BAD", "it runs and shows something else than it should", "report it as a bug")


def memory() -> Finding:
    """What is free of the main memory."""
    import psutil

    held = psutil.virtual_memory()
    text = f"{held.available / 1e9:.1f} of {held.total / 1e9:.1f} GB are free"
    if held.available / 1e9 < LEAST_MEMORY:
        return Finding("memory", "--", f"{text}: the default edit needs 0.85 GB", "close other programs")
    return Finding("memory", "OK", text)


def disk(out: Path) -> Finding:
    """Whether runs can be written, and how much."""
    folder = next(each for each in (out.absolute(), *out.absolute().parents) if each.exists())
    if not os.access(folder, os.W_OK) or not folder.is_dir():
        return Finding("disk", "BAD", f"{folder} cannot be written", "start in another folder, or set exp_root_dir=...")
    free = shutil.disk_usage(folder).free / 1e9
    text = f"{free:.1f} GB are free for runs in {out}"
    if free < LEAST_DISK:
        return Finding(
            "disk", "--", f"{text}: a run of a large scene needs more", "set exp_root_dir=... to another disk"
        )
    return Finding("disk", "OK", text)


def embedded_models() -> Finding:
    """The small models that are shipped."""
    folder = data_folder()
    missing = [name for name in EMBEDDED if not any((folder / name).rglob("*.safetensors"))]
    if missing:
        fix = "git checkout -- data, or make models"
        return Finding("models", "BAD", f"{folder} lacks {', '.join(missing)}", fix)
    return Finding("models", "OK", f"{', '.join(EMBEDDED)} in {folder}")


def hub() -> Finding:
    """Where models of the hub are kept, which are there, and whether more may be fetched."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    names = sorted(each.name.removeprefix("models--").replace("--", "/") for each in cache.glob("models--*"))
    kept = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "no model"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        text = f"{cache} holds {kept}; HF_HUB_OFFLINE is set, so nothing is downloaded"
        return Finding("hub", "OK" if names else "--", text, "" if names else "unset HF_HUB_OFFLINE to download models")
    return Finding("hub", "OK", f"{cache} holds {kept}; others are downloaded when a config names them")


def extras() -> Iterator[Finding]:
    """What ``requirements-extra.txt`` names, each with what it is for."""
    for line in (repository() / "requirements-extra.txt").read_text(encoding="utf-8").splitlines():
        wanted, _, use = line.partition("#")
        name = (re.match(r"[\w.-]+", wanted) or [""])[0]
        if not name:
            continue
        version = version_of(name)
        if version is None:
            yield Finding(name, "--", f"not installed: {use.strip()}", f"pip install {name}")
        else:
            yield Finding(name, "OK", f"{version}: {use.strip()}")


def video() -> Finding:
    """Whether the video of a run can be written, and whether there is an ffmpeg beside."""
    import numpy as np

    from threestudio.utils.saving import SaverMixin

    saver: Any = SaverMixin()
    with tempfile.TemporaryDirectory() as folder:
        saver.set_save_dir(folder)
        path = Path(saver.save_video("try.mp4", [np.zeros((32, 32, 3), np.uint8)] * 2))
        size = path.stat().st_size
    if not size:
        return Finding("video", "--", "runs write an empty video", "set data.video_frames=0")
    beside = "ffmpeg is there" if shutil.which("ffmpeg") else "no ffmpeg, which runs do not need"
    return Finding("video", "OK", f"before_after.mp4 can be written; {beside}")


def is_fit(findings: list[Finding]) -> bool:
    """Whether runs are possible."""
    return all(finding.verdict != "BAD" for finding in findings)
