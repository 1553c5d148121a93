"""An editor on one image: as an edit of one step, so that it runs, is kept and is reported as any other edit is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from ..edits.edit import Edit, Facts
from ..edits.keys import EditConfig
from ..errors import ConfigError
from ..guidance.prompts import check_target
from ..host import get_device
from ..images import read_mask
from .editor import EditorPrompts, Views
from .load import EditorKeys, load_editor
from .loaded import LoadedEditor


@dataclass
class EditorImageConfig(EditConfig):
    """Keys of an edit of an image by an editor."""

    num_steps: int = 1
    """Always 1: an editor makes steps of its own, see its fields."""
    source_prompt: str = ""
    """What is there."""
    target_prompt: str = ""
    """What should be there; an instruction for an editor that reads one."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    editing: EditorKeys = field(default_factory=EditorKeys)
    """The editor and its model."""
    strength: float = 0.8
    """Share of the way to noise that the image goes before it is made anew, above 0, at most 1."""
    mask_picture: str | None = None
    """White may change."""
    clip_model: str = "auto"
    """CLIP of the report, see docs/metrics.md; auto: ViT-L/14, but tiny-clip beside an embedded model."""


class EditorEdit(Edit):
    """Views and an editor: its one step is the editor's call, and the edited views are the parameter after it.

    Args:
        editor: What edits.
        views: What is edited.
    """

    def __init__(self, editor: LoadedEditor, views: Views) -> None:
        super().__init__(num_steps=1)
        self.editor, self.views = editor, views
        self.images = nn.Parameter(views.images.clone())

    def make_optimizers(self) -> list[Optimizer]:
        """One that goes all the way to the edited images."""
        return [torch.optim.SGD(self.parameters(), lr=1.0)]

    def loss(self, step: int) -> tuple[Tensor, Facts]:
        """Half the squared distance to the edited images, whose gradient is what the editor changes."""
        self.edited = self.editor(self.views)
        loss = 0.5 * (self.images - self.edited).pow(2).sum()
        return loss, {"change": (self.edited - self.views.images).abs().mean()}

    def set_rates(self, optimizers: Sequence[Optimizer], step: int) -> None:
        """It stays 1."""

    def after_step(self, step: int) -> None:
        """The edited images themselves, to the last bit."""
        with torch.no_grad():
            self.images.copy_(self.edited)

    def result(self) -> Float[Tensor, "b 3 h w"]:
        """The images as they are now, in [0, 1]."""
        return self.images.detach()


class EditorImageEdit:
    """One image and an editor; making it loads the model, so that everything that can be wrong is found before.

    Args:
        cfg: Keys of ``EditorImageConfig``, checked against it.

    Raises:
        ConfigError: For a value that cannot be used.

    Attributes:
        editor: The editor and its network.
        edit: The edit, after ``open``.
    """

    edit: EditorEdit

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        if cfg.num_steps != 1:
            expected, fix = "1, since an editor makes steps of its own", "set system.num_steps=1"
            raise ConfigError(what=f"system.num_steps is {cfg.num_steps}", expected=expected, fix=fix)
        self.editor = load_editor(cfg.editing, get_device(), checked_prompts(cfg))

    def open(self, image: Float[Tensor, "1 3 h w"], name: str) -> None:
        """Lay out the edit of an image in [0, 1].

        Args:
            image: Sides in multiples of the network's ``size_multiple``.
            name: The image's, for files.
        """
        path, image = self.cfg.mask_picture, image.to(get_device())
        masks = read_mask(path, "system.mask_picture", image) if path else None
        self.edit = EditorEdit(self.editor, image_views(self.cfg, image, [Path(name).stem], masks))


def checked_prompts(cfg: Any) -> EditorPrompts:
    """The prompts of ``EditorImageConfig``.

    Raises:
        ConfigError: If there is none for what should be there, or the strength is out of range.
    """
    check_target(cfg.target_prompt)
    check_strength(cfg)
    return EditorPrompts(cfg.source_prompt, cfg.target_prompt, cfg.negative_prompt)


def check_strength(cfg: Any) -> None:
    """Refuse a strength out of range.

    Raises:
        ConfigError: If it is.
    """
    if not 0 < cfg.strength <= 1:
        fix = f"set system.strength={EditorImageConfig.strength}"
        raise ConfigError(what=f"system.strength is {cfg.strength}", expected="above 0, at most 1", fix=fix)


def image_views(
    cfg: Any, images: Float[Tensor, "b 3 h w"], names: Sequence[str], masks: Float[Tensor, "b 1 h w"] | None = None
) -> Views:
    """Images as an editor gets them, by the seed and strength of ``EditorImageConfig``."""
    return Views(images, images, [cfg.seed] * len(images), strength=cfg.strength, masks=masks, names=list(names))
