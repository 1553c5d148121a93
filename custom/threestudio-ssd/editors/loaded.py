"""An editor and its network, ready to be called with views."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .consistency import Consistency, Independent
from .editor import ImageEditor, Views


@dataclass(frozen=True)
class LoadedEditor:
    """An editor and its network: called with views, it gives them edited, unchanged outside their masks.

    Attributes:
        editor: The method and its constants.
        network: What it computes with.
        batch_size: Views that go through the network at once, at most, where the consistency does not see all.
        consistency: How views are edited together.
        own: What the consistency loaded.
    """

    editor: ImageEditor
    network: Any
    batch_size: int = 8
    consistency: Consistency = field(default_factory=Independent)
    own: Any = None

    @property
    def needs(self) -> frozenset[str]:
        """Which optional fields of ``Views`` have to be given: depths, cameras, frame, names."""
        return self.editor.needs | self.consistency.needs

    @torch.no_grad()
    def __call__(self, views: Views) -> Float[Tensor, "b 3 h w"]:
        """Edit views.

        Raises:
            ValueError: If a field that the editor needs was not given.
        """
        if missing := sorted(name for name in self.needs if getattr(views, name) is None):
            raise ValueError(f"{type(self.editor).__name__} needs the {', '.join(missing)} of the views")
        edited = torch.cat([
            self.consistency.edit(self.editor, self.network, batch, self.own) for batch in self._batches(views)
        ]).clamp(0, 1)  # fmt: skip
        return edited if views.masks is None else views.surroundings.lerp(edited, views.masks)

    def covered(self, views: Views) -> Float[Tensor, "b 1 h w"] | None:
        """How much of each pixel of the edited views the new object makes up, in [0, 1]; None: not known."""
        return self._outlines(self.consistency.covered, views)

    def drawn(self, views: Views) -> Float[Tensor, "b 1 h w"] | None:
        """The same of the old object, by its words and place alone; see ``Consistency``."""
        return self._outlines(self.consistency.drawn, views)

    @torch.no_grad()
    def _outlines(self, ask: Callable[..., Tensor | None], views: Views) -> Tensor | None:
        answers = [ask(self.network, batch, self.own) for batch in self._batches(views)]
        outlines = [answer for answer in answers if answer is not None]
        return torch.cat(outlines) if outlines else None

    def _batches(self, views: Views) -> list[Views]:
        sees_all = self.consistency.sees_all_views or self.editor.sees_all_views
        at_once = len(views) if sees_all else self.batch_size
        return [views[slice(i, i + at_once)] for i in range(0, len(views), at_once)]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a report says of it."""
        names = {"editor": type(self.editor).__name__, "consistency": type(self.consistency).__name__}
        return names | self.network.provenance
