"""What the torture kills: every system on a small world, as a user starts it, and what must come out in the end."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.edit_world import REPOSITORY, SOURCE, TARGET, toy_cameras, toy_parts, write_colmap_capture, write_world

FREQUENT = ["checkpoint.every_n_train_steps=2", "use_timestamp=false", "tag=run", "trainer.accelerator=cpu"]
GROWTH = ["system.growth.start=0.2", "system.growth.every=0.25", "system.growth.stop=0.9"]
PROMPTS = [f"source_prompt={SOURCE}", f"target_prompt={TARGET}"]
RESULTS = (".ply", ".png", ".npy")
"""Suffixes of files that must come out the same; reports and rows hold seconds."""


@dataclass(frozen=True)
class Torment:
    """One system.

    Attributes:
        config: Of the repository.
        words: Options and overrides, without the folder of the results.
        out: The key that says this folder.
        app: Name after ``--run``; None for a run, which is resumed by ``--resume auto``.
    """

    config: str
    words: tuple[str, ...]
    out: str = "exp_root_dir"
    app: str | None = None

    def command(self, folder: Path) -> list[str]:
        """The command that starts it, or goes on with it."""
        how = ["--run", self.app] if self.app else ["--resume", "auto"]
        launch = [sys.executable, str(REPOSITORY / "launch.py"), "--config", str(REPOSITORY / self.config)]
        return [*launch, *how, *self.words, f"{self.out}={folder}"]

    def start(self, folder: Path, here: Path = REPOSITORY) -> subprocess.Popen:
        """Start it in a process of its own, from a current folder."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            self.command(folder), cwd=here, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def results(self, folder: Path) -> dict[str, bytes]:
        """What it has written, by path; nothing half may lie among it."""
        files = [file for file in folder.rglob("*") if file.suffix in RESULTS and "progress" not in file.parts]
        return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(files)}


def torments(folder: Path) -> dict[str, Torment]:
    """Every system by name, on a world that is written into a folder."""
    world = write_world(folder)
    scene, cameras = toy_parts(keep_every=6)[0], toy_cameras(12, 32)
    write_colmap_capture(folder / "capture", scene, cameras)
    Image.open(folder / "capture" / "images" / "view_000.png").resize((32, 32)).save(folder / "in.png")
    place = [f"scene={world / 'scene.ply'}", f"cameras={world / 'cameras.json'}"]
    masked, model = [f"mask.picture={world / 'masks'}"], [f"model={world / 'model'}"]
    judged = [f"system.clip_model={world / 'clip'}"]
    small = ["data.num_test_views=2", "data.test_size=32", "data.video_frames=0"]
    scene_edit = [*place, *PROMPTS, *model, *judged, *small, *FREQUENT, "data.num_train_views=4"]
    return {
        "edit": Torment(
            "configs/smoke/edit.yaml",
            (*scene_edit, *masked, *GROWTH, "steps=12", "system.growth.kind=hierarchical", "system.preview_every=3"),
        ),
        "refit": Torment(
            "configs/idu-gs.yaml",
            (*scene_edit, *masked, "steps=10", "data.crop=none", "system.preview_every=4", "system.closing.num_steps=4",
             "system.carve.spacing=0.1", "system.carve.fine_spacing=0.1"),
        ),
        "delete": Torment(
            "configs/delete-gs.yaml",
            (*place, *masked, *small, *FREQUENT, "steps=12", "data.size=32", "data.num_train_views=4"),
        ),
        "add": Torment(
            "configs/add-gs.yaml",
            (*scene_edit, *GROWTH, "steps=12", "box=[-0.5,-0.5,0,0.5,0.5,1]", "system.num_start=200",
             "system.growth.kind=hierarchical"),
        ),
        "fit": Torment(
            "configs/fit-gs.yaml",
            (f"cameras={folder / 'capture'}", *FREQUENT, *GROWTH, "steps=12", "data.size=32"),
        ),
        "image": Torment(
            "configs/ssd-image.yaml",
            (f"picture={folder / 'in.png'}", *PROMPTS, *model, *judged, *FREQUENT, "steps=12"),
        ),
        "sweep": Torment("configs/sweeps/smoke.yaml", (), "system.out", "sweep"),
        "benchmark": Torment("configs/bench/smoke.yaml", (), "system.out", "evaluate"),
    }  # fmt: skip
