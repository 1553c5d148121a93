"""The training views of a scene as an image editor gets them and gives them back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..cameras import Cameras
from ..cameras.rays import ObjectFrame
from ..editors import EditorPrompts, LoadedEditor, Views
from ..masks.region import Region
from ..rendering import render, render_depths
from ..scenes import Scene
from .snap import changed_shares

OPAQUE = 0.5
"""Alpha from which on a pixel has a depth."""


@dataclass(frozen=True, eq=False)
class ViewEditing:
    """Edits views of a scene: inside a region, where elsewhere they show the scene without its object, or as a whole.

    Attributes:
        editor: What edits images.
        cameras: The views, of one size.
        region: Where the new object may be; None: nothing is replaced, and views are edited as a whole.
        source: The scene before the edit.
        empty: The scene without what is replaced.
        background: Behind the scenes, RGB in [0, 1].
        snap: What of an edit counts, ``SnapConfig``.
        seeds: One for each view.
        words: What is added to the prompt of each view; None: nothing.
        source_words: The same where an edit leaves the old object as it is.
        frame: Of the new object; None: nothing is replaced.
    """

    editor: LoadedEditor
    cameras: Cameras
    region: Region | None
    source: Scene
    empty: Scene
    background: Float[Tensor, "3"]
    snap: Any
    seeds: Sequence[int]
    words: Sequence[str] | None = None
    source_words: Sequence[str] | None = None
    frame: ObjectFrame | None = None

    @cached_property
    def sources(self) -> Float[Tensor, "c 3 h w"]:
        """Every view before the edit."""
        return self.renders(self.source)

    @cached_property
    def kept(self) -> Float[Tensor, "c 3 h w"]:
        """Every view of the empty scene."""
        return self.renders(self.empty)

    @cached_property
    @torch.no_grad()
    def masks(self) -> Float[Tensor, "c 1 h w"]:
        """1 where a view shows the region and nothing stands in front of all of it."""
        assert self.region is not None
        corners = self.region.corners()
        masks = self.region.masks(self.cameras)
        for row, viewmat in enumerate(self.cameras.viewmats.to(corners)):
            nearest = (corners @ viewmat[2, :3] + viewmat[2, 3]).min()
            depths, alphas = self._depths(self.empty, row)
            masks[row, 0] *= (depths >= nearest) | (alphas < OPAQUE)
        return masks

    @torch.no_grad()
    def renders(self, gaussians: Scene, rows: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b 3 h w"]:
        """Views of a scene in [0, 1]; all of them, or some."""
        places = range(len(self.cameras)) if rows is None else rows.tolist()
        images = [render(gaussians, self.cameras[place], self.background)[0][0].clamp(0, 1) for place in places]
        return torch.stack(images).permute(0, 3, 1, 2)

    def edit(
        self,
        current: Scene | None,
        rows: Int[Tensor, "b"],
        strength: float,
        number: int,
        *,
        prompts: EditorPrompts | None = None,
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"]]:
        """Edit some views and put back what is not the new object.

        Args:
            current: The scene that the views are edited from; None: as it was before the edit.
            rows: Which views.
            strength: See ``Views``.
            number: Which edit of these views it is, from 0.
            prompts: Of an edit that leaves the old object as it is, which the editor was loaded with as well; the views
                then have the words of the old object.

        Returns:
            The edited views, and how far each of their pixels belongs to the new object.
        """
        editor, words = self.editor, self.words
        if prompts is not None:
            editor, words = replace(editor, network=editor.network.asked(prompts)), self.source_words
        needs, is_whole = editor.needs, self.region is None
        kept = None if is_whole else self.kept[rows]
        images = self.sources[rows] if current is None else self.renders(current, rows)
        seen = self.source if current is None else current
        depths = torch.stack([self._depths(seen, row)[0] for row in rows.tolist()]) if "depths" in needs else None
        views = Views(
            images=images, sources=self.sources[rows], seeds=[self.seeds[row] for row in rows.tolist()],
            strength=strength, round=number, masks=None if is_whole else self.masks[rows], kept=kept,
            cameras=self.cameras[rows], frame=self.frame,
            depths=None if depths is None else depths[:, None], names=[self.cameras.names[r] for r in rows.tolist()],
            words=None if words is None else [words[int(row)] for row in rows.tolist()],
        )  # fmt: skip
        edited = editor(views)
        if kept is None or views.masks is None:
            return edited, torch.ones_like(edited[:, :1])
        snap, shares = self.snap, editor.covered(views)
        if shares is None:
            shares = changed_shares(edited, kept, sure=snap.sure, soft=snap.soft, weak=snap.weak)
        shares = shares * self.masks[rows]
        return kept.lerp(edited, shares), shares

    def _depths(self, gaussians: Scene, row: int) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
        """Depth along the viewing axis, world units, and alpha."""
        depths, alphas = render_depths(gaussians, self.cameras[row])
        return depths[0], alphas[0]
