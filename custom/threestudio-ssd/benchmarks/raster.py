"""Times of the CPU rasteriser: forward and backward by size, by stage, beside a plain yardstick, and its memory."""

import ctypes
import importlib
import importlib.util
import multiprocessing
import multiprocessing.queues
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import threestudio

from ..errors import ConfigError
from ..files import markdown_table
from ..platforms import memory_of_process
from ..rasterizers import rasterization
from ..rasterizers.stages import record_stages
from .roofline import count_work, measure_machine, roofline

COUNTS = (20_000, 100_000, 300_000, 1_000_000)
SIZES = ((128, 128), (512, 512), (1920, 1080))
EDIT_COUNT, EDIT_SIZE = 6_400, 64
GRID_COUNTS = (10_000, 100_000, 1_000_000, 10_000_000)
GRID_SIZES = ((64, 64), (256, 256), (512, 512), (1920, 1080), (3840, 2160))
PASSES = ("forward", "backward")
REFERENCE = (100_000, 512, 512)
"""Gaussians and size at which the yardstick runs too."""
SIGMA_PX = (0.7, 6.0)
DOUBLINGS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the reference, of its Gaussians or of its pixels, at which growth is shown."""


def bench_raster(cfg: Any) -> dict[str, Any]:
    """Run every case and log its figures; returns all of them.

    Args:
        cfg: Keys of ``--run bench-raster``.
    """
    if cfg.num_threads:
        torch.set_num_threads(cfg.num_threads)
    report: dict[str, Any] = {"machine": platform.processor(), "threads": torch.get_num_threads(), "cases": []}
    report["edit"] = bench_edit(max(cfg.repeats, 20))
    threestudio.info(f"{EDIT_COUNT} Gaussians at {EDIT_SIZE}x{EDIT_SIZE}: {_in_words(report['edit'])}")
    for count in (count for count in COUNTS if count <= cfg.max_gaussians):
        for width, height in SIZES:
            case = bench_case(count, width, height, cfg.repeats)
            report["cases"].append(case)
            threestudio.info(f"{count:>9} Gaussians at {width}x{height}: {_in_words(case)}")
    report["roofline"] = bench_roofline(max(cfg.repeats, 5))
    report["cameras"] = bench_cameras(cfg.repeats)
    report["growth"] = bench_growth(cfg.repeats, cfg.max_gaussians)
    threestudio.info(f"fastest of {cfg.repeats} runs, {report['threads']} threads:\n{as_tables(report)}")
    if Path(cfg.yardstick).is_file():
        report["yardstick"] = compare_with_yardstick(Path(cfg.yardstick), cfg.repeats)
        threestudio.info("yardstick at {} Gaussians, {}x{}: {:.0f} ms; ours {:.1f} ms; {:.1f} times as fast".format(
            *REFERENCE, *(report["yardstick"][key] for key in ("yardstick_ms", "ours_ms", "ratio"))
        ))  # fmt: skip
    if cfg.many:
        report["many"] = bench_many()
        threestudio.info("{gaussians:,} Gaussians: {seconds:.1f} s, at most {peak_gb:.1f} GB".format(**report["many"]))
    if cfg.grid:
        report["grid"] = bench_grid(GRID_COUNTS, GRID_SIZES)
        threestudio.info("One forward and backward pass:\n{}".format(grid_table(report["grid"])))
    if cfg.memory:
        report["memory"] = measure_memory()
        threestudio.info("peak memory beyond inputs and gradients: {:.2f} GB".format(report["memory"]["beyond_gb"]))
    return report


def _in_words(case: dict) -> str:
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in case["stages_ms"].items())
    return f"forward {case['forward_ms']:.1f} ms, backward {case['backward_ms']:.1f} ms ({stages})"


def as_tables(report: dict) -> str:
    """The cases by size, the reference by stage, and the growth, as Markdown."""
    rows, stages = [], []
    for case in report["cases"]:
        size, times = f"{case['width']}x{case['height']}", [f"{case[f'{name}_ms']:.1f}" for name in PASSES]
        rows.append((f"{case['gaussians']:,}", size, *times, f"{case['pairs']:,}"))
        if (case["gaussians"], case["width"], case["height"]) == REFERENCE:
            stages.append(markdown_table(case["stages_ms"], [[f"{ms:.1f}" for ms in case["stages_ms"].values()]]))
    heads = ("Gaussians", "image", "forward ms", "backward ms", "tile-Gaussian pairs")
    tables = [
        markdown_table(heads, rows),
        *stages,
        _roofline_table(report["roofline"]),
        _camera_table(report["cameras"]),
    ]
    for name, cases in report["growth"].items():
        times = ["forward + backward ms", *(f"{case['ms']:.1f}" for case in cases)]
        tables.append(markdown_table([name, *(f"x {case['times']:g}" for case in cases)], [times]))
    return "\n\n".join(tables)


def _roofline_table(figures: dict) -> str:
    heads = ("stage", "million operations", "MB", "bound by", "least ms", "ms", "share")
    rows = [
        (
            row["stage"], f"{row['operations'] / 1e6:.1f}", f"{row['bytes'] / 1e6:.1f}", row["bound"],
            f"{row['least_ms']:.2f}", f"{row['ms']:.2f}", f"{row['share']:.0%}",
        )
        for row in figures["stages"]
    ]  # fmt: skip
    machine = "float32 {single:.0f} Gflop/s, float64 {double:.0f} Gflop/s, memory {bandwidth:.1f} GB/s".format(
        **{name: value / 1e9 for name, value in figures["machine"].items()}
    )
    return f"{machine}:\n\n{markdown_table(heads, rows)}"


def _camera_table(figures: dict) -> str:
    return markdown_table(("cameras", "in one call, ms", "one by one, ms"), [[
        figures["cameras"], f"{figures['together_ms']:.1f}", f"{figures['one_by_one_ms']:.1f}",
    ]])  # fmt: skip


def lift(scene2d: tuple[np.ndarray, ...], width: int, height: int, focal: float = 600.0) -> dict:
    """3D Gaussians, flat towards the camera, that project to given 2D ones.

    Args:
        scene2d: xy, conics, covs, colors, opacities, depths; the covariances include the blur that projection adds.
        width: Image width, pixels.
        height: Image height, pixels.
        focal: Focal length of the camera, pixels.
    """
    xy, _, covs, colors, opacities, depths = (torch.from_numpy(array).double() for array in scene2d)
    matrices = torch.stack([covs[:, 0] - 0.3, covs[:, 1], covs[:, 1], covs[:, 2] - 0.3], -1).unflatten(-1, (2, 2))
    variances, axes = torch.linalg.eigh(matrices)
    angles = torch.atan2(axes[:, 1, 0], axes[:, 0, 0])
    zeros = torch.zeros_like(angles)
    slopes = (xy - torch.tensor([width / 2, height / 2])) / focal
    # tilted so that the flat Gaussian faces along z and its image is exactly the 2D one
    scales = torch.cat([variances.clamp(min=0).sqrt() * depths[:, None] / focal, torch.full_like(xy[:, :1], 1e-6)], -1)
    tensors = {
        "means": torch.cat([slopes * depths[:, None], depths[:, None]], -1),
        "quats": torch.stack([(angles / 2).cos(), zeros, zeros, (angles / 2).sin()], -1),
        "scales": scales, "opacities": opacities, "colors": colors,
    }  # fmt: skip
    tensors = {name: tensor.float().contiguous().requires_grad_() for name, tensor in tensors.items()}
    intrinsics = [[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]
    return {**tensors, "viewmats": torch.eye(4)[None], "Ks": torch.tensor([intrinsics])}


def random_scene2d(count: int, width: int, height: int, sigma_px=SIGMA_PX, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Projected Gaussians scattered over the image, standard deviations log-uniform in pixels."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform((0, 0), (width, height), (count, 2))
    low, high = np.log(sigma_px)
    sigmas = np.exp(rng.uniform(low, high, (count, 2)))
    angles = rng.uniform(0, np.pi, count)
    c, s = np.cos(angles), np.sin(angles)
    xx = (c * sigmas[:, 0]) ** 2 + (s * sigmas[:, 1]) ** 2 + 0.3
    yy = (s * sigmas[:, 0]) ** 2 + (c * sigmas[:, 1]) ** 2 + 0.3
    off = c * s * (sigmas[:, 0] ** 2 - sigmas[:, 1] ** 2)
    det = xx * yy - off**2
    opacities, depths = rng.uniform(0.05, 0.99, count), rng.uniform(1, 10, count)
    arrays = (
        xy, np.stack([yy, -off, xx], -1) / det[:, None], np.stack([xx, off, yy], -1), rng.uniform(0, 1, (count, 3)),
        opacities, depths,
    )  # fmt: skip
    return tuple(np.ascontiguousarray(array, np.float32) for array in arrays)


def time_passes(scene: dict, width: int, height: int, repeats: int, **options) -> dict:
    """Fastest forward and backward pass, milliseconds, in all and by stage."""
    parameters = [tensor for tensor in scene.values() if tensor.requires_grad]
    passes, gradient = [], torch.ones(1, height, width, 3)
    for _ in range(repeats + 1):
        for tensor in parameters:
            tensor.grad = None
        with record_stages() as stages:
            start = time.perf_counter()
            images, _, meta = rasterization(**scene, width=width, height=height, **options)
            middle = time.perf_counter()
            images.backward(gradient)
            end = time.perf_counter()
        passes.append((middle - start, end - middle, dict(stages), meta["flatten_ids"].numel()))
    forward, backward, stages, num_pairs = min(passes, key=lambda each: each[0] + each[1])
    return {
        "forward_ms": forward * 1e3, "backward_ms": backward * 1e3,
        "stages_ms": {name: seconds * 1e3 for name, seconds in stages.items()}, "pairs": num_pairs,
    }  # fmt: skip


def bench_case(count: int, width: int, height: int, repeats: int) -> dict:
    """One cell of the table."""
    scene = lift(random_scene2d(count, width, height), width, height)
    return {"gaussians": count, "width": width, "height": height, **time_passes(scene, width, height, repeats)}


def bench_growth(repeats: int, max_gaussians: int) -> dict[str, list[dict]]:
    """Time against the number of Gaussians (as many over each pixel) and of pixels (as many Gaussians, larger)."""
    count, width, _ = REFERENCE
    series: dict[str, list[dict]] = {"Gaussians": [], "pixels": []}
    for times in DOUBLINGS:
        side = 16 * round(width * times**0.5 / 16)
        if count * times <= max_gaussians:
            sigmas = tuple(sigma / times**0.5 for sigma in SIGMA_PX)
            case = {"times": times, "ms": _milliseconds(int(count * times), width, sigmas, repeats)}
            series["Gaussians"].append(case)
        sigmas = tuple(sigma * side / width for sigma in SIGMA_PX)
        series["pixels"].append({"times": times, "ms": _milliseconds(count, side, sigmas, repeats)})
    return series


def bench_grid(counts: Sequence[int], sizes: Sequence[tuple[int, int]]) -> list[dict]:
    """One scene in more and finer Gaussians, at more pixels: one pass of each, and memory with all inputs, bytes."""
    cases = []
    for count in counts:
        for width, height in sizes:
            share = (width * height / REFERENCE[1] / REFERENCE[2]) / (count / REFERENCE[0])
            sigmas = tuple(sigma * share**0.5 for sigma in SIGMA_PX)
            scene = lift(random_scene2d(count, width, height, sigmas), width, height)
            times, _, peak = _watched(lambda scene=scene, w=width, h=height: time_passes(scene, w, h, 1))
            milliseconds = times["forward_ms"] + times["backward_ms"]
            case = {"gaussians": count, "width": width, "height": height, "ms": milliseconds, "peak_bytes": peak}
            cases.append(case)
            threestudio.info("{gaussians:,} at {width} x {height}: {ms:.0f} ms".format(**case))
    return cases


def grid_table(cases: Sequence[dict]) -> str:
    """The grid as Markdown: seconds of a pass and GB of the process, Gaussians down, pixels across."""
    sizes = list(dict.fromkeys((case["width"], case["height"]) for case in cases))
    rows = []
    for count in dict.fromkeys(case["gaussians"] for case in cases):
        row = [case for case in cases if case["gaussians"] == count]
        rows.append([f"{count:,}", *(f"{each['ms'] / 1e3:.3g} s, {each['peak_bytes'] / 1e9:.1f} GB" for each in row)])
    return markdown_table(["Gaussians", *(f"{width} x {height}" for width, height in sizes)], rows)


def _milliseconds(count: int, side: int, sigma_px: tuple[float, ...], repeats: int) -> float:
    scene = lift(random_scene2d(count, side, side, sigma_px), side, side)
    passes = time_passes(scene, side, side, repeats)
    return passes["forward_ms"] + passes["backward_ms"]


def bench_roofline(repeats: int) -> dict:
    """The reference by stage, beside what this machine could do."""
    count, width, height = REFERENCE
    machine = measure_machine(repeats)
    scene = lift(random_scene2d(count, width, height), width, height)
    passes = [time_passes(scene, width, height, 1)["stages_ms"] for _ in range(repeats)]
    stages_ms = {stage: min(each[stage] for each in passes) for stage in passes[0]}
    work = count_work(rasterization(**scene, width=width, height=height)[0], count)
    return {"machine": machine._asdict(), "stages": roofline(work, stages_ms, machine)}


def bench_cameras(repeats: int, num_cameras: int = 4) -> dict:
    """Forward and backward of several cameras in one call, and of one after the other; fastest, taking turns."""
    count, width, height = REFERENCE[0], REFERENCE[1] // 2, REFERENCE[2] // 2
    scene = lift(random_scene2d(count, width, height), width, height)
    viewmats, Ks = scene.pop("viewmats").repeat(num_cameras, 1, 1), scene.pop("Ks").repeat(num_cameras, 1, 1)
    viewmats[:, 0, 3] = torch.linspace(0.0, 0.2, num_cameras)
    times: dict[str, list[float]] = {"together_ms": [], "one_by_one_ms": []}
    for _ in range(repeats + 1):
        for name, size in (("together_ms", num_cameras), ("one_by_one_ms", 1)):
            for tensor in scene.values():
                tensor.grad = None
            start = time.perf_counter()
            for views in zip(viewmats.split(size), Ks.split(size), strict=True):
                images, _, _ = rasterization(**scene, viewmats=views[0], Ks=views[1], width=width, height=height)
                images.backward(torch.ones_like(images))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {"cameras": num_cameras, **{name: min(each[1:]) for name, each in times.items()}}


def bench_many(count: int = 10_000_000) -> dict:
    """Forward of very many Gaussians at 1080p, and the peak memory of this process, inputs included."""
    width, height = SIZES[-1]
    scene = lift(random_scene2d(count, width, height), width, height)
    with torch.no_grad():
        (images, _, _), seconds, peak = _watched(lambda: rasterization(**scene, width=width, height=height))
    return {"gaussians": count, "seconds": seconds, "peak_gb": peak / 1e9, "mean": float(images.mean())}


def _watched(work: Callable[[], Any]) -> tuple[Any, float, int]:
    """What some work returns, its seconds, and the most memory that this process had meanwhile, bytes."""
    peak, is_done = [0], threading.Event()

    def watch() -> None:
        while not is_done.wait(0.005):
            peak[0] = max(peak[0], memory_of_process())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    is_done.set()
    watcher.join()
    return result, seconds, peak[0]


def bench_edit(repeats: int) -> dict:
    """A step of the embedded edit: a small image, SH degree 0."""
    scene = lift(random_scene2d(EDIT_COUNT, EDIT_SIZE, EDIT_SIZE, sigma_px=(0.3, 2.0)), EDIT_SIZE, EDIT_SIZE)
    scene["colors"] = scene["colors"].detach()[:, None].requires_grad_()
    return time_passes(scene, EDIT_SIZE, EDIT_SIZE, repeats, sh_degree=0)


def compare_with_yardstick(path: Path, repeats: int) -> dict:
    """The same 2D scene through the yardstick and, lifted to 3D, through ours, taking turns."""
    spec = importlib.util.spec_from_file_location("raster_yardstick", path)
    if spec is None or spec.loader is None:
        raise ConfigError(what=f"run.yardstick is {path}", expected="a Python file", fix="leave run.yardstick out")
    module = importlib.util.module_from_spec(spec)
    count, width, height = REFERENCE
    numba_config: Any = importlib.import_module("numba.core.config")
    with tempfile.TemporaryDirectory() as folder:  # numba finds its cache by module name, and this has none
        previous, numba_config.CACHE_DIR = numba_config.CACHE_DIR, folder
        spec.loader.exec_module(module)
        module.yardstick(module.scene2d(100, 64, 64), 64, 64, np.ones((64, 64, 3), np.float32))
        numba_config.CACHE_DIR = previous
    scene2d = module.scene2d(count, width, height)
    scene, weights = lift(scene2d, width, height), np.ones((height, width, 3), np.float32)
    theirs, ours, image = [], [], None
    for _ in range(repeats):
        image, _, forward, backward = module.yardstick(scene2d, width, height, weights)
        theirs.append(1e3 * (forward + backward))
        passes = time_passes(scene, width, height, 1)
        ours.append(passes["forward_ms"] + passes["backward_ms"])
    with torch.no_grad():
        difference = rasterization(**scene, width=width, height=height)[0][0].numpy() - image
    return {
        "yardstick_ms": min(theirs), "ours_ms": min(ours), "ratio": min(theirs) / min(ours),
        "mean_difference": float(np.abs(difference).mean()),
    }  # fmt: skip


def _memory_case(results: multiprocessing.queues.Queue) -> None:
    count, width, height = 1_000_000, 1920, 1080
    scene = lift(random_scene2d(count, width, height), width, height)
    scene["colors"] = (torch.randn(count, 16, 3) * 0.2).requires_grad_()
    small = lift(random_scene2d(100, 64, 64), 64, 64)
    small["colors"] = torch.zeros(100, 16, 3, requires_grad=True)
    rasterization(**small, width=64, height=64, sh_degree=3)[0].sum().backward()
    held = sum(tensor.numel() * 4 for tensor in scene.values() if tensor.requires_grad)
    ctypes.CDLL(None).malloc_trim(0)  # what the set-up freed would be reused unseen
    before = memory_of_process()

    def both_passes() -> None:
        rasterization(**scene, width=width, height=height, sh_degree=3)[0].sum().backward()

    _, seconds, peak = _watched(both_passes)
    results.put({"seconds": seconds, "gradients_gb": held / 1e9, "beyond_gb": (peak - before - held) / 1e9})


def measure_memory() -> dict:
    """Peak resident memory of one pass at 1M Gaussians, SH degree 3, 1080p, less inputs and gradients. Linux only.

    In a process of its own, so that nothing else counts.
    """
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_memory_case, args=(results,))
    process.start()
    measured = results.get(timeout=900)
    process.join()
    return measured
