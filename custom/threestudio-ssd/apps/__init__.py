"""What ``launch.py --run NAME`` starts."""

from . import (
    bench_edits,
    bench_raster,
    convert,
    evaluate,
    make_tiny_ip2p,
    make_tiny_models,
    make_toy_pie_bench,
    make_toy_scene,
    pie_bench,
    preview,
    sweep,
    tiny_judges,
    tiny_quality,
    toy_edits,
    toy_objects,
)

__all__ = [
    "bench_edits",
    "bench_raster",
    "convert",
    "evaluate",
    "make_tiny_ip2p",
    "make_tiny_models",
    "make_toy_pie_bench",
    "make_toy_scene",
    "pie_bench",
    "preview",
    "sweep",
    "tiny_judges",
    "tiny_quality",
    "toy_edits",
    "toy_objects",
]
