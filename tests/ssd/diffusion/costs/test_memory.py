"""Memory followed tensor by tensor, against hand counts; the published table is what the code computes."""

from typing import Literal

import pytest
import torch

from tests.edit_world import REPOSITORY
from threestudio.utils.config import load_config
from threestudio.utils.config_tree import complete
from threestudio_ssd.diffusion.costs.architectures import ARCHITECTURES
from threestudio_ssd.diffusion.costs.flops import encode_flops, frozen, run_encode, step_cost
from threestudio_ssd.diffusion.costs.memory import PeakMemory, _pairless_attention, step_memory

DOCS = REPOSITORY / "docs" / "models.md"
Vae = Literal["own", "checkpointing", "tiling", "taesd"]
"""The model's own VAE as it is, with one of two options that are there to save memory, or the tiny one."""
ROWS: tuple[tuple[str, int, Vae], ...] = (
    ("sd15", 512, "taesd"),
    ("sd15", 512, "checkpointing"),
    ("sd15", 512, "own"),
    ("sd15", 1024, "checkpointing"),
    ("sd15", 1024, "tiling"),
    ("sd15", 1024, "own"),
    ("sd21-base", 512, "own"),
    ("ip2p", 512, "own"),
    ("sd-turbo", 512, "own"),
    ("lcm", 512, "own"),
    ("sd21", 768, "own"),
    ("sdxl-turbo", 512, "own"),
    ("sdxl", 512, "taesd"),
    ("sdxl", 1024, "checkpointing"),
    ("sdxl", 1024, "tiling"),
    ("sdxl", 1024, "own"),
    ("sd3", 512, "own"),
    ("sd3", 1024, "checkpointing"),
    ("sd35-medium", 1024, "checkpointing"),
)
"""Configurations of the published table: architecture, image side, VAE."""
OTHERS_GIB = 2.1
"""CUDA context and libraries (0.6) and a splat of a million Gaussians with gradients, Adam and its renderer (1.5)."""
SLACK = 1.15
"""The allocator's rounding and fragmentation, and the kernels' workspaces."""
USABLE = 0.9
"""Share of a card's memory that a run may fill; a desktop takes some of it."""
CARDS_GIB = (8, 12, 16, 24, 32, 48)


def table_row(model: str, image_px: int, vae: Vae) -> str:
    """One line of the table in docs/models.md."""
    kind, is_checkpointed = "taesd" if vae == "taesd" else "own", vae == "checkpointing"
    options = {"vae": kind, "vae_tiling": vae == "tiling"}
    cost = step_cost(model, image_px, **options)
    memory = step_memory(model, image_px, vae_checkpointing=is_checkpointed, **options)
    total = memory.peak / 2**30 * SLACK + OTHERS_GIB
    card = next(card for card in CARDS_GIB if total <= USABLE * card)
    encode = cost.encode * (4 / 3 if is_checkpointed else 1)  # one more forward pass beside forward and backward
    parts = [memory.weights, memory.text_weights, memory.encode, memory.predict]
    sizes = " | ".join(f"{part / 2**30:.1f}" for part in parts)
    name = {"own": "own", "taesd": "TAESD"}.get(vae, f"own, {vae}")
    return f"| {model} | {image_px} | {name} | {encode:.2f} + {cost.predict:.2f} | {sizes} | {total:.1f} | {card} GB |"


def test_the_peak_is_that_of_the_tensors_alive_together():
    with PeakMemory() as memory:
        first = torch.empty(1000, device="meta")
        second = first * 2
        del first
        third = second + 1
        view = third[:10]
    assert memory.peak == 2 * 4000
    assert memory.current == 2 * 4000
    del second, third
    assert memory.current == 4000  # the view keeps its storage
    del view
    assert memory.current == 0


def test_views_of_what_was_there_before_cost_nothing():
    weight, rows = torch.empty(50, 100, device="meta"), torch.empty(3, 100, device="meta")
    with PeakMemory() as memory:
        result = torch.nn.functional.linear(rows, weight)
    assert memory.peak == result.numel() * 4


def test_saved_activations_are_counted_until_the_backward_pass_frees_them():
    images = torch.empty(100, device="meta", requires_grad=True)
    with PeakMemory() as memory:
        total = images.sin().exp().sum()
        alive = memory.current
        total.backward()
    assert alive == 400 + 4  # the exponential, which its gradient needs, and the sum; the sine is gone
    assert memory.peak >= alive + 400


def test_attention_keeps_no_matrix_of_all_pairs():
    query = torch.empty(1, 2, 4096, 8, device="meta", requires_grad=True)
    with _pairless_attention(), PeakMemory() as memory:
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    assert memory.peak < 10 * query.numel() * 4
    assert query.grad.shape == query.shape


@pytest.mark.slow
def test_checkpointing_and_taesd_save_memory():
    plain = step_memory("sd15", 512)
    assert step_memory("sd15", 512, vae_checkpointing=True).encode < 0.7 * plain.encode
    assert step_memory("sd15", 512, vae="taesd").encode < 0.4 * plain.encode
    assert plain.weights == pytest.approx(2 * (859.5e6 + 83.65e6), rel=0.001)


def encode_peak(**options):
    """Peak of one encode with gradient at 1024 px, bytes, by a VAE with the options of the guidance."""
    with torch.device("meta"):
        vae = frozen(ARCHITECTURES[options.pop("model", "sdxl")].make_vae().to(torch.bfloat16))
    for name in options:
        getattr(vae, {"tiling": "enable_tiling", "checkpointing": "enable_gradient_checkpointing"}[name])()
    with _pairless_attention(), PeakMemory() as memory:
        run_encode(vae, 1, 1024, torch.bfloat16)
    return memory.peak


def test_checkpointing_saves_memory_where_tiles_save_none():
    """With gradient every tile's activations are kept: SDXL's tile is the whole picture, SD's are half, and overlap."""
    plain = encode_peak()
    assert encode_peak(tiling=True) == plain
    assert encode_peak(model="sd15", tiling=True) > 1.2 * encode_peak(model="sd15")
    assert encode_peak(checkpointing=True) < 0.7 * plain


def test_tiles_overlap_and_so_cost_more():
    assert encode_flops("sd15", 1024, vae_tiling=True) > 1.3 * encode_flops("sd15", 1024)
    assert encode_flops("sdxl", 1024, vae_tiling=True) == encode_flops("sdxl", 1024)


def test_the_configs_for_large_pictures_save_memory_by_what_saves_it():
    for name in ("ssd-gs-sdxl.yaml", "ssd-gs-sd3.yaml"):
        guidance = complete(load_config(REPOSITORY / "configs" / name)).system.guidance
        assert guidance.vae_checkpointing
        assert not guidance.get("vae_tiling", False)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_the_published_table_is_what_is_computed(row):
    assert table_row(*row) in DOCS.read_text(encoding="utf-8")
