"""gsplat's densification strategies, unchanged, on top of the CPU renderer."""

import importlib

import pytest
import torch

from threestudio_ssd.rasterizers import rasterization

from .scenes import random_scene

NUM_GAUSSIANS, SIZE, STEPS = 40, 32, 45


def setup():
    """A target image and parameters with one Adam each, named as gsplat's trainers name them."""
    target = random_scene(30, SIZE, SIZE, seed=3, spread=0.5, scale=(0.05, 0.4))
    start = random_scene(NUM_GAUSSIANS, SIZE, SIZE, seed=4, spread=0.7, scale=(0.05, 0.2))
    with torch.no_grad():
        image = rasterization(**target.parameters(), Ks=target.Ks, width=SIZE, height=SIZE)[0]
    values = {
        "means": start.means, "quats": start.quats, "scales": start.scales.log(),
        "opacities": torch.logit(start.opacities), "colors": torch.logit(start.colors.clamp(0.01, 0.99)),
    }  # fmt: skip
    params = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in values.items()})
    optimizers = {name: torch.optim.Adam([p], lr=0.01 if name != "colors" else 0.05) for name, p in params.items()}
    return target, image, params, optimizers


def train_step(params, optimizers, scene, target, before, after, **options):
    image, _, info = rasterization(
        params["means"], params["quats"], params["scales"].exp(), params["opacities"].sigmoid(),
        params["colors"].sigmoid(), scene.viewmats, scene.Ks, SIZE, SIZE, **options,
    )  # fmt: skip
    before(info)
    loss = (image - target).abs().mean()
    loss.backward()
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    after(info)
    return loss.item()


@pytest.mark.parametrize(("packed", "absgrad"), [(True, False), (False, True)])
def test_default_strategy_trains_and_changes_the_number_of_gaussians(packed, absgrad):
    gsplat = importlib.import_module("gsplat")
    scene, target, params, optimizers = setup()
    strategy = gsplat.DefaultStrategy(
        refine_start_iter=5, refine_every=10, grow_grad2d=1e-5, absgrad=absgrad, refine_scale2d_stop_iter=30
    )
    strategy.check_sanity(params, optimizers)
    state = strategy.initialize_state()
    losses = []
    for step in range(STEPS):

        def before(info, step=step):
            strategy.step_pre_backward(params, optimizers, state, step, info)

        def after(info, step=step):
            strategy.step_post_backward(params, optimizers, state, step, info, packed=packed)

        losses.append(train_step(params, optimizers, scene, target, before, after, packed=packed, absgrad=absgrad))
    assert len(params["means"]) > NUM_GAUSSIANS
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_mcmc_strategy_noise_and_checks_run(monkeypatch):
    """Relocation is a CUDA kernel; sanity check, state and noise are not, given gsplat's torch covariance."""
    gsplat = importlib.import_module("gsplat")
    ops = importlib.import_module("gsplat.strategy.ops")
    reference = importlib.import_module("gsplat.cuda._torch_impl")
    monkeypatch.setattr(ops, "quat_scale_to_covar_preci", reference._quat_scale_to_covar_preci)
    scene, target, params, optimizers = setup()
    strategy = gsplat.MCMCStrategy(refine_start_iter=1000, noise_lr=10.0)
    strategy.check_sanity(params, optimizers)
    state = strategy.initialize_state()
    losses = []
    for step in range(20):

        def after(info, step=step):
            strategy.step_post_backward(params, optimizers, state, step, info, lr=1e-3)

        losses.append(train_step(params, optimizers, scene, target, lambda info: None, after))
    assert losses[-1] < losses[0]
