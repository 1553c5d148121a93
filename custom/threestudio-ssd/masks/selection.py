"""What an edit may change: the words of the config, turned into a selection of Gaussians."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from omegaconf import DictConfig
from torch import Tensor

import threestudio

from ..cameras import Cameras
from ..errors import ConfigError
from ..gaussians import Gaussians
from ..rendering import render_each
from .box import in_box
from .picture import load_masks
from .tracing import trace


@dataclass
class MaskConfig:
    """Keys of the mask; with several, a Gaussian must pass all of them; with none, everything may change."""

    text: str | None = None
    """What to change, in words; found in the training views by ``segmenter``."""
    picture: str | None = None
    """A mask picture named after a view of the capture, or a folder of them; white may change."""
    box: list[float] | None = None
    """x_min y_min z_min x_max y_max z_max, world units."""
    segmenter: str = "data/tiny-seg"
    """Folder or hub id of the text-prompted segmenter."""
    threshold: float = 0.5
    """Share of its visible weight that must lie under the masks for a Gaussian to be selected, in (0, 1)."""
    num_views: int = 24
    """Views that the text mask is traced through."""


def select(
    cfg: MaskConfig | DictConfig, gaussians: Gaussians, views: Cameras, capture: Cameras | None, background: Tensor
) -> Bool[Tensor, "n"]:
    """The Gaussians an edit may change.

    Args:
        cfg: What to select.
        gaussians: The scene.
        views: Training views, for a text mask.
        capture: The capture's cameras, for mask pictures.
        background: Behind the scene.

    Raises:
        ConfigError: If the selection is empty, or mask pictures come without cameras.
    """
    if not 0 < cfg.threshold < 1:
        raise ConfigError(what=f"mask.threshold is {cfg.threshold}", expected="between 0 and 1", fix="set mask.threshold=0.5")
    is_selected = torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.device)
    if cfg.box is not None:
        is_selected &= in_box(gaussians.means, cfg.box)
    if cfg.picture:
        if capture is None:
            raise ConfigError(
                what=f"mask.picture is {cfg.picture} but there are no cameras",
                expected="the cameras of the views that the masks were drawn on",
                fix="set cameras=PATH, or use mask.box",
            )
        is_selected &= trace(gaussians, *load_masks(cfg.picture, capture), cfg.threshold)
    if cfg.text:
        from .text import segment

        some = views[torch.linspace(0, len(views) - 1, min(cfg.num_views, len(views))).round().long()]
        images = torch.stack(list(render_each(gaussians, some, background))).permute(0, 3, 1, 2)
        masks = segment(images, cfg.text, cfg.segmenter)
        is_selected &= trace(gaussians, some, masks.float(), cfg.threshold)
    if not is_selected.any():
        raise ConfigError(
            what=f"the mask (text {cfg.text}, picture {cfg.picture}, box {cfg.box}) selects none of {len(gaussians)} Gaussians",
            expected="at least one",
            fix="lower mask.threshold, or check the box and the pictures",
        )
    threestudio.info(f"The mask selects {int(is_selected.sum()):,} of {len(gaussians):,} Gaussians.")
    return is_selected
