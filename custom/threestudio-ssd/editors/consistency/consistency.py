"""What a consistency method is: many views of one scene in, the same views out, edited with regard to each other."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import ConfigError
from ...named import NamedClass, registrar
from ..editor import ImageEditor, Views
from ..prompted import PromptedBackbone


@dataclass(frozen=True)
class Consistency(ABC):
    """A way to edit views together. A subclass is a frozen dataclass whose fields are the method's constants."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Which optional fields of ``Views`` it reads: depths, cameras, frame, names."""
    sees_all_views: ClassVar[bool] = True
    """Whether it has to be given all views of a round at once; else they may come in batches."""

    def load(self, network: Any, device: torch.device, **options: Any) -> Any:
        """Override to refuse an editor's network that the method cannot work with, and to load one of its own.

        Args:
            network: The editor's.
            device: Where it runs.
            **options: ``revision`` and ``is_offline`` of a model of the method's own.

        Raises:
            ConfigError: If the network does not suit.
        """
        return None

    @abstractmethod
    def edit(self, editor: ImageEditor, network: Any, views: Views, own: Any) -> Float[Tensor, "b 3 h w"]:
        """Edited images in [0, 1].

        Args:
            editor: What edits.
            network: What it computes with.
            views: What to edit.
            own: What ``load`` gave.
        """

    def covered(self, network: Any, views: Views, own: Any) -> Float[Tensor, "b 1 h w"] | None:
        """How much of each pixel of the edited views the new object makes up, in [0, 1]; None: not known.

        Args:
            network: See ``edit``.
            views: What is edited.
            own: What ``load`` gave.
        """
        return None

    def drawn(self, network: Any, views: Views, own: Any) -> Float[Tensor, "b 1 h w"] | None:
        """How much of each pixel the old object would make up, by its words and place alone; None: not known.

        Where that is more than it does, it is smaller than such things are in ``Views.frame``.

        Args:
            network: See ``edit``.
            views: Where from; what they show is not looked at.
            own: What ``load`` gave.
        """
        return None


@dataclass(frozen=True)
class Independent(Consistency):
    """Each view by itself."""

    sees_all_views = False

    def edit(self, editor: ImageEditor, network: Any, views: Views, own: Any) -> Float[Tensor, "b 3 h w"]:
        """See ``Consistency``."""
        return editor.edit(network, views)


CONSISTENCIES: dict[str, type[Consistency]] = {}
"""Classes by the name configs use."""


def register_consistency(name: str) -> Callable[[NamedClass], NamedClass]:
    """Make a method known to configs under ``name``; use as a decorator, in this package or in any other file.

    Raises:
        TypeError: If the class is no ``Consistency``.
        ValueError: If another class holds the name. The same definition, imported again, replaces itself.
    """
    return registrar(name, CONSISTENCIES, Consistency, kind="consistency", kinds="consistencies")


def unet_of(network: Any, method: str) -> Any:
    """The U-Net whose self-attention a method changes.

    Raises:
        ConfigError: If the editor has none that is ours to change.
    """
    is_ours = isinstance(network, PromptedBackbone) and not network.controls_attention
    unet = network.backbone.network if is_ours else None
    if unet is None or not hasattr(unet, "up_blocks"):
        raise ConfigError(
            what=f"system.editing.consistency.name is {method}, and the editor's network is no U-Net of ours whose "
            "attention is free",
            expected="an editor such as sdedit, inversion or ip2p, with a model such as SD 1.5",
            fix="set system.editing.consistency.name=grid, which any editor can do, or none",
        )
    return unet
