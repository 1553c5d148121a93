"""The known scene behind tests/golden/formats, and how far a scene is from it."""

import json
from pathlib import Path

import numpy as np
import torch

from threestudio_ssd.gaussians import Gaussians

GOLDEN = Path(__file__).parents[3] / "golden" / "formats"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
C0 = 0.28209479177387814


def true_scene() -> Gaussians:
    """The thousand Gaussians that every file was made from."""
    with np.load(GOLDEN / "truth_sh3.npz") as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}
    return Gaussians(
        values["means"], values["log_scales"], values["quats_wxyz"], values["opacity_logits"], values["sh0"][:, None],
        values["shN"],
    )  # fmt: skip


def errors(actual: Gaussians, truth: Gaussians, *, is_reordered: bool = False) -> dict[str, float]:
    """Largest errors in the manifest's units; reordered scenes are matched by the nearest position."""
    if is_reordered:
        nearest = torch.cdist(actual.means.double(), truth.means.double()).argmin(dim=1)
        assert len(nearest.unique()) == len(actual)
        truth = truth.select(nearest)
    p, q = (torch.nn.functional.normalize(scene.raw_quats.double(), dim=1) for scene in (actual, truth))
    chords = torch.minimum((p - q).norm(dim=1), (p + q).norm(dim=1))
    rest = min(actual.shN.shape[1], truth.shN.shape[1])
    colors = [(0.5 + C0 * scene.sh0.double()).clamp(0, 1) for scene in (actual, truth)]
    return {
        "position": float((actual.means.double() - truth.means).abs().max()),
        "log_scale": float((actual.log_scales.double() - truth.log_scales).abs().max()),
        "rotation_degrees": float(torch.rad2deg(4 * torch.asin((chords / 2).clamp(max=1))).max()),
        "opacity_0_1": float((actual.opacities.double() - truth.opacities.double()).abs().max()),
        "rgb_clipped_0_1": float((colors[0] - colors[1]).abs().max()),
        "sh_rest": float((actual.shN[:, :rest].double() - truth.shN[:, :rest]).abs().max()) if rest else 0.0,
    }
