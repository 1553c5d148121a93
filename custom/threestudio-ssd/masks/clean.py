"""Making a traced selection whole: without floaters, with what it encloses, grown or shrunk."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ..images import chroma_of
from ..neighbors import Neighbors

SMALL_PIECE = 0.02
"""Pieces with less than this share of the selection's visible weight are floaters."""
LINK_NEIGHBOR, LINK_QUANTILE, LINK_FACTOR = 4, 0.9, 2.0
"""Gaussians belong together within this factor of the distance that most have to their fourth neighbour."""
VOTERS = 16
"""Neighbours that decide about a Gaussian of which views say too little."""
HIDDEN = 0.3
"""Share of the selection's median visible weight below which a Gaussian hardly shows."""
SEAM, RING, NEAR = 0.06, 0.1, 0.25
"""Distances from the selection up to which a Gaussian may belong to it, from everything else up to which one of it may
not, and at which neighbours are as far off as those of another colour, in units of its longest side."""
MAX_ROUNDS = 10
"""Times that a seam is settled, while that still changes it."""
INNER = (0.02, 0.98)
"""Quantiles of centres between which a side is measured."""
OTHER_CHROMA = 0.05
"""Distance of chromaticities from which on two Gaussians are of different materials."""


def without_floaters(
    means: Float[Tensor, "n 3"], is_selected: Bool[Tensor, "n"], weights: Float[Tensor, "n"]
) -> Bool[Tensor, "n"]:
    """The selection without its small separate pieces.

    Args:
        means: Centres, world units.
        is_selected: The selection.
        weights: Visible weight of each Gaussian; a piece is small by its share of it.
    """
    rows = is_selected.nonzero()[:, 0]
    if len(rows) <= LINK_NEIGHBOR + 1:
        return is_selected
    pieces = _pieces(_places(means[rows]))
    shares = np.bincount(pieces, weights=weights[rows].detach().cpu().double().numpy())
    is_kept = torch.from_numpy(shares >= SMALL_PIECE * shares.sum())[torch.from_numpy(pieces)]
    kept = torch.zeros_like(is_selected)
    kept[rows] = is_kept.to(rows.device)
    return kept


def with_interior(
    means: Float[Tensor, "n 3"], is_selected: Bool[Tensor, "n"], is_seen: Bool[Tensor, "n"]
) -> Bool[Tensor, "n"]:
    """The selection and the Gaussians inside it that no view shows.

    An unseen Gaussian within the selection's bounds joins when most of its nearest seen neighbours are selected.

    Args:
        means: Centres, world units.
        is_selected: The selection, seen Gaussians only.
        is_seen: Visible in some view.
    """
    if not is_selected.any() or is_seen.all():
        return is_selected
    low, high = means[is_selected].amin(dim=0), means[is_selected].amax(dim=0)
    is_asked = ~is_seen & (means >= low).all(dim=1) & (means <= high).all(dim=1)
    seen = is_seen.nonzero()[:, 0]
    if not is_asked.any():
        return is_selected
    _, near = Neighbors(_places(means[seen])).nearest(_places(means[is_asked]), min(VOTERS, len(seen)))
    votes = is_selected[seen].cpu()[torch.from_numpy(near)].float().mean(dim=1)
    whole = is_selected.clone()
    whole[is_asked] = (votes > 0.5).to(whole.device)
    return whole


def with_seam_by_color(
    means: Float[Tensor, "n 3"], rgbs: Float[Tensor, "n 3"], is_selected: Bool[Tensor, "n"], weights: Float[Tensor, "n"]
) -> Bool[Tensor, "n"]:
    """The selection with its seam decided anew, by the nearest neighbours in place and colour.

    Masks are blurred where an object stands on something, and say nothing of what it hides: a trace leaves a rim of it
    behind and takes the ground beneath it along. Three kinds are asked again: selected Gaussians that hardly show, or
    that lie close to the rest, and others close to the selection. Those in between are sure, and vote. That is repeated
    until nothing changes.

    Args:
        means: Centres, world units.
        rgbs: Colours, [0, 1].
        is_selected: The selection.
        weights: Visible weight of each Gaussian.
    """
    for _ in range(MAX_ROUNDS):
        settled = _settled(means, rgbs, is_selected, weights)
        if torch.equal(settled, is_selected):
            break
        is_selected = settled
    return is_selected


def _settled(means: Tensor, rgbs: Tensor, is_selected: Tensor, weights: Tensor) -> Tensor:
    if not is_selected.any():
        return is_selected
    size = longest_side(means[is_selected])
    is_hidden = weights < HIDDEN * weights[is_selected].median()
    is_deep = grown(means, is_selected, -RING * size)
    is_asked = (is_selected & (is_hidden | ~is_deep)) | (grown(means, is_selected, SEAM * size) & ~is_selected)
    is_sure = ~is_asked & ~is_hidden
    if size == 0 or not is_asked.any() or not (is_sure & is_selected).any():
        return is_selected
    places = torch.cat([means / (NEAR * size), chroma_of(rgbs) / OTHER_CHROMA], dim=1)
    seen = is_sure.nonzero()[:, 0]
    _, near = Neighbors(_places(places[seen])).nearest(_places(places[is_asked]), min(VOTERS, len(seen)))
    votes = is_selected[seen].cpu()[torch.from_numpy(near)].float().mean(dim=1)
    settled = is_selected.clone()
    settled[is_asked] = (votes > 0.5).to(settled.device)
    return settled


def longest_side(means: Float[Tensor, "n 3"]) -> float:
    """Of the box around Gaussians that leaves out the outermost, world units.

    Args:
        means: Their centres, at least one.
    """
    low, high = means.quantile(torch.tensor(INNER, device=means.device), dim=0)
    return float((high - low).max())


def grown(means: Float[Tensor, "n 3"], is_selected: Bool[Tensor, "n"], distance: float) -> Bool[Tensor, "n"]:
    """The selection with everything that near to it, or without everything that near to the rest.

    Args:
        means: Centres, world units.
        is_selected: The selection.
        distance: World units; above 0 it grows, below 0 it shrinks.
    """
    if distance == 0 or is_selected.all() or not is_selected.any():
        return is_selected
    moving, still = (~is_selected, is_selected) if distance > 0 else (is_selected, ~is_selected)
    gaps, _ = Neighbors(_places(means[still])).nearest(_places(means[moving]), 1, limit=abs(distance))
    changed = is_selected.clone()
    is_near = torch.from_numpy(np.isfinite(gaps[:, 0])).to(is_selected.device)
    changed[moving] = is_near if distance > 0 else ~is_near
    return changed


def _places(means: Float[Tensor, "n d"]) -> Float[np.ndarray, "n d"]:
    return means.detach().cpu().double().numpy()


def _pieces(places: np.ndarray) -> np.ndarray:
    """(m) number of the connected piece of each place: cells of the link distance that touch belong together."""
    gaps, _ = Neighbors(places).nearest(places, LINK_NEIGHBOR + 1)
    link = LINK_FACTOR * np.quantile(gaps[:, -1], LINK_QUANTILE)
    cells = np.floor((places - places.min(axis=0)) / max(link, 1e-12)).astype(np.int64)
    kinds, inverse = np.unique(cells, axis=0, return_inverse=True)
    touching = Neighbors(kinds.astype(float)).pairs(1.8)  # 26 neighbours: at most sqrt(3) away
    graph = coo_array((np.ones(len(touching), bool), touching.T), shape=(len(kinds), len(kinds)))
    return connected_components(graph, directed=False)[1][inverse.reshape(-1)]
