"""What ``launch.py --run NAME`` starts."""

from . import (
    bench_edits,
    bench_raster,
    convert,
    evaluate,
    make_judges,
    make_models,
    make_toy_scene,
    pie_bench,
    preview,
    sweep,
    tiny_quality,
    toy_edits,
    toy_objects,
)

__all__ = [
    "bench_edits",
    "bench_raster",
    "convert",
    "evaluate",
    "make_judges",
    "make_models",
    "make_toy_scene",
    "pie_bench",
    "preview",
    "sweep",
    "tiny_quality",
    "toy_edits",
    "toy_objects",
]
