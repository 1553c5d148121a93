"""Steps that cannot be made: a loss or gradient that is not finite moves nothing; memory that runs out costs no run."""

from functools import partial

import pytest
import torch

from threestudio_ssd.edits.edit import CHECK_EVERY, Edit
from threestudio_ssd.edits.visible_adam import VisibleAdam
from threestudio_ssd.errors import ConfigError


class Walk(Edit):
    """One number that goes to 1, by steps of which those that ``spoil`` names go wrong."""

    def __init__(self, num_steps, spoil, how="loss", kind=torch.optim.Adam):
        super().__init__(num_steps)
        self.kind = kind
        self.x, self.spoil, self.how = torch.nn.Parameter(torch.zeros(3)), spoil, how
        self.smaller, self.tries = ["data.batch_size=1"], []

    def make_optimizers(self):
        return [self.kind([{"params": list(self.parameters()), "lr": 0.1}])]

    def loss(self, step):
        self.tries.append(step)
        loss = (self.x - 1).square().sum()
        if step not in self.spoil:
            return loss, {}
        if self.how == "memory" and self.tries.count(step) <= self.spoil[step]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        if self.how == "gradient":
            return loss + 0 * torch.sqrt(self.x[:1] * 0).sum(), {}  # finite, with a gradient that is not
        return (loss * torch.nan, {}) if self.how == "loss" else (loss, {})

    def set_rates(self, optimizers, step):
        pass

    def shrink(self):
        return self.smaller.pop() if self.smaller else None


OPTIMIZERS = {
    "visible": VisibleAdam, "adam": torch.optim.Adam, "fused": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("spoil", [{2, 3}, {0, 2}])
def test_a_step_that_is_not_finite_moves_nothing_and_is_counted(how, optimizer, spoil):
    kind = OPTIMIZERS[optimizer]
    edit, applied = Walk(6, spoil, how, kind), []
    optimizers = edit.make_optimizers()
    for step in range(6):
        before = edit.x.detach().clone()
        edit.step(step, optimizers, apply=lambda optimizer: applied.append(optimizer.step()))
        if step in edit.spoil:
            assert torch.equal(edit.x, before)
    assert edit.skipped.tolist() == [2, 0]
    assert len(applied) == 6  # a trainer counts by the optimiser's steps
    assert edit.is_finite()
    alone = Walk(4, {}, kind=kind)
    alone.make_steps()
    assert torch.equal(alone.x, edit.x)


def test_too_many_in_a_row_end_the_run_and_a_checkpoint_remembers_them():
    edit = Walk(200, set(range(10, 200)))
    edit.make_steps()
    assert len(edit.tries) == 2 * CHECK_EVERY  # the first look after so many
    assert edit.skipped.tolist() == [2 * CHECK_EVERY - 10] * 2
    assert edit.is_stuck
    other = Walk(200, set())
    other.load_state_dict(edit.state_dict())
    assert other.is_stuck
    short = Walk(3, {0, 1, 2})
    short.make_steps()
    assert short.is_stuck
    assert not Walk(3, {}).is_stuck


def test_a_gradient_scaler_deals_with_its_own_overflows():
    edit = Walk(3, {0, 1, 2}, "gradient")
    optimizers, seen = edit.make_optimizers(), []
    edit.step(0, optimizers, apply=lambda _: seen.append(edit.x.grad is not None), loss_scale=65536.0)
    assert seen == [True]
    assert edit.skipped.tolist() == [1, 1]


def test_memory_that_runs_out_is_tried_again_with_less_once(caplog):
    edit = Walk(4, {2: 1}, "memory")
    edit.make_steps()
    assert edit.tries == [0, 1, 2, 2, 3]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        "Step 2 ran out of memory (2.00 GiB were wanted); it and all after it are made with data.batch_size=1"
    )
    whole = Walk(4, {})
    whole.make_steps()
    assert torch.equal(edit.x, whole.x)
    with pytest.raises(torch.OutOfMemoryError):
        Walk(4, {2: 2}, "memory").make_steps()


def test_any_other_error_is_not_tried_again():
    edit = Walk(4, {})
    edit.loss = lambda step: (_ for _ in ()).throw(RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        edit.make_steps()
    assert edit.smaller


@pytest.mark.parametrize(
    ("check", "values", "message"),
    [
        ("check_background", {"background": [0, 0]}, r"system.background is \[0, 0\]; expected red, green and blue"),
        ("check_background", {"background": [0, 0, 1.5]}, "each 0 to 1; set system.background=.0,0,0."),
        ("check_background", {"background": [float("nan"), 0, 0]}, "system.background is"),
        ("check_betas", {"adam_betas": [0.9]}, "expected two numbers from 0 to below 1"),
        ("check_betas", {"adam_betas": [0.9, 1.0]}, r"set system.adam_betas=\[0.9,0.999\]"),
        ("check_betas", {"adam_betas": [float("nan"), 0.9]}, "system.adam_betas is"),
    ],
)
def test_values_that_cannot_work_are_refused(check, values, message):
    from types import SimpleNamespace

    from threestudio_ssd.edits import keys

    with pytest.raises(ConfigError, match=message):
        getattr(keys, check)(SimpleNamespace(**values))


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan"), [0, 0.1, float("nan"), 10]])
def test_rates_that_cannot_work_are_refused(value):
    from dataclasses import asdict

    from omegaconf import OmegaConf

    from threestudio_ssd.edits.gaussian_edit import LearningRates, check_learning_rates

    with pytest.raises(ConfigError, match=r"system.learning_rates.sh0 is .*; expected at least 0, and finite"):
        check_learning_rates(OmegaConf.create(asdict(LearningRates(sh0=value))))
