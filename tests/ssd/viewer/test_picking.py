"""A brush takes what is seen under it, and nothing behind."""

import torch

from threestudio_ssd.cameras import look_at
from threestudio_ssd.cameras.cameras import Cameras
from threestudio_ssd.gaussians import Gaussians, sh0_from_rgbs
from threestudio_ssd.viewer.picking import disc, rectangle, visible_under

SIZE = 48


def sheet(depth: float) -> Gaussians:
    """Opaque Gaussians on a square grid, 2 wide, at a depth before the camera."""
    steps = torch.linspace(-1, 1, 9)
    xs, ys = torch.meshgrid(steps, steps, indexing="xy")
    means = torch.stack([xs.flatten(), ys.flatten(), torch.full((81,), depth)], -1)
    return Gaussians(
        means, torch.full((81, 3), 0.12).log(), torch.tensor([[1.0, 0, 0, 0]]).repeat(81, 1), torch.full((81,), 4.0),
        sh0_from_rgbs(torch.rand(81, 3))[:, None], torch.zeros(81, 0, 3),
    )  # fmt: skip


def camera() -> Cameras:
    viewmat = look_at(torch.zeros(3), torch.tensor([0, 0, 1.0]), torch.tensor([0, -1.0, 0]))
    K = torch.tensor([[SIZE, 0, SIZE / 2], [0, SIZE, SIZE / 2], [0, 0, 1.0]])
    return Cameras(viewmat[None], K[None], torch.tensor([SIZE]), torch.tensor([SIZE]), ["here"])


def test_the_brush_takes_the_front_sheet_under_it_alone():
    scene = sheet(3.0).append(sheet(4.0))
    picked = visible_under(scene, camera(), disc((SIZE, SIZE), (0.5, 0.5), 0.12))
    assert not picked[81:].any()
    distances = scene.means[:81, :2].norm(dim=1)
    assert picked[:81][distances < 0.3].all()
    assert not picked[:81][distances > 0.5].any()


def test_a_rectangle_takes_its_part_of_what_is_seen():
    scene = sheet(3.0).append(sheet(4.0))
    picked = visible_under(scene, camera(), rectangle((SIZE, SIZE), (0.5, 1.0), (0.0, 0.0)))
    assert picked[:81][scene.means[:81, 0] < -0.2].all()
    assert not picked[:81][scene.means[:81, 0] > 0.2].any()
    behind = picked[81:]
    assert not behind[scene.means[81:, :2].abs().amax(dim=1) < 0.9].any()


def test_brush_and_rectangle_are_pixels():
    round_one = disc((40, 20), (0.25, 0.5), 0.2)
    assert round_one.shape == (20, 40)
    assert abs(float(round_one.sum()) - 3.14159 * 4**2) < 8
    assert disc((40, 20), (0.5, 0.5), 0.0).sum() >= 0
    box = rectangle((40, 20), (0.5, 0.25), (1.0, 0.75))
    assert box.sum() == 20 * 10
    assert torch.equal(box, rectangle((40, 20), (1.0, 0.75), (0.5, 0.25)))
