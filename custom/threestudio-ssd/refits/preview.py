"""What an editor makes of some views at each strength of a run, before anything is fitted to them."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .rounds import Round
from .scene_refit import SceneRefit


def strengths_of(rounds: Sequence[Round]) -> list[float]:
    """The strengths that rounds edit with, from strong to weak, each once; where they are drawn, the two ends."""
    return sorted(
        {strength for one in rounds for strength in (one.strength, one.max_strength) if strength}, reverse=True
    )


def edited_views(
    job: SceneRefit, count: int, strengths: Sequence[float]
) -> Iterator[tuple[str, list[str], Float[Tensor, "b 3 h w"]]]:
    """Some training views, evenly spread, before the edit and edited from there at each strength.

    In a run, all rounds but the first edit what was fitted until then.

    Args:
        job: A refit that was opened.
        count: Views, at most as many as there are; they are edited together.
        strengths: Each in (0, 1].

    Yields:
        What to call it, the names of the views, and their images in [0, 1].
    """
    cameras = job.editing.cameras
    rows = torch.linspace(0, len(cameras) - 1, min(count, len(cameras))).round().long().unique()
    names = [cameras.names[row] for row in rows.tolist()]
    yield "before", names, job.editing.sources[rows]
    for strength in strengths:
        yield f"strength {strength:g}", names, job.editing.edit(None, rows, strength, 0)[0]
