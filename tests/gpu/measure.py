"""What an edit costs on a device, and how far its results are from the CPU's: ``python -m tests.gpu.measure [device]``.

Writes ``gpu-report.json`` into the current folder.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

import threestudio

threestudio.load_plugins()

import threestudio_ssd as ssd
from tests.edit_world import REPOSITORY, SOURCE, TARGET
from threestudio.utils.misc import force_device
from threestudio_ssd.rendering import render_each
from threestudio_ssd.report.edit_report import package_versions

WARM = 5
"""Steps before the clock starts: kernels are built, memory is asked for."""
PARITY_STEPS = 10


def edit_on(device: str, steps: int, **changes: Any) -> Any:
    """The default edit of the embedded scene, laid out."""
    force_device(device)
    scene = REPOSITORY / "data" / "toy-scene"
    return ssd.edit_scene(
        scene / "scene.ply", cameras=scene / "cameras.json", source=SOURCE, target=TARGET, steps=steps,
        mask=ssd.Mask(picture=str(scene / "masks")), model=REPOSITORY / "data" / "tiny-ldm",
        config=REPOSITORY / "configs" / "ssd-gs.yaml", changes=changes,
    )  # fmt: skip


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def cost(device: str, steps: int, **changes: Any) -> dict[str, float]:
    """Seconds a step, and on a GPU the peak memory in bytes, after a few steps and at the end."""
    run = edit_on(device, steps + WARM, **changes)
    run.run(WARM)
    _wait(device)
    is_gpu = device.startswith("cuda")
    early = torch.cuda.max_memory_allocated() if is_gpu else 0
    begin = time.perf_counter()
    run.run(steps)
    _wait(device)
    seconds = (time.perf_counter() - begin) / steps
    late = torch.cuda.max_memory_allocated() if is_gpu else 0
    return {"seconds_a_step": seconds, "peak_bytes_early": early, "peak_bytes_late": late}


def parity(device: str) -> dict[str, float]:
    """How far renders, and colours after a few steps, are from the CPU's at most; networks in float32."""
    precise = {"system.guidance.dtype": "fp32", "system.guidance.vae_dtype": "fp32"}
    runs = {}
    for place in (device, "cpu"):
        run = edit_on(place, 40, **precise)
        cameras = run._job.views.test[:2]
        images = [each.cpu() for each in render_each(run._job.editable.scene(), cameras, run._job.background)]
        run.run(PARITY_STEPS)
        runs[place] = torch.stack(images), run.result().sh0
    (images, colors), (images_cpu, colors_cpu) = runs[device], runs["cpu"]
    return {
        "renders": float((images - images_cpu).abs().max()),
        f"colours_after_{PARITY_STEPS}_steps": float((colors - colors_cpu).abs().max()),
    }


def measured(device: str, steps: int = 200) -> dict[str, Any]:
    """The whole report.

    Args:
        device: ``cuda``, or ``cpu`` to try the script.
        steps: On the clock.
    """
    is_gpu = device.startswith("cuda")
    kinds: dict[str, dict[str, Any]] = {"default": {}, "four views a step": {"data.batch_size": 4}}
    if is_gpu:
        kinds["CUDA graphs"] = {"system.guidance.cuda_graphs": True}
    costs = {name: cost(device, steps, **changes) for name, changes in kinds.items()}
    return {
        "device": torch.cuda.get_device_name() if is_gpu else device, "steps": steps, "costs": costs,
        "parity": parity(device), "versions": package_versions(),
    }  # fmt: skip


def main(device: str = "cuda") -> None:
    """Write the report."""
    Path("gpu-report.json").write_text(json.dumps(measured(device), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
