"""Open for addition: a system, an editor and an app, each from one file outside the package, through the command.

A score is added in ``guidance/test_added_score.py``, a model family in ``diffusion/test_families.py``.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.edit_world import REPOSITORY
from threestudio_ssd.gaussians.io import load_gaussians

SYSTEM = '''
"""Paints a whole scene in one colour: a system of its own objective, in one file."""

from dataclasses import dataclass, field

import torch

import threestudio
from threestudio_ssd.edits.editable_gaussians import EditableGaussians
from threestudio_ssd.edits.gaussian_edit import GaussianEdit, LearningRates, Movement, Objective, SceneUnderEdit
from threestudio_ssd.edits.growth import Growth, GrowthConfig
from threestudio_ssd.edits.keys import EditConfig
from threestudio_ssd.edits.scene_edit import load_scene
from threestudio_ssd.systems.edit_base import EditSystem


@dataclass
class PaintConfig(EditConfig):
    scene: str = ""
    rgb: list[float] = field(default_factory=lambda: [0.0, 0.0, 1.0])


class Paint(Objective):
    def __init__(self, rgb):
        self.rgb = torch.tensor(rgb)

    def __call__(self, images, rows, step):
        loss = (images[0] - self.rgb).pow(2).mean()
        return loss, {"loss": float(loss.detach())}


@threestudio.register("paint-system")
class PaintSystem(EditSystem):
    Config = PaintConfig
    progress_bar = ("loss",)

    def make(self):
        self.scene = load_scene(self.cfg.scene)

    def open(self, data, stage):
        views = data.plan.views(self.scene, 24, 4)
        editable = EditableGaussians(self.scene, torch.ones(len(self.scene), dtype=torch.bool))
        growth = Growth(GrowthConfig(), editable, extent=views.extent, num_steps=self.cfg.num_steps, seed=self.cfg.seed)
        scene = SceneUnderEdit(editable, views.train, self.cfg.seed, growth)
        rates = vars(LearningRates(means=0, log_scales=0, raw_quats=0, logit_opacities=0, sh0=0.1))
        movement = Movement(rates)
        return GaussianEdit(
            [scene], Paint(list(self.cfg.rgb)), movement, num_steps=self.cfg.num_steps, background=torch.zeros(3)
        )

    def report(self):
        self.save_json("report.json", self.run_facts())

    def export(self):
        return self.save_splat("edited.ply", self.edit.editables[0].result())
'''
APP = '''
"""Counts the Gaussians of a splat: an app in one file."""

from dataclasses import dataclass

import threestudio
from threestudio.utils.base import Configurable


@threestudio.register("app-count")
class Count(Configurable):
    """Print how many Gaussians a splat has."""

    needs_config = False
    positional = ("scene",)

    @dataclass
    class Config:
        """Keys of the count."""

        scene: str = ""
        """Splat file."""

    def __call__(self, experiment):
        from threestudio_ssd.gaussians.io import load_gaussians

        print(len(load_gaussians(self.cfg.scene)))
'''
EDITOR = '''
"""Turns images into their negatives: an image editor in one file."""

from dataclasses import dataclass

from threestudio_ssd.diffusion import Counters
from threestudio_ssd.editors import EditorNetwork, ImageEditor, register_editor


class NoNetwork(EditorNetwork):
    image_size = 64

    def __init__(self, prompts):
        self.prompts, self.counters = prompts, Counters()

    @property
    def provenance(self):
        return {"model": None, "revision": None}


@register_editor("negative")
@dataclass(frozen=True)
class Negative(ImageEditor):
    share: float = 1.0

    def load(self, keys, device, prompts, words=()):
        return NoNetwork(prompts)

    def edit(self, network, views):
        return views.images.lerp(1 - views.images, self.share * views.strength)
'''
CONFIG = """
# Paints a scene blue.
name: paint
tag: run
use_timestamp: false
steps: 12
data_type: gs-views
data: {num_train_views: 4, num_test_views: 1, test_size: 24, video_frames: 0, size: 24, up: +z}
system_type: paint-system
system:
  num_steps: ${steps}
trainer: {max_steps: "${steps}", enable_progress_bar: false, accelerator: cpu}
"""


@pytest.fixture
def launch(tmp_path):
    """Runs the command with a folder of plugins beside the shipped one."""
    for name, text in (("my-paint", SYSTEM), ("my-count", APP), ("my-negative", EDITOR)):
        (tmp_path / "custom" / name).mkdir(parents=True)
        (tmp_path / "custom" / name / "__init__.py").write_text(text)

    def run(*words):
        environment = os.environ | {"THREESTUDIO_PLUGIN_FOLDERS": str(tmp_path / "custom")}
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "launch.py"), *map(str, words)], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_a_system_from_one_file_trains_reports_exports_and_resumes(launch, world, tmp_path):
    (tmp_path / "paint.yaml").write_text(CONFIG)
    words = ["--config", tmp_path / "paint.yaml", f"system.scene={world / 'scene.ply'}"]
    done = launch(*words, "trainer.max_steps=6", "--train")
    assert done.returncode == 0, done.stderr
    done = launch(*words, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    save = tmp_path / "outputs" / "paint" / "run" / "save"
    assert done.stdout.strip().endswith("outputs/paint/run/save/edited.ply")
    report = json.loads((save / "report.json").read_text())
    assert (report["steps"], report["seed"]) == (12, 0)
    before, after = load_gaussians(world / "scene.ply"), load_gaussians(save / "edited.ply")
    assert (after.sh0 - before.sh0)[:, 0, 2].mean() > 0.2 > (after.sh0 - before.sh0)[:, 0, 0].mean()
    refused = launch(*words, "system.rbg=[1,0,0]")
    assert refused.returncode == 2
    assert "unknown key system.rbg" in refused.stderr
    assert "did you mean system.rgb?" in refused.stderr


def test_an_editor_from_one_file_edits_a_picture_and_says_its_fields(launch, tmp_path):
    Image.fromarray(np.full((64, 64, 3), 40, np.uint8)).save(tmp_path / "grey.png")
    words = [
        "--config", REPOSITORY / "configs" / "editor-image.yaml", "picture=grey.png", "editor=negative", "strength=1",
        "target_prompt=a negative", "source_prompt=grey", "use_timestamp=false", "tag=run", "trainer.accelerator=cpu",
    ]  # fmt: skip
    done = launch(*words)
    assert done.returncode == 0, done.stderr
    save = tmp_path / "outputs" / "editor-image" / "run" / "save"
    assert np.array_equal(np.asarray(Image.open(save / "edited.png")), np.full((64, 64, 3), 215))
    assert json.loads((save / "report.json").read_text())["editor"] == "Negative"
    refused = launch(*words, "system.editing.editor.shar=0.5")
    assert refused.returncode == 2
    assert "system.editing.editor.shar is not a field of the editor negative" in refused.stderr


def test_an_app_from_one_file_is_listed_helped_and_run(launch, world):
    assert "Print how many Gaussians a splat has." in launch("--run").stdout
    assert "Splat file." in launch("--run", "count", "--help").stdout
    done = launch("--run", "count", world / "scene.ply")
    assert (done.returncode, int(done.stdout)) == (0, len(load_gaussians(world / "scene.ply")))
