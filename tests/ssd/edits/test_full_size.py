"""An edit carried over to the full picture: nothing stays nothing, edges stay edges, a mask keeps the rest."""

import numpy as np
import torch
from torch.nn.functional import interpolate

from threestudio_ssd.edits.full_size import EPSILON, RADIUS, carried_over, guided_upsampling
from threestudio_ssd.images import resized

FULL, SMALL = 128, 32


def disk_picture(color):
    """A disk with stripes on a green ground, and where it is."""
    y, x = torch.meshgrid(torch.arange(FULL), torch.arange(FULL), indexing="ij")
    is_disk = ((x - 60) ** 2 + (y - 70) ** 2 < 35**2)[None, None]
    stripes = 0.05 * torch.sin(x / 3)[None, None]
    ground = torch.tensor([0.2, 0.6, 0.25])[None, :, None, None] + stripes
    return torch.where(is_disk, torch.tensor(color)[None, :, None, None] + stripes, ground), is_disk


def test_an_edit_of_nothing_is_the_picture_to_the_last_bit():
    picture = torch.rand(1, 3, 90, 70)
    small = resized(picture, (40, 32))
    assert torch.equal(carried_over(picture, small, small), picture)
    assert torch.equal(carried_over(small, picture, picture), small)


def test_edges_of_a_recoloured_region_are_kept_better_than_by_enlarging_the_result():
    source, _ = disk_picture([0.8, 0.15, 0.15])
    truth, _ = disk_picture([0.15, 0.2, 0.85])
    before, after = resized(source, (SMALL, SMALL)), resized(truth, (SMALL, SMALL))
    carried = carried_over(source, before, after)
    enlarged = interpolate(after, (FULL, FULL), mode="bicubic", align_corners=False).clamp(0, 1)
    plain = source + interpolate(after - before, (FULL, FULL), mode="bicubic", align_corners=False)
    errors = [float((each - truth).pow(2).mean()) for each in (carried, enlarged, plain)]
    assert errors[0] < 0.25 * errors[1], errors
    assert errors[0] < 0.5 * errors[2], errors


def test_it_is_the_guided_filter_of_a_color_picture():
    """Window by window in float64, as the paper's equations stand."""
    draws = torch.Generator().manual_seed(0)
    values, guide = torch.rand(1, 2, 8, 9, generator=draws), torch.rand(1, 3, 8, 9, generator=draws)
    found = guided_upsampling(values, guide, guide)[0].numpy()
    p, image = values[0].double().numpy(), guide[0].double().numpy()
    height, width = p.shape[1:]

    def window(row, column):
        rows = slice(max(0, row - RADIUS), min(height, row + RADIUS + 1))
        return rows, slice(max(0, column - RADIUS), min(width, column + RADIUS + 1))

    slopes, offsets = np.zeros((2, height, width, 3)), np.zeros((2, height, width))
    for row in range(height):
        for column in range(width):
            colors = image[:, *window(row, column)].reshape(3, -1)
            covariance = np.cov(colors, bias=True) + EPSILON * np.eye(3)
            for channel in range(2):
                here = p[channel][window(row, column)].ravel()
                shared = (colors * here).mean(1) - colors.mean(1) * here.mean()
                slopes[channel, row, column] = np.linalg.inv(covariance) @ shared
                offsets[channel, row, column] = here.mean() - slopes[channel, row, column] @ colors.mean(1)
    for channel in range(2):
        for row in range(height):
            for column in range(width):
                slope = slopes[channel][window(row, column)].reshape(-1, 3).mean(0)
                expected = slope @ image[:, row, column] + offsets[channel][window(row, column)].mean()
                assert abs(found[channel, row, column] - expected) < 1e-4


def test_outside_the_mask_the_picture_keeps_its_bits():
    source, is_disk = disk_picture([0.8, 0.15, 0.15])
    small = resized(source, (SMALL, SMALL))
    result = carried_over(source, small, (small + 0.2).clamp(0, 1), is_disk.float())
    outside = ~is_disk.expand_as(source)
    assert torch.equal(result[outside], source[outside])
    assert float((result - source)[~outside].abs().mean()) > 0.1
