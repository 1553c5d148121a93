"""What the parts of an edit with a source branch hand to each other: the setting, the inverse, the rows of a call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ...diffusion import Backbone, PromptEmbeds
from ..editor import Views
from .network import BranchedBackbone


@dataclass(frozen=True)
class Setting:
    """An edit of some views, before it begins.

    Attributes:
        network: The model and its prompts.
        views: What is edited.
        path: Timesteps down; the last is 0.
        guidance_scale: s of the target, and of the source where that is guided.
        source: What the source branch is told, one row for each view.
        target: What the target branch is told, the same.
        is_source_guided: Whether the source branch has guidance, too.
    """

    network: BranchedBackbone
    views: Views
    path: Sequence[int]
    guidance_scale: float
    source: PromptEmbeds
    target: PromptEmbeds
    is_source_guided: bool

    @property
    def backbone(self) -> Backbone:
        """The model."""
        return self.network.backbone

    @property
    def num_steps(self) -> int:
        """Steps down."""
        return len(self.path) - 1

    @property
    def null(self) -> PromptEmbeds:
        """What guidance leads away from, one row for each view."""
        return self.network.null.expand(len(self.views))

    def steps_of(self, share: float) -> int:
        """So many steps are this share of all, rounded down."""
        return int(share * self.num_steps + 1e-6)


@dataclass(frozen=True)
class Inverted:
    """What an inversion found of a picture, and how the source branch comes back to it.

    Attributes:
        latents: At every timestep of the path, the noisiest first; the last are the picture's.
        nulls: For each step what guidance leads away from, in both branches; None: the setting's.
        values: For each step what becomes of the prompt before it is made into values; None: nothing.
        value_steps: So many steps have it in the target branch, too.
        is_followed: Whether the source branch is put on these latents after each step.
    """

    latents: Sequence[Float[Tensor, "b c zh zw"]]
    nulls: Sequence[PromptEmbeds] | None = None
    values: Sequence[Callable[[Tensor], Tensor]] | None = None
    value_steps: int = 0
    is_followed: bool = False


@dataclass(frozen=True)
class Rows:
    """Places of the states in a network call; each state is one row for every view.

    Attributes:
        source: The source branch under its prompt.
        source_null: The same under the null prompt; where it has none, that under its prompt.
        target_null: The target branch under the null prompt.
        target: The same under its prompt.
        count: States in all.
    """

    source: int
    source_null: int
    target_null: int
    target: int
    count: int

    @classmethod
    def of(cls, has_source_null: bool) -> "Rows":
        """Source, source null where there is one, target null, target."""
        return cls(0, 1, 2, 3, 4) if has_source_null else cls(0, 0, 1, 2, 3)

    def order(self, **taken: int) -> list[int]:
        """The states in order, some of them taken from another's place: ``order(target=rows.source)``."""
        order = list(range(self.count))
        for state, place in taken.items():
            order[getattr(self, state)] = place
        return order
