"""Where the time of a change of shape goes."""

import json
import subprocess
import sys

import pytest

from tests.edit_world import REPOSITORY

MEASURED = """
import json, time
from dataclasses import replace
import threestudio
threestudio.load_plugins()
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd import rendering
from threestudio_ssd.data import ViewPlan
from threestudio_ssd.diffusion import Backbone
from threestudio_ssd.diffusion.light_field import LightField
from threestudio_ssd.rasterizers.autograd import Blend, Project
from threestudio_ssd.refits.scene_refit import SceneRefit

seconds = {"networks": 0.0, "rasteriser": 0.0}

def timed(kind, whole):
    def call(*args, **words):
        begin = time.perf_counter()
        result = whole(*args, **words)
        seconds[kind] += time.perf_counter() - begin
        return result
    return call

cfg = complete(load_config("configs/shape-gs.yaml"))
job = SceneRefit(cfg.system)
job.open(ViewPlan(cfg.data))
moving = replace(job.scene, means=job.scene.means.clone().requires_grad_())
rendering.render(moving, job.views.train[:1], job.background)[0].sum().backward()  # compiles, where nobody has before
for name in ("encode", "encode_condition", "decode", "predict_noise"):
    setattr(Backbone, name, timed("networks", getattr(Backbone, name)))
LightField.forward = timed("networks", LightField.forward)
rendering.rasterization = timed("rasteriser", rendering.rasterization)
for function in (Blend, Project):
    function.backward = staticmethod(timed("rasteriser", function.backward))
begin = time.perf_counter()
job.edit.prepare()
job.edit.make_steps()
whole = time.perf_counter() - begin
print(json.dumps({name: part / whole for name, part in seconds.items()} | {"seconds": whole}))
"""


@pytest.mark.slow
def test_most_time_of_the_embedded_change_of_shape_is_spent_in_networks_and_rasteriser():
    """In a process of its own, since tests check the shapes of every call."""
    command = [sys.executable, "-c", MEASURED]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shares = json.loads(done.stdout.splitlines()[-1])
    assert shares["networks"] + shares["rasteriser"] > 0.7, shares
