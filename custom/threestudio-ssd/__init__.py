"""Stable score distillation for 3D Gaussian splatting: registers its data, systems, guidance, prompts and apps."""

import importlib

_PLACES = """data.modules systems.scene_edit systems.image_edit systems.scene_add systems.scene_delete systems.scene_fit
guidance benchmarks.toy.run apps.toy_edits apps.preview apps.convert apps.make_toy_scene
apps.pie_bench apps.make_toy_pie_bench apps.evaluate apps.bench_raster apps.sweep""".split()
for _place in _PLACES:
    importlib.import_module(f".{_place}", __name__)


def __getattr__(name):
    if name in ("edit_scene", "edit_image", "Mask"):
        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(name)
