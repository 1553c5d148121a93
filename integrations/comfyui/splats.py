"""ComfyUI's GAUSSIAN on one side, splat files and ``Gaussians`` on the other."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import Types
from torch import Tensor

import threestudio  # noqa: F401  # makes threestudio_ssd importable
from threestudio_ssd.gaussians import Gaussians
from threestudio_ssd.gaussians.io import load_gaussians, save_gaussians
from threestudio_ssd.gaussians.model import FIELD_NAMES

LEAST_SCALE, NEAREST_OPACITY = 1e-8, 1e-6
"""What logs and logits are taken of at least, and how near opacities come to 0 and 1 there."""


class Splat:
    """One splat of a GAUSSIAN batch: its tensors, and the same as Gaussians.

    Args:
        batch: A GAUSSIAN: ``positions (b n 3) scales (b n 3) rotations (b n 4) opacities (b n 1) sh (b n k 3) counts``.
        index: Which splat of it.
    """

    def __init__(self, batch: Any, index: int) -> None:
        count = batch.positions.shape[1] if batch.counts is None else int(batch.counts[index])
        tensors = (batch.positions, batch.scales, batch.rotations, batch.opacities, batch.sh)
        self.tensors = [tensor[index, :count].detach().float().cpu() for tensor in tensors]

    def gaussians(self) -> Gaussians:
        """The splat in the parametrisation that is optimised."""
        positions, scales, rotations, opacities, sh = self.tensors
        return Gaussians(
            means=positions, log_scales=scales.clamp_min(LEAST_SCALE).log(), raw_quats=rotations,
            logit_opacities=opacities[:, 0].clamp(NEAREST_OPACITY, 1 - NEAREST_OPACITY).logit(),
            sh0=sh[:, :1].contiguous(), shN=sh[:, 1:].contiguous(),
        )  # fmt: skip

    def save(self, path: Path) -> Path:
        """Write it as a splat file."""
        save_gaussians(self.gaussians(), path)
        return path

    def with_edits(self, edited: Gaussians, scene: Path) -> list[Tensor]:
        """The tensors of an edited splat; a Gaussian that nothing changed has the very values that came in.

        Args:
            edited: The result of an edit of the file ``scene``.
            scene: What ``save`` wrote.
        """
        source, edited = load_gaussians(scene), edited.to("cpu")
        tensors = tensors_of(edited)
        if edited.origin is None:
            return tensors
        rows = edited.origin.rows
        is_same = rows >= 0
        for name in FIELD_NAMES:
            now, before = (getattr(each, name).reshape(len(each), -1) for each in (edited, source))
            is_same &= (now == before[rows.clamp_min(0)]).all(dim=1)
        for tensor, given in zip(tensors, self.tensors, strict=True):
            tensor[is_same] = given[rows[is_same]]
        return tensors


def splats_of(batch: Any) -> Iterator[Splat]:
    """The splats of a GAUSSIAN batch."""
    for index in range(batch.positions.shape[0]):
        yield Splat(batch, index)


def tensors_of(gaussians: Gaussians) -> list[Tensor]:
    """Positions, scales, rotations, opacities and SH as GAUSSIAN has them."""
    return [
        gaussians.means.clone(), gaussians.scales, gaussians.quats, gaussians.opacities[:, None], gaussians.sh
    ]  # fmt: skip


def batch_of(splats: Sequence[Sequence[Tensor]]) -> Any:
    """A GAUSSIAN of splats, each its five tensors; padded with zeros, and ``counts`` where they differ in length."""
    counts = [len(tensors[0]) for tensors in splats]
    stacked = [torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True) for column in zip(*splats, strict=True)]
    return Types.GAUSSIAN(*stacked, counts=None if len(set(counts)) == 1 else torch.tensor(counts))


def save_selection(is_selected: Tensor, path: Path) -> Path:
    """Write a selection as ``Mask(saved=...)`` reads it."""
    np.save(path, is_selected.numpy())
    return path
