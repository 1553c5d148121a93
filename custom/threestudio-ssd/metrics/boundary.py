"""How well two outlines agree: the F-score of their pixels within a tolerance (Martin et al. 2004)."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


def boundary_f_score(
    masks: Bool[Tensor, "b h w"], references: Bool[Tensor, "b h w"], tolerance: float = 2.0
) -> Float[Tensor, " b"]:
    """2 P R / (P + R) for each pair of masks, in [0, 1]; higher is better.

    P is the share of a mask's boundary pixels that lie within the tolerance of the reference's boundary, R the share of
    the reference's that lie within it of the mask's, as video segmentation is judged (Perazzi et al. 2016). A boundary
    pixel is inside and has one of its four neighbours outside; beyond the image counts as inside.

    Args:
        masks: What is judged.
        references: What it should be.
        tolerance: Pixels, >= 0.

    Returns:
        One value a pair; 1 where neither has a boundary, 0 where only one has.
    """
    values = []
    for mask, reference in zip(masks, references, strict=True):
        ours, theirs = (_boundary(each.cpu().numpy().astype(np.uint8)) for each in (mask, reference))
        if not ours.any() or not theirs.any():
            values.append(float(not ours.any() and not theirs.any()))
            continue
        precision = float((_distances(theirs)[ours] <= tolerance).mean())
        recall = float((_distances(ours)[theirs] <= tolerance).mean())
        values.append(2 * precision * recall / max(precision + recall, 1e-12))
    return torch.tensor(values)


def _boundary(mask: np.ndarray) -> np.ndarray:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return (mask - cv2.erode(mask, cross, borderType=cv2.BORDER_REPLICATE)).astype(bool)


def _distances(boundary: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest of the boundary, pixels."""
    return cv2.distanceTransform((~boundary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
