"""The overlap of masks, by counting pixels."""

import torch

from threestudio_ssd.metrics import mask_iou


def test_the_overlap_is_shared_pixels_by_all_pixels():
    masks, references = torch.zeros(4, 8, 8, dtype=torch.bool), torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[0, :4], references[0, :4] = True, True
    masks[1, :4], references[1, 2:6] = True, True
    masks[2, :4] = True
    assert torch.allclose(mask_iou(masks, references), torch.tensor([1.0, 1 / 3, 0.0, 0.0]))
    assert torch.equal(mask_iou(masks, references), mask_iou(references, masks))
