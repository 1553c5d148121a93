"""Gaussians: shapes, derived values, and the rows of the file that follow every selection."""

import jaxtyping
import pytest
import torch

from threestudio_ssd.gaussians import FileOrigin, Gaussians


@pytest.fixture
def unchecked():
    """Without the shape checks of the test run, as a user runs it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def make(n: int = 5, degree: int = 2, has_origin: bool = True) -> Gaussians:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int):
        return torch.randn(*shape, generator=generator)

    where = FileOrigin("scene.ply", "ply", object(), torch.arange(n)) if has_origin else None
    rest = (degree + 1) ** 2 - 1
    return Gaussians(draw(n, 3), draw(n, 3), draw(n, 4), draw(n), draw(n, 1, 3), draw(n, rest, 3), where)


def test_derived_values():
    gaussians = make()
    assert len(gaussians) == 5
    assert gaussians.sh_degree == 2
    assert torch.allclose(gaussians.scales.log(), gaussians.log_scales, atol=1e-6)
    assert torch.allclose(gaussians.quats.norm(dim=1), torch.ones(5))
    assert torch.allclose(gaussians.opacities.logit(), gaussians.logit_opacities, atol=1e-5)
    assert gaussians.sh.shape == (5, 9, 3)


@pytest.mark.parametrize("degree", range(5))
def test_degrees(degree):
    assert make(degree=degree).sh_degree == degree


def test_wrong_shapes_are_refused(unchecked):
    gaussians = make(has_origin=False)
    with pytest.raises(ValueError, match=r"raw_quats has shape \(5, 3\), expected \(5, 4\) for 5 Gaussians"):
        gaussians.replace(raw_quats=torch.zeros(5, 3))
    with pytest.raises(ValueError, match="shN holds 4 coefficients a colour; a whole degree has 0, 3, 8, 15 or 24"):
        gaussians.replace(shN=torch.zeros(5, 4, 3))
    with pytest.raises(ValueError, match="no such field: scales"):
        gaussians.replace(scales=torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"the mask has shape \(4,\) for 5 Gaussians"):
        gaussians.select(torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"origin.rows has 5 rows for 3 Gaussians; see Gaussians.replace"):
        make().replace(**gaussians.select([0, 1, 2]).parameters())
    with pytest.raises(ValueError, match="SH degree 1 cannot be appended to SH degree 2"):
        make().append(make(degree=1))


@pytest.mark.parametrize("index", [[3, 1], torch.tensor([False, True, False, True, False]), slice(1, 4, 2)])
def test_select_keeps_the_rows_of_the_file(index):
    gaussians = make()
    picked = gaussians.select(index)
    assert torch.equal(picked.means, gaussians.means[picked.origin_rows])
    assert sorted(picked.origin_rows.tolist()) == [1, 3]


def test_append_and_replace_keep_the_rows_of_the_file():
    gaussians = make()
    assert gaussians.append(gaussians.select([2])).origin_rows.tolist() == [0, 1, 2, 3, 4, 2]
    assert gaussians.append(make(has_origin=False)).origin_rows.tolist() == [0, 1, 2, 3, 4] + [-1] * 5
    assert make(has_origin=False).append(gaussians).origin is None
    split = gaussians.select([4, 4])
    other = gaussians.replace(**split.parameters(), origin_rows=split.origin_rows)
    assert other.origin_rows.tolist() == [4, 4]
    assert make(has_origin=False).origin_rows.tolist() == [-1] * 5


def test_with_sh_degree_cuts_and_fills():
    gaussians = make()
    assert torch.equal(gaussians.with_sh_degree(1).shN, gaussians.shN[:, :3])
    wider = gaussians.with_sh_degree(4).shN
    assert torch.equal(wider[:, :8], gaussians.shN)
    assert not wider[:, 8:].any()


def test_detach_clone_and_device():
    gaussians = make()
    gaussians.means.requires_grad_()
    assert not gaussians.detach().means.requires_grad
    copy = gaussians.detach().clone()
    copy.sh0.zero_()
    assert gaussians.sh0.abs().sum() > 0
    assert copy.to("cpu").origin is gaussians.origin
