"""What renders are held against: the loss of edited views by its own formula, and what a checkpoint keeps of them."""

import pytest
import torch

from threestudio_ssd.metrics import ssim
from threestudio_ssd.metrics.lpips import Lpips, linear_weights
from threestudio_ssd.refits.views_edit import EditedViews

SIZE = 48


@pytest.fixture
def images(generator):
    return torch.rand(3, 3, SIZE, SIZE, generator=generator)


@pytest.mark.parametrize(("lambda_ssim", "lambda_lpips"), [(0.0, 0.0), (0.2, 0.0), (0.0, 1.0), (0.3, 0.5)])
def test_the_loss_is_l1_and_ssim_and_lpips_by_their_weights(images, generator, lambda_ssim, lambda_lpips):
    network = Lpips("squeeze", linear_weights("squeeze")).eval()
    views = EditedViews(3, lambda_ssim, lambda_lpips, network if lambda_lpips else None)
    views.update(torch.arange(3), images)
    rendered = torch.rand(2, SIZE, SIZE, 3, generator=generator)
    loss, _ = views([rendered], [torch.tensor([2, 0])], 0)
    target, ours = images[[2, 0]], rendered.permute(0, 3, 1, 2)
    target = (target * 255).round() / 255
    expected = (1 - lambda_ssim) * (ours - target).abs().mean() + lambda_ssim * (1 - ssim(ours, target).mean())
    expected = expected + lambda_lpips * network(ours, target).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-3)


def test_a_checkpoint_keeps_the_edited_views_to_the_bit(images):
    views, other = EditedViews(3, 0.2), EditedViews(3, 0.2)
    views.update(torch.arange(3), images)
    views.update(torch.tensor([1]), 1 - images[1:2])
    other.load_state_dict(views.state_dict())
    for before, after in zip(views.targets, other.targets, strict=True):
        assert torch.equal(before, after)
    assert (other.targets[1] - (1 - images[1]).permute(1, 2, 0)).abs().max() < 1 / 500
