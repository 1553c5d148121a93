"""Several processes that make each step together: they share views, draw alike, and end where one process ends."""

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.edit_world import REPOSITORY, SMOKE, experiment, overrides, run
from tests.ssd.rank_worker import edited
from threestudio_ssd.data import ViewPlan
from threestudio_ssd.edits.scene_edit import SceneEdit
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.gaussians.io import load_gaussians
from threestudio_ssd.ranks import ALONE, Rank
from threestudio_ssd.seeds import generator

WORDS = {
    "data.batch_size": 4, "system.color_steps": "shared", "system.colors": "bounded", "system.lambda_shading": 48,
    "system.lambda_detail": 1, "system.edit_kind": "recolor", "system.guidance.score.name": "ssd-settled", "steps": 4,
    "system.growth.kind": "hierarchical", "system.growth.start": 1, "system.growth.every": 2,
    "system.growth.stop": 100, "system.growth.top_share": 0.2,
}  # fmt: skip
"""Colour steps that neighbours share, the shading term, growth, and a score that draws noise of its own."""
COLORS_ALONE = {
    f"system.learning_rates.{name}": 0 for name in ("means", "log_scales", "raw_quats", "logit_opacities", "shN")
}
"""As the default config has it. Plain Adam moves a Gaussian whose gradient is rounding alone by a whole rate."""


def test_parts_are_all_of_it_in_order():
    rows = torch.arange(6)
    assert torch.cat([Rank(index, 3).part(rows) for index in range(3)]).tolist() == rows.tolist()
    assert ALONE.part(rows).tolist() == rows.tolist()


def test_every_process_uses_its_rows_of_the_same_noise():
    whole = ALONE.randn((4, 3, 5), generator(0, 1, "a"))
    parts = [Rank(index, 2).randn((2, 3, 5), generator(0, 1, "a")) for index in range(2)]
    assert torch.equal(torch.cat(parts), whole)


def opened(world, out, **words):
    cfg = experiment(world, out, **{**WORDS, **words})
    job = SceneEdit(cfg.system)
    job.open(ViewPlan(cfg.data))
    return job.edit


@pytest.mark.parametrize("score", ["ssd", "pds", "dds-cds"])
def test_the_mean_of_the_parts_gradients_is_the_gradient_of_the_whole(world, tmp_path, score):
    words = {"system.guidance.score.name": score.removesuffix("-cds")}
    words |= {"system.guidance.cds.weight": 3.0} if score.endswith("-cds") else {}
    first = opened(world, tmp_path, **words)
    gradients = []
    for rank in (ALONE, Rank(0, 2), Rank(1, 2)):
        edit = first if rank is ALONE else opened(world, tmp_path, **words)
        edit.join(rank)
        edit.prepare()
        loss, _ = edit.loss(1)
        loss.backward()
        gradients.append({name: p.grad for name, p in edit.named_parameters() if p.grad is not None and p.numel()})
    whole, *parts = gradients
    assert whole
    for name, gradient in whole.items():
        mean = (parts[0][name] + parts[1][name]) / 2
        assert float((mean - gradient).abs().max()) <= 1e-4 * float(gradient.abs().max()) + 1e-9, name
    assert any(not torch.allclose(parts[0][name], parts[1][name]) for name in whole)


def test_views_that_cannot_be_shared_are_refused(world, tmp_path):
    edit = opened(world, tmp_path, **{"data.batch_size": 3})
    with pytest.raises(ConfigError) as error:
        edit.join(Rank(0, 2))
    assert str(error.value) == (
        "data.batch_size is 3, and 2 devices share the views of a step; expected a multiple of 2; set data.batch_size=2"
    )
    vsd = opened(world, tmp_path, **{"system.guidance.score.name": "vsd"})
    with pytest.raises(ConfigError, match="score vsd trains a LoRA beside the edit, and 2 devices were asked for"):
        vsd.join(Rank(0, 2))


def start(*words: object) -> subprocess.Popen:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=REPOSITORY, env=variables)


def test_two_processes_make_the_steps_of_one(world, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker, words = (
        Path(__file__).with_name("rank_worker.py"),
        [f"{key}={value}" for key, value in {**WORDS, **COLORS_ALONE}.items()],
    )
    both = [start(worker, rank, 2, port, world, tmp_path, *words) for rank in range(2)]
    alone = copy.deepcopy(edited(world, tmp_path, ALONE, *words))
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} is another in the second process"
        torch.testing.assert_close(value, alone[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: name + text)
    assert len(first["editables.0.generations"].unique()) > 1


@pytest.mark.slow
def test_a_run_on_two_devices_writes_what_a_run_on_one_does(world, tmp_path):
    words = {"data.batch_size": 2, "system.color_steps": "shared", "system.colors": "bounded", **COLORS_ALONE}
    given = overrides(
        world, tmp_path, **{**words, "tag": "two", "trainer.devices": 2, "trainer.enable_progress_bar": "false"}
    )
    command = [sys.executable, "launch.py", "--config", str(SMOKE), *given]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two = tmp_path / "smoke" / "two"
    assert done.stdout.splitlines()[-1] == str(two / "save" / "edited.ply")
    code, one = run(world, tmp_path, "train", "test", "export", **words)
    assert code == 0
    names = [sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) for folder in (one, two)]
    assert [name for name in names[0] if "events" not in name] == [name for name in names[1] if "events" not in name]
    for name, value in load_gaussians(one / "save" / "edited.ply").parameters().items():
        other = load_gaussians(two / "save" / "edited.ply").parameters()[name]
        torch.testing.assert_close(other, value, rtol=1e-5, atol=1e-5)
    command += ["data.batch_size=3", "tag=wrong"]
    wrong = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.startswith("error: data.batch_size is 3, and 2 devices share the views of a step")
    assert not (tmp_path / "smoke" / "wrong").exists()
