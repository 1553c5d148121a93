"""Where the time of a change of shape goes."""

import sys
import time

import pytest

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.data import ViewPlan
from threestudio_ssd.diffusion import Backbone
from threestudio_ssd.rasterizers.stages import record_stages
from threestudio_ssd.refits.scene_refit import SceneRefit

NETWORKS = ("encode", "decode", "predict_noise")


@pytest.mark.slow
def test_most_time_of_the_embedded_change_of_shape_is_spent_in_networks_and_rasteriser(monkeypatch):
    seconds = dict.fromkeys(NETWORKS, 0.0)

    def timed(name):
        whole = getattr(Backbone, name)

        def call(*args, **words):
            begin = time.perf_counter()
            result = whole(*args, **words)
            seconds[name] += time.perf_counter() - begin
            return result

        monkeypatch.setattr(Backbone, name, call)

    cfg = complete(load_config(REPOSITORY / "configs/shape-gs.yaml"))
    job = SceneRefit(cfg.system)
    job.open(ViewPlan(cfg.data))
    for name in NETWORKS:
        timed(name)
    begin = time.perf_counter()
    with record_stages() as stages:
        job.edit.prepare()
        job.edit.make_steps()
    whole = time.perf_counter() - begin
    parts = {"networks": sum(seconds.values()), "rasteriser": sum(stages.values())}
    shares = {name: value / whole for name, value in parts.items()}
    sys.stdout.write(f"{whole:.1f} s: {', '.join(f'{name} {share:.0%}' for name, share in shares.items())}\n")
    assert sum(shares.values()) > 0.7
