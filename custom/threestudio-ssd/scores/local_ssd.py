"""Local SSD: settled SSD whose terms that compare are larger, so that what no word is about is pulled back harder."""

from dataclasses import dataclass

from .settled_ssd import SettledSSD


@dataclass(frozen=True)
class LocalSSD(SettledSSD):
    """Settled SSD with twice the trajectory term and half as much again of the cross-prompt term.

    The trajectory term pulls to the source everywhere, the cross-prompt term to the target where the prompts disagree.
    Larger together, they leave less to enhancement, which acts on all of a view. docs/steering.md has the figures.
    """

    cross_prompt_weight: float = 5.6
    """w_p of the first part."""
    cross_trajectory_weight: float = 2.0
    """w_t of the first part."""
