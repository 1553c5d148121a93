"""Edits on a pretended GPU, in a process of their own: ``python -m tests.pretended_flows edit removal ...``.

Prints one JSON object: for each flow what it read back, how often a step called rasteriser and network, what memory its
steps kept, and how far its result is from the same one made on the CPU.
"""

import gc
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import threestudio

threestudio.load_plugins()

import threestudio_ssd as ssd
from tests.edit_world import REPOSITORY, SOURCE, TARGET, write_photographs, write_world
from tests.pretend_gpu import Elsewhere, PretendedGpu, install
from threestudio.utils.misc import force_device
from threestudio_ssd.metrics import blur

SEGMENTER = REPOSITORY / "data" / "tiny-seg"
WARM, WATCHED, STEPS = 2, 3, 40
"""Steps before counting, steps that are counted, steps of the run."""


def scene_edit(world: Path, **changes: Any) -> Any:
    """A score distillation of the toy scene's ball."""
    mask = ssd.Mask(picture=str(world / "masks"))
    return ssd.edit_scene(
        world / "scene.ply", cameras=world / "cameras.json", source=SOURCE, target=TARGET, mask=mask, steps=STEPS,
        model=world / changes.pop("model", "model"), config=REPOSITORY / changes.pop("config", "configs/ssd-gs.yaml"),
        changes={"data.size": 32, "data.num_test_views": 2, **changes},
    )  # fmt: skip


def refit(world: Path, **changes: Any) -> Any:
    """A refit to edited views."""
    return ssd.refit_scene(
        world / "scene.ply", cameras=world / "cameras.json", source=SOURCE, target=TARGET, steps=STEPS,
        mask=ssd.Mask(picture=str(world / "masks")), model=world / "model",
        changes={"data.size": 32, "data.num_test_views": 2, **changes},
    )  # fmt: skip


def removal(world: Path, **changes: Any) -> Any:
    """The ball taken away, and the hole closed."""
    return ssd.remove_from_scene(
        world / "scene.ply", cameras=world / "cameras.json", mask=ssd.Mask(picture=str(world / "masks")), steps=STEPS,
        model=world / "model", changes={"data.size": 32, "data.num_test_views": 2, **changes},
    )  # fmt: skip


def image(world: Path, **changes: Any) -> Any:
    """One picture edited."""
    picture = next((world / "photos" / "images").iterdir())
    return ssd.edit_image(
        picture, source=SOURCE, target=TARGET, model=world / "model", steps=STEPS, changes={"data.size": 32, **changes}
    )


def fit(world: Path, **changes: Any) -> Any:
    """A splat fitted to photographs."""
    from omegaconf import OmegaConf

    from threestudio.utils.config import load_config
    from threestudio.utils.config_tree import complete
    from threestudio_ssd.api import Run
    from threestudio_ssd.data.photos import PhotoCapture
    from threestudio_ssd.edits.fit import SceneFit

    words = {"cameras": str(world / "photos"), "steps": STEPS, "data.size": 32, **changes}
    tree = OmegaConf.create()
    for key, value in words.items():
        OmegaConf.update(tree, key, value)
    made = complete(load_config(REPOSITORY / "configs/fit-gs.yaml", **OmegaConf.to_container(tree)))  # pyright: ignore
    job = SceneFit(made.system)
    job.open(PhotoCapture(made.data))
    run: Any = Run(job.edit)
    run.result = lambda: job.editable.result().to("cpu")
    return run


FLOWS: dict[str, Callable[[Path], Any]] = {
    "edit": scene_edit,
    "batch": lambda world: scene_edit(world, **{"data.batch_size": 3}),
    "published": lambda world: scene_edit(world, config="configs/smoke/edit.yaml"),
    "ip2p": lambda world: scene_edit(
        world, config="configs/ssd-gs-ip2p-tiny.yaml", model="ip2p", **{"system.mask_latents": False}
    ),
    "growth": lambda world: scene_edit(world, **{"system.growth.kind": "hierarchical", "system.colors": "free"}),
    "settled": lambda world: scene_edit(world, **{"system.guidance.score.name": "ssd-local"}),
    "vsd": lambda world: scene_edit(world, **{"system.guidance.score.name": "vsd"}),
    "words": lambda world: scene_edit(
        world, **{"mask.picture": None, "mask.text": "ball", "mask.segmenter": str(SEGMENTER)}
    ),
    "refit": refit,
    "followed": lambda world: refit(world, **{"system.editing.editor": {"name": "inversion"}, "data.batch_size": 2}),
    "removal": removal,
    "image": image,
    "pixels": lambda world: image(world, **{"system.parametrisation": "pixel"}),
    "fit": fit,
}


def write_all(world: Path) -> None:
    """Whatever a flow reads."""
    from tests.edit_world import toy_cameras, toy_parts
    from threestudio_ssd.diffusion.models import save_components
    from threestudio_ssd.diffusion.random import random_components
    from threestudio_ssd.toyworld.splat import save_cameras_json

    write_world(world)
    save_components(random_components(image_size=32, in_channels=8), world / "ip2p")
    write_photographs(world / "photos", toy_parts()[0], toy_cameras(6))
    save_cameras_json(toy_cameras(6), world / "photos" / "cameras.json")


def live_bytes() -> int:
    """Memory that tensors on the device hold now."""
    gc.collect()
    storages = {
        each.inner.untyped_storage().data_ptr(): each.inner.untyped_storage().nbytes()
        for each in gc.get_objects()
        if type(each) is Elsewhere
    }
    return sum(storages.values())


def watched(gpu: PretendedGpu, flow: Callable[[Path], Any], world: Path) -> dict[str, Any]:
    """A flow on the device, watched in the midst of its steps, and the same on the CPU."""
    force_device(gpu.device)
    with gpu:
        run = flow(world)
        run.run(WARM)
        before = live_bytes()
        gpu.reads.clear()
        gpu.calls.clear()
        edit, optimizers = run._edit, run._optimizers
        asked = _network_calls(edit)
        for step in range(WARM, WARM + WATCHED):
            edit.step(step, optimizers)
        reads, kept = dict(gpu.reads), live_bytes() - before
        renders, networks = gpu.calls["rasterization"] / WATCHED, _network_calls(edit) - asked
        here = run.result()
    force_device("cpu")
    with patch.object(blur, "_filtered", blur._shifted_sums):  # ``test_blur`` holds the two against each other
        other = flow(world)
        other.run(WARM)
        for step in range(WARM, WARM + WATCHED):
            other._edit.step(step, other._optimizers)
    pairs = zip(_values(here), _values(other.result()), strict=True)
    gaps = [(left - right).abs() for left, right in pairs if left.numel()]
    return {
        "reads": reads, "renders": renders, "network_calls": networks / WATCHED, "kept_bytes": kept,
        "largest_gap": max(float(each.max()) for each in gaps), "mean_gap": max(float(each.mean()) for each in gaps),
    }  # fmt: skip


def _network_calls(edit: Any) -> int:
    """Of the score; 0 where there is none."""
    guidance = getattr(getattr(edit, "objective", edit), "guidance", None)
    return 0 if guidance is None else guidance.backbone.counters.network_calls


def _values(result: Any) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else [each.detach() for each in result.parameters().values()]


def main(names: list[str]) -> None:
    """See above."""
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder)
        write_all(world)
        gpu = install()
        print(json.dumps({name: watched(gpu, FLOWS[name], world) for name in names}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:] or list(FLOWS))
