"""Prompt-to-Prompt: the target branch sees its words where the source branch sees the words they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from ...diffusion.attention import Layer
from ...diffusion.words import PromptWords
from ...errors import ConfigError, check_values
from .alignment import Alignment, refined, replaced
from .control import Control, Controlling
from .maps import AttentionMaps
from .network import BranchedBackbone
from .setting import Rows, Setting


@dataclass(frozen=True)
class PromptToPrompt(Control):
    """Cross-attention control (Hertz et al. 2022, arXiv:2208.01626), with the constants of PIE-Bench's baselines.

    For the first steps a target token that stands for a source token has the source's attention map, and the maps of
    self-attention are the source's. The blended words are those that the edit is about: the target's is weighed up,
    and outside the places where either is seen the source's latents are put back (section 3.2, local blend).
    """

    guides_source: ClassVar[bool] = True

    mapping: Literal["refine", "replace"] = "refine"
    """refine: words of both prompts keep their maps, new ones have their own; replace: each word takes the map of the
    word in its place, for prompts of as many words."""
    cross_steps: float = 0.4
    """Share of the steps in which cross-attention is the source's, in [0, 1]."""
    self_steps: float = 0.6
    """tau_s: the same of self-attention."""
    null_self_steps: float = 0.0
    """tau_u: the same of self-attention under the null prompt; needs a source branch with guidance of its own."""
    self_cells: int = 32
    """Self-attention maps of a longer side than this are left alone, cells."""
    blended: str = ""
    """A word of the source prompt and one of the target prompt, for prompts that come without; empty: none."""
    reweight: float = 2.0
    """What the target's blended word is weighed by while its cross-attention is controlled, >= 0; 1 for nothing."""
    has_blend: bool = True
    """Whether there is a local blend where there are blended words."""
    blend_from: float = 0.2
    """Share of the steps after which the blend begins, in [0, 1]."""
    blend_threshold: float = 0.3
    """Of the largest value of a blended word's map: less is outside, in [0, 1]."""
    blend_cells: int = 16
    """The maps are those of the level whose longer side is nearest to so many cells, >= 1."""

    def check(self, key: str) -> None:
        """See ``Control``."""
        shares = ("cross_steps", "self_steps", "null_self_steps", "blend_from", "blend_threshold")
        rules = {name: (0 <= getattr(self, name) <= 1, "from 0 to 1") for name in shares}
        rules["blended"] = (len(self.blended.split()) in (0, 2), "two words, or none")
        rules |= {name: (getattr(self, name) >= 1, "at least 1") for name in ("self_cells", "blend_cells")}
        check_values(key, self, PromptToPrompt(), rules | {"reweight": (self.reweight >= 0, "at least 0")})

    def check_prompts(self, network: BranchedBackbone) -> None:
        """See ``Control``; words of the field ``blended`` have to stand in the prompts."""
        for prompts in network.prompts.all:
            sides = network.words_in(prompts.source, prompts.target)
            self.align(*sides)
            for word, side, text in zip(self.blended.split(), sides, prompts, strict=False):
                if not prompts.blended and not side.columns_of(word):
                    key = "system.editing.editor.control.blended"
                    raise ConfigError(
                        what=f'{key} is "{self.blended}", and "{text}" has no word {word}',
                        expected="a word of the source prompt, then one of the target prompt", fix=f"correct {key}",
                    )  # fmt: skip

    def begin(self, setting: Setting, rows: Rows) -> "ByPrompt":
        """See ``Control``."""
        return ByPrompt(self, setting, rows)

    def align(self, source: PromptWords, target: PromptWords) -> Alignment:
        """As ``mapping`` says.

        Raises:
            ConfigError: If words are to be replaced, and there are not as many.
        """
        if self.mapping == "refine":
            return refined(source, target)
        if len(source.words) != len(target.words):
            raise ConfigError(
                what=f"system.editing.editor.control.mapping is replace, and the prompts have {len(source.words)} and "
                f"{len(target.words)} words",
                expected="as many", fix="set system.editing.editor.control.mapping=refine",
            )  # fmt: skip
        return replaced(source, target)


class ByPrompt(Controlling):
    """Prompt-to-Prompt during one edit."""

    def __init__(self, constants: PromptToPrompt, setting: Setting, rows: Rows) -> None:
        super().__init__(setting, rows)
        self.constants, self.maps = constants, AttentionMaps()
        words = setting.network.words_of(setting.views)
        self.alignments = [constants.align(*pair) for pair in words]
        asked = [each.blended or constants.blended for each in setting.network.prompts_of(setting.views)]
        pairs = [each.split()[:2] if len(each.split()) >= 2 else ["", ""] for each in asked]
        self.columns = [
            [side.columns_of(word) for side, word in zip(sides, pair, strict=True)]
            for sides, pair in zip(words, pairs, strict=True)
        ]

    def mix(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See ``Controlling``."""
        rows, constants = self.rows, self.constants
        if not layer.is_cross:
            order = rows.order(**self._replaced_self(layer))
            return layer.mix(q[order], k[order], v)
        weights = layer.weights(q, k)
        if self.step < self.setting.steps_of(constants.cross_steps):
            weights[rows.target] = self.controlled(weights[rows.source], weights[rows.target])
        self.maps.keep(layer, weights[[rows.source, rows.target]].mean(2))
        return weights.to(v) @ v

    def _replaced_self(self, layer: Layer) -> dict[str, int]:
        """The states whose self-attention is that of the source, and where that is."""
        if max(layer.size) > self.constants.self_cells:
            return {}
        places = {
            "target": (self.rows.source, self.constants.self_steps),
            "target_null": (self.rows.source_null, self.constants.null_self_steps),
        }
        return {state: place for state, (place, share) in places.items() if self.step < self.setting.steps_of(share)}

    def controlled(
        self, source: Float[Tensor, "b heads n l"], target: Float[Tensor, "b heads n l"]
    ) -> Float[Tensor, "b heads n l"]:
        """The target's maps with the source's carried over and the blended word weighed."""
        carried = []
        for alignment, (_, columns), old, new in zip(self.alignments, self.columns, source, target, strict=True):
            weights = alignment.carried(old, new)
            weights[..., columns] *= self.constants.reweight
            carried.append(weights)
        return torch.stack(carried)

    def blended(self, source: Tensor, target: Tensor) -> Tensor:
        """See ``Controlling``; the maps are those of all steps so far."""
        constants = self.constants
        if not constants.has_blend or self.step < self.setting.steps_of(constants.blend_from):
            return target
        return torch.where(self.seen(source.shape[-2:]), target, source)

    def seen(self, size: Sequence[int]) -> Bool[Tensor, "b 1 zh zw"]:
        """Where either of a view's blended words is seen; everywhere in a view without any.

        Args:
            size: Height and width of the latents.
        """
        cells = self.constants.blend_cells
        maps = torch.stack(self.maps.nearest(cells)).mean(0).unflatten(2, self.maps.size_nearest(cells))
        inside = []
        for columns, of_view in zip(self.columns, maps.unbind(1), strict=True):
            is_seen = torch.zeros((1, *size), dtype=torch.bool, device=maps.device)
            for places, branch in zip(columns, of_view, strict=True):
                heat = max_pool2d(branch[..., places].sum(-1)[None, None], 3, 1, 1)
                heat = interpolate(heat, list(size))[0]
                is_seen |= heat > self.constants.blend_threshold * heat.max()
            inside.append(is_seen if all(columns) else torch.ones_like(is_seen))
        return torch.stack(inside)
