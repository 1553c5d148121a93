"""What ``launch.py --run NAME`` starts."""

from . import (
    bench_raster,
    convert,
    make_tiny_models,
    make_toy_scene,
    preview,
    tiny_judges,
    tiny_quality,
    toy_edits,
    toy_objects,
)

__all__ = [
    "bench_raster",
    "convert",
    "make_tiny_models",
    "make_toy_scene",
    "preview",
    "tiny_judges",
    "tiny_quality",
    "toy_edits",
    "toy_objects",
]
