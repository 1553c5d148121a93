"""What the panels of a viewer share: the scene before and after, where it is looked at from, and what is selected."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from omegaconf import DictConfig
from torch import Tensor

from ..data import ViewPlan
from ..data.keys import GSViewsConfig
from ..data.scene_views import SceneViews
from ..errors import ConfigError
from ..gaussians import Gaussians
from ..host import get_device, parse_structured
from ..masks import MaskConfig, settle_mask
from ..scenes import load_splat
from .server import Server

VIEW_SIZE = 256
"""Shorter side of the views that a selection is looked for in where the config leaves it open, pixels."""


@dataclass
class Viewed:
    """What is looked at, from the keys of the command.

    Attributes:
        path: The splat file that an edit would change.
        before: Its Gaussians, where they are rendered.
        after: Those of a second file to compare with; None: there is none.
        plan: Where the views come from.
        views: They themselves.
        mask: Keys of the selection.
        background: Colour behind the scene, RGB in [0, 1].
        words: What the edit panel starts with: ``source``, ``target``.
        model: Diffusion model of the experiment; None: there is none.
    """

    path: str
    before: Gaussians
    after: Gaussians | None
    plan: ViewPlan
    views: SceneViews
    mask: DictConfig
    background: Float[Tensor, "3"]
    words: dict[str, str] = field(default_factory=dict)
    model: str | None = None


def load_viewed(before: str, after: str, cameras: str, mask: Any, experiment: DictConfig | None) -> Viewed:
    """Read what is to be looked at.

    Args:
        before: A splat file; empty: the scene of the experiment.
        after: A second one; empty: none.
        cameras: The capture's; empty: those of the experiment, or an orbit.
        mask: Keys of ``MaskConfig`` where there is no experiment.
        experiment: An edit whose scene, cameras, mask and words are taken.

    Raises:
        ConfigError: If no scene is named, or a key cannot be used.
        SceneFormatError: If a file cannot be read.
    """
    system = {} if experiment is None else experiment.system
    path = before or system.get("scene") or ""
    if not path:
        expected, fix = "a splat file, or --config of an edit", "launch.py --run view scene.ply"
        raise ConfigError(what="--run view was given no scene", expected=expected, fix=fix)
    data = {} if experiment is None or experiment.data_type != "gs-views" else dict(experiment.data)
    plan = ViewPlan(parse_structured(GSViewsConfig, {**data, "cameras": cameras or data.get("cameras", "")}))
    mask = system.get("mask", mask)
    network = next((system[name] for name in ("guidance", "editing") if name in system), {})
    device, first = get_device(), load_splat(path)
    model = network.get("model")
    settled = settle_mask(parse_structured(MaskConfig, mask), path, model)
    words = system.get("prompt_processor", system)
    return Viewed(
        path, first.to(device), load_splat(after).to(device) if after else None, plan,
        plan.views(first, VIEW_SIZE, 2), settled,
        torch.tensor(list(system.get("background", (0.0, 0.0, 0.0))), dtype=torch.float32, device=device),
        {"source": words.get("source_prompt", ""), "target": words.get("target_prompt", "")}, model,
    )  # fmt: skip


class Session:
    """The state of one viewer; panels change it here, and are told when another one did.

    Args:
        server: The browser's.
        viewed: What is looked at.

    Attributes:
        path: The file of the scene that an edit starts from.
        before: That scene.
        after: The scene to compare it with; None: there is none.
        is_selected: (n) which Gaussians of ``before`` are selected.
        lock: Held by whoever renders or optimises; not all rasterisers may be called twice at a time.
    """

    def __init__(self, server: Server, viewed: Viewed) -> None:
        self.server, self.viewed = server, viewed
        self.path, self.before, self.after = viewed.path, viewed.before, viewed.after
        self.is_selected: Bool[Tensor, "n"] = torch.zeros(len(self.before), dtype=torch.bool)
        self.lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call somebody whenever a scene or the selection changed."""
        self._listeners.append(listener)

    def change(self, **values: Any) -> None:
        """Set some of ``path``, ``before``, ``after`` and ``is_selected``, and tell everybody."""
        for name, value in values.items():
            setattr(self, name, value)
        if len(self.is_selected) != len(self.before):
            self.is_selected = torch.zeros(len(self.before), dtype=torch.bool)
        for listener in self._listeners:
            listener()
