"""What an image editor is: views of a scene in, the same views edited out; and the table of editors by name."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..cameras import Cameras
from ..cameras.rays import ObjectFrame
from ..diffusion import Counters
from ..named import NamedClass, registrar


class EditorPrompts(NamedTuple):
    """What is there, what should be there, and what to keep away from."""

    source: str
    target: str
    """A description, or an instruction for an editor that ``reads_instruction``."""
    negative: str = ""
    others: tuple["EditorPrompts", ...] = ()
    """Those of more edits that the same network will be asked for, see ``Views.prompts`` and ``EditorNetwork``."""
    blended: str = ""
    """A word of the source and one of the target that the edit is about, for editors that look where they are."""

    @property
    def all(self) -> tuple["EditorPrompts", ...]:
        """These, and the others."""
        return (self, *self.others)


@dataclass(frozen=True)
class Views:
    """Images to edit, all of one size, and what an editor may know of them.

    An editor names in ``needs`` those of the optional fields that it cannot do without.

    Attributes:
        images: (b 3 h w) as they are now, in [0, 1]; the edit starts from them.
        sources: (b 3 h w) the same views before any edit, in [0, 1].
        seeds: One for each image; with ``round`` it decides the image's noise.
        strength: Share of the way to noise that an image goes before it is made anew, in (0, 1]: 1 forgets it.
        round: Which edit of the same views this is, from 0; another round draws other noise.
        masks: (b 1 h w) in [0, 1]: 1 may change; None: everything.
        kept: (b 3 h w) what stands where the masks are 0, in [0, 1]; None: ``images``.
        cameras: Where the views are taken from.
        frame: Of the object that is edited, in the cameras' world.
        depths: (b 1 h w) distance along the viewing axis, world units, of what ``images`` show.
        names: Of each view, for files.
        words: What to add to the prompts of each view, such as "seen from the front"; None or "": nothing.
        prompts: Of each view, where they differ: all are among those that the network was loaded with; None: the
            network's own. Editors on our own networks read them.
    """

    images: Float[Tensor, "b 3 h w"]
    sources: Float[Tensor, "b 3 h w"]
    seeds: Sequence[int]
    strength: float = 1.0
    round: int = 0
    masks: Float[Tensor, "b 1 h w"] | None = None
    kept: Float[Tensor, "b 3 h w"] | None = None
    cameras: Cameras | None = None
    frame: ObjectFrame | None = None
    depths: Float[Tensor, "b 1 h w"] | None = None
    names: Sequence[str] | None = None
    words: Sequence[str] | None = None
    prompts: Sequence[EditorPrompts] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def surroundings(self) -> Float[Tensor, "b 3 h w"]:
        """What stands where the masks are 0."""
        return self.images if self.kept is None else self.kept

    def __getitem__(self, rows: Int[Tensor, "k"] | slice) -> "Views":
        """Some of the views, in the order of the rows."""
        picks = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        index = torch.tensor(list(picks), device=self.images.device)
        chosen: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Tensor | Cameras):
                chosen[each.name] = value[index.to(value.device) if isinstance(value, Tensor) else index.cpu()]
            elif isinstance(value, Sequence):
                chosen[each.name] = [value[pick] for pick in picks]
        return replace(self, **chosen)


class EditorNetwork(ABC):
    """What an editor computes with, its prompts embedded: a backbone, a pipeline of diffusers, or nothing at all."""

    image_size: int = 512
    """Shorter side in pixels that it works at best."""
    size_multiple: int = 1
    """Sides of images are multiples of this, pixels."""
    counters: Counters
    """What it has computed so far."""
    prompts: EditorPrompts
    """Those of the edit."""

    def asked(self, prompts: EditorPrompts) -> "EditorNetwork":
        """The same network for another edit, of ``others`` of the prompts that it was loaded with."""
        other = copy.copy(self)
        other.prompts = prompts
        return other

    @property
    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What was loaded and how, for a report: ``model``, ``revision``, ... ; None where there is no network."""


@dataclass(frozen=True)
class ImageEditor(ABC):
    """A way to edit images. A subclass is a frozen dataclass whose fields are the method's constants.

    It knows no file, no scene and no other view than those it is given; all views of a call may go through the network
    in one batch, and each comes out as it would alone.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Which optional fields of ``Views`` it reads: depths, cameras, frame, names."""
    has_network: ClassVar[bool] = True
    """Whether it computes with a model; without one, edited images come from elsewhere."""
    sees_all_views: ClassVar[bool] = False
    """Whether all views of a call are handed over together, however many go through the network at once."""

    @property
    def reads_instruction(self) -> bool:
        """Whether the target prompt is an instruction ("make it blue") rather than a description."""
        return False

    def reads_instruction_of(self, keys: Any) -> bool:
        """The same where the model decides.

        Args:
            keys: ``ModelKeys``.
        """
        return self.reads_instruction

    def check(self, key: str) -> None:  # noqa: B027  # most editors need none
        """Override: refuse values of the fields that cannot be used, before a model is loaded.

        Args:
            key: Where the fields stand in the config, for messages.

        Raises:
            ConfigError: For the first one.
        """

    @abstractmethod
    def load(self, keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str]) -> Any:
        """The network with its prompts embedded; text encoders are freed.

        Args:
            keys: ``ModelKeys``.
            device: Where it runs.
            prompts: Of the edit.
            words: Everything that ``Views.words`` may say.

        Returns:
            An ``EditorNetwork``.

        Raises:
            ConfigError: If the model cannot be used.
        """

    @abstractmethod
    def edit(self, network: Any, views: Views) -> Float[Tensor, "b 3 h w"]:
        """Edited images in [0, 1].

        Args:
            network: That of ``load``.
            views: What to edit. Where an editor can, it keeps ``surroundings`` outside the masks at every step; what
                differs there afterwards is put back by ``LoadedEditor``.
        """


EDITORS: dict[str, type[ImageEditor]] = {}
"""Editor classes by the name configs use."""


def register_editor(name: str) -> Callable[[NamedClass], NamedClass]:
    """Make an editor known to configs under ``name``; use as a decorator, in this package or in any other file.

    Raises:
        TypeError: If the class is no ``ImageEditor``.
        ValueError: If another class holds the name. The same definition, imported again, replaces itself.
    """
    return registrar(name, EDITORS, ImageEditor, kind="editor", kinds="editors")
