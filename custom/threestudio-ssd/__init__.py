"""Stable score distillation for 3D Gaussian splatting: says where its data, systems, guidance, prompts and apps are.

Nothing below is imported before it is asked for, by a registered name or as ``threestudio_ssd.<part>``.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import host
from .early import FILE_KEYS, check_data, check_system
from .errors import ConfigError

PLACES: dict[str, str | tuple[str, str]] = {
    "gs-views": ("data.modules:GSViews", "data.keys:GSViewsConfig"),
    "gs-photos": ("data.modules:PhotosData", "data.keys:PhotosConfig"),
    "ssd-picture": ("data.modules:SingleImage", "data.keys:SingleImageConfig"),
    "ssd-gs-system": ("systems.scene_edit:SceneEditSystem", "edits.scene_edit:SceneEditConfig"),
    "idu-gs-system": ("systems.scene_refit:SceneRefitSystem", "refits.scene_refit:SceneRefitConfig"),
    "gs-add-system": ("systems.scene_add:SceneAddSystem", "edits.scene_add:SceneAddConfig"),
    "gs-delete-system": ("systems.scene_delete:SceneDeleteSystem", "edits.removal:RemovalConfig"),
    "gs-fit-system": ("systems.scene_fit:SceneFitSystem", "edits.fit:FitConfig"),
    "nerf-fit-system": ("systems.field_fit:FieldFitSystem", "edits.field_fit:FieldFitConfig"),
    "latent-nerf-fit-system": ("systems.latent_fit:LatentFitSystem", "edits.latent_fit:LatentFitConfig"),
    "ssd-image-system": ("systems.image_edit:ImageEditSystem", "edits.image_edit:ImageEditConfig"),
    "editor-image-system": ("systems.editor_image:EditorImageSystem", "editors.image_edit:EditorImageConfig"),
    "ssd-guidance": "guidance.edit_guidance:EditGuidance",
    "ssd-prompt-processor": "guidance.prompts:EditPrompts",
    "toy-edits": "benchmarks.toy.run:ToyEditsData",
    "toy-benchmark": "benchmarks.toy.run:ToyBenchmark",
    "table-edits": "benchmarks.tables.keys:TableEditsData",
    "edit-table": "benchmarks.tables.keys:EditTable",
    "pie-bench-data": "benchmarks.pie.table:PieBenchData",
    "picture-table": "benchmarks.pie.table:PictureTable",
    "edit-sweep": "benchmarks.sweeps.toy:EditSweep",
    "run-viewer": "viewer.live:LiveViewer",
    "app-bench-raster": "apps.bench_raster:BenchRaster",
    "app-blend": "apps.blend:Blend",
    "app-candidates": "apps.candidates:Candidates",
    "app-compare": "apps.compare:Compare",
    "app-convert": "apps.convert:Convert",
    "app-cut": "apps.cut:Cut",
    "app-doctor": "apps.doctor:Doctor",
    "app-evaluate": "apps.evaluate:Evaluate",
    "app-info": "apps.info:Info",
    "app-make-tiny-classifier": "apps.make_judges:MakeTinyClassifier",
    "app-make-tiny-clip": "apps.make_judges:MakeTinyClip",
    "app-make-tiny-ip2p": "apps.make_models:MakeTinyIp2p",
    "app-make-tiny-lcm": "apps.make_models:MakeTinyLcm",
    "app-make-tiny-models": "apps.make_models:MakeTinyModels",
    "app-make-tiny-seg": "apps.make_judges:MakeTinySeg",
    "app-make-tiny-views": "apps.make_models:MakeTinyViews",
    "app-make-toy-pie-bench": "apps.make_toy_pie_bench:MakeToyPieBench",
    "app-make-toy-scene": "apps.make_toy_scene:MakeToyScene",
    "app-open": "apps.open:Open",
    "app-paste": "apps.paste:Paste",
    "app-pie-bench": "apps.pie_bench:PieBench",
    "app-preview": "apps.preview:Preview",
    "app-reproduce-table1": "apps.reproduce_table1:ReproduceTable1",
    "app-reproduce-table2": "apps.reproduce_table2:ReproduceTable2",
    "app-settings": "apps.settings:Settings",
    "app-study": "apps.study:Study",
    "app-study-report": "apps.study:StudyReport",
    "app-sweep": "apps.sweep:Sweep",
    "app-tiny-quality": "apps.tiny_quality:TinyQuality",
    "app-toy-edits": "apps.toy_edits:ToyEdits",
    "app-toy-objects": "apps.toy_objects:ToyObjects",
    "app-undo": "apps.undo:Undo",
    "app-view": "apps.view:View",
}
"""Registered name -> ``module:attribute``, and where its keys' dataclass can be had without Lightning."""


def check_inputs(cfg: Mapping[str, Any]) -> None:
    """Find what is missing from an experiment before anything heavy is imported.

    Args:
        cfg: The whole resolved config, as plain values, and the folders in which files were ``looked_in``.

    Raises:
        InputError: If it names no data module or system, or a file that does not exist.
    """
    missing = [key for key in ("data_type", "system_type") if not cfg.get(key)]
    if missing:
        expected, fix = "a whole experiment", "start from configs/ssd-gs.yaml: copy it, or include it"
        raise ConfigError(what=f"the config does not set {' and '.join(missing)}", expected=expected, fix=fix)
    if cfg["system_type"] in PLACES:
        check_system(cfg["system"], cfg.get("looked_in", ()))
    if cfg["data_type"] in PLACES:
        check_data(cfg["data_type"], cfg["data"], cfg.get("looked_in", ()))


PYTHON_CALL = (
    "Mask", "edit_image", "edit_scene", "refit_scene", "remove_from_scene", "select_in_scene", "views_of_scene",
)  # fmt: skip
"""What ``threestudio_ssd`` offers to other programs; docs/python.md."""


def __getattr__(name: str) -> Any:
    here = Path(__file__).parent
    if name in PYTHON_CALL:
        return getattr(importlib.import_module(f"{__name__}.api"), name)
    if not name.startswith("_") and ((here / name / "__init__.py").is_file() or (here / f"{name}.py").is_file()):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


host.register(__name__, PLACES, check_inputs, FILE_KEYS)
