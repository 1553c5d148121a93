"""Costs of editing models: the count against one by hand; the published tables are what the code computes."""

import pytest

from tests.edit_world import REPOSITORY
from threestudio_ssd.diffusion.costs.editing import EDITING_MODELS, cost_rows, edit_cost

DOCS = REPOSITORY / "docs" / "editors.md"


def test_klein_by_hand():
    """25 blocks of 13 d^2 weights a token, attention between all pairs, embeddings; d = 3,072."""
    cost, width, tokens = edit_cost("FLUX.2 klein 4B"), 3072, 2 * 1024 + 512
    blocks = 25 * (2 * 13 * width**2 * tokens + 4 * tokens**2 * width)
    embeddings = 2 * width * (2 * 1024 * (128 + 128) + 512 * 7680)
    vae = 1.1188e12 + 2.5156e12
    assert cost.operations == pytest.approx((4 * (blocks + embeddings) + vae) / 1e12, rel=2e-3)
    assert cost.parameters[0] == pytest.approx(3.876, abs=1e-3)
    assert cost.memory("bf16")[0] == pytest.approx((3.876 + 0.084) * 2e9 / 2**30, abs=0.01)
    assert cost.memory("8-bit")[1] == pytest.approx(4.022e9 / 2**30, abs=0.01)
    assert cost.evaluations == 4


@pytest.mark.slow
@pytest.mark.parametrize("model", EDITING_MODELS)
def test_the_published_tables(model):
    text = DOCS.read_text(encoding="utf-8")
    for row in cost_rows(model):
        assert row in text
