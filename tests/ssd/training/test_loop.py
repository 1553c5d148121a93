"""The training loop: rates, resumed runs that equal uninterrupted ones, averages, and processes that share the work."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from threestudio.plugins import REPOSITORY
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.training.loop import Recipe, Worker, fit, load_average, numpy_generator

LINE = Recipe(
    steps=30, batch_size=16, learning_rate=0.05, seed=0, weight_decay=0.02, warm_up_steps=3, ema_decay=0.995
)  # fmt: skip


def held_then_cosine(step, num_steps, warm_up):
    """Rate factor of the models trained by two processes: warm-up, full rate until 30 %, cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    begin = max(warm_up, int(0.3 * num_steps))
    if step <= begin:
        return 1.0
    return math.cos(math.pi / 2 * (step - begin) / max(1, num_steps - begin)) ** 2


def cosine_from_the_start(step, num_steps, warm_up, horizon):
    """Rate factor of the judges: a cosine from step 0 under a warm-up."""
    return math.cos(math.pi / 2 * step / (horizon or num_steps)) ** 2 * min(1.0, (step + 1) / warm_up)


@pytest.mark.parametrize(("num_steps", "warm_up"), [(5200, 200), (10400, 300), (1100, 200), (100, 10), (2, 200)])
def test_one_recipe_holds_then_falls(num_steps, warm_up):
    recipe = replace(LINE, steps=num_steps, learning_rate=2e-3, warm_up_steps=warm_up, hold_share=0.3)
    for step in range(0, num_steps + 1, max(1, num_steps // 137)):
        assert recipe.rate(step) == pytest.approx(2e-3 * held_then_cosine(step, num_steps, warm_up), abs=1e-12)


@pytest.mark.parametrize("horizon", [0, 1500])
def test_one_recipe_falls_from_the_start_and_may_end_early(horizon):
    recipe = replace(LINE, steps=800, learning_rate=2e-3, warm_up_steps=100, horizon=horizon)
    for step in range(0, 801, 7):
        assert recipe.rate(step) == pytest.approx(2e-3 * cosine_from_the_start(step, 800, 100, horizon), abs=1e-12)


def test_rates_warm_up_and_fall_to_zero():
    recipe = replace(LINE, steps=100, learning_rate=1.0, warm_up_steps=10)
    rates = [recipe.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)


def test_held_rates_warm_up_and_end_at_zero():
    recipe = replace(LINE, steps=100, learning_rate=1.0, warm_up_steps=10, hold_share=0.3)
    rates = [recipe.rate(step) for step in range(101)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))


class Stopped(Exception):
    """Stands in for an interruption."""


def run(folder, recipe=LINE, stop_at=None):
    """Fit a line with the loop; returns the training and its lines."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def loss(step, generator):
        if step == stop_at:
            raise Stopped
        points = torch.randn(recipe.batch_size, 2, generator=generator)
        points *= float(numpy_generator(generator).uniform(0.9, 1.1))
        return (network(points)[:, 0] - points.sum(1)).square().mean()

    lines = []
    training = fit(
        {"network": network}, loss, recipe, folder / "last.pt", Worker(info=lines.append), report_every=10,
        save_seconds=0,
    )  # fmt: skip
    assert not network.training
    return training, lines


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole, lines = run(tmp_path / "whole")
    assert len(lines) == 3
    with pytest.raises(Stopped):
        run(tmp_path / "cut", stop_at=16)
    resumed, lines = run(tmp_path / "cut")
    assert len(lines) == 2
    assert resumed.step == whole.step == 30
    for name in ("modules", "average"):
        expected, values = (getattr(each, name)["network"].state_dict() for each in (whole, resumed))
        assert all(torch.equal(values[key], value) for key, value in expected.items())
    states = [torch.load(tmp_path / each / "last.pt", weights_only=True) for each in ("whole", "cut")]
    expected, moments = ([p["exp_avg_sq"] for p in state["optimizer"]["state"].values()] for state in states)
    assert all(torch.equal(a, b) for a, b in zip(expected, moments, strict=True))


def test_training_lowers_the_loss_and_says_so(tmp_path):
    _, lines = run(tmp_path)
    first, last = (float(line.split("loss ")[1].split()[0]) for line in (lines[0], lines[-1]))
    assert last < 0.5 * first
    assert "min to go" in lines[0]
    assert "to go" not in lines[-1]
    assert (tmp_path / "last.log").read_text().splitlines() == lines


def test_training_reaches_the_optimum_and_the_average_follows(tmp_path):
    torch.manual_seed(3)
    network = nn.Linear(4, 2)

    def loss(step, generator):
        x = torch.randn(8, 4, generator=generator)
        return (network(x) - x[:, :2]).pow(2).mean()

    recipe = replace(LINE, steps=200, learning_rate=0.1, weight_decay=1e-2, hold_share=0.3, ema_decay=0.9)
    training = fit({"net": network}, loss, recipe, tmp_path / "c.ckpt", Worker(), report_every=100)
    target = torch.eye(4)[:2]
    assert (network.weight - target).abs().max() < 0.1
    assert (training.average["net"].weight - target).abs().max() < 0.1


def test_a_finished_training_is_left_alone_and_more_steps_go_on(tmp_path):
    run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    _, lines = run(tmp_path)
    assert not lines
    assert (tmp_path / "last.pt").read_bytes() == before
    training, lines = run(tmp_path, replace(LINE, steps=40))
    assert training.step == 40
    assert len(lines) == 1
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    recipe, seconds = load_average(tmp_path / "last.pt", {"network": network})
    assert recipe == replace(LINE, steps=40)
    assert seconds > 0
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.parameters(), training.average["network"].parameters(), strict=True)
    )  # fmt: skip


def test_a_checkpoint_of_another_recipe_is_refused_and_kept(tmp_path):
    run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(ConfigError, match=r"last\.pt was begun with another recipe than batch_size=8; expected"):
        run(tmp_path, replace(LINE, batch_size=8))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_the_recipe_in_words():
    assert LINE.describe() == (
        "30 steps of 16 images, AdamW 0.05 with a cosine over 30 steps,\nweight decay 0.02, EMA 0.995, seed 0"
    )
    held = replace(LINE, hold_share=0.3, horizon=50).describe()
    assert "held for 30 % with a cosine over 50 steps," in held


def test_two_processes_share_a_step_and_pass_their_lines_and_refusals_on(tmp_path):
    """Run by a script of its own, as by ``launch.py``: the workers are spawned from it."""
    script = tmp_path / "two.py"
    script.write_text(
        """
import sys
sys.path.insert(0, sys.argv[1])
import threestudio, torch
from pathlib import Path
from threestudio_ssd.errors import ConfigError
from threestudio_ssd.training.loop import Recipe, Worker, fit, run_workers

def train(worker, folder, recipe):
    torch.manual_seed(worker.rank)  # the first process's weights win
    network = torch.nn.Linear(2, 1)

    def loss(step, generator):
        return network(torch.tensor([[1.0, 2.0 * worker.rank]])).sum()

    fit({"network": network}, loss, recipe, folder / "net.ckpt", worker, report_every=1)
    worker.info(f"rank {worker.rank} gradient {network.weight.grad.tolist()} weight {network.weight.tolist()}")
    worker.wait_for_all()
    if not worker.is_first:
        raise ConfigError(what="a", expected="b", fix="c")

if __name__ == "__main__":
    import threestudio.log
    threestudio.log.show_messages()
    recipe = Recipe(steps=2, batch_size=1, learning_rate=0.1, seed=0, weight_decay=0.0, warm_up_steps=1, ema_decay=0.9)
    try:
        run_workers(2, train, Path(sys.argv[2]), recipe)
    except ConfigError as error:
        print("refused:", error)
"""
    )
    result = subprocess.run(
        [sys.executable, str(script), str(REPOSITORY), str(tmp_path)], capture_output=True, text=True, check=True,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert "refused: a; expected b; c" in result.stdout
    assert "step 2/2 loss" in result.stdout
    gradients = [line.split("gradient ")[1] for line in result.stdout.splitlines() if "gradient" in line]
    assert len(gradients) == 2
    assert gradients[0] == gradients[1], "both processes take the same step from the same weights"
    # The mean of (1, 0) and (1, 2), and 1 for the bias, clipped to norm 1.
    assert json.loads(gradients[0].split(" weight")[0]) == [pytest.approx([1 / math.sqrt(3)] * 2, abs=1e-5)]
