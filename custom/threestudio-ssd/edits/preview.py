"""What an edit by a score will be: some views of the scene, each edited as a picture, before any Gaussian moves."""

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from torch import Tensor

import threestudio

from ..guidance import build_score
from ..images import resized
from ..rendering import coverage, render_bchw
from .image_edit import ImageBatchEdit, ImageEditConfig
from .scene_edit import STEPS_OF_A_WAY, SceneEdit, SceneEditConfig
from .strength import at_strength

STRENGTHS = (0.5, 1.0, 1.5)
"""Those that are shown where none are asked for."""
NUM_STEPS, LEAST_STEPS = 60, 12
"""Steps of each picture where time allows, and where it does not."""
WAY, LAST_SHARE = 4.0, 0.05
"""Learning rate of a picture times its steps, and what it falls to, as in configs/ssd-image.yaml."""
WARM_UP, TIMED = 1, 2
"""Steps that are made before it is known how long one takes, and those it is read off."""


def affordable(pace: float, views: int, steps: int, strengths: int, seconds: float) -> tuple[int, int]:
    """How many views and steps fit into a time: steps go down to ``LEAST_STEPS`` first, then views to one.

    Args:
        pace: Seconds of a step on one view.
        views: Wanted.
        steps: Wanted.
        strengths: How often all of it is done.
        seconds: That it may take.
    """
    room = seconds / (pace * strengths)
    steps = min(steps, max(LEAST_STEPS, int(room / views)))
    return max(1, min(views, int(room / steps))), steps


class ScorePreview:
    """The views of an edit that was opened, edited as pictures by its score.

    Args:
        job: The edit.
        keys: Its keys as the config has them, of ``SceneEditConfig``.
        count: Views, at most as many as there are.
    """

    def __init__(self, job: SceneEdit, keys: Any, count: int) -> None:
        self.job, self.keys = job, keys
        self._score = dict(keys.guidance.get("score", {}))
        self._untrained = copy.deepcopy(job.guidance.state_dict())
        cameras = job.views.train.to(job.device)
        self.rows = torch.linspace(0, len(cameras) - 1, min(count, len(cameras))).round().long().unique()
        cameras, (width, height) = cameras[self.rows.to(job.device)], job.views.size
        with torch.no_grad():
            renders = render_bchw(job.scene_before(), cameras, job.background).clamp(0, 1)
            covered = coverage(*job.selection_in_view(), cameras).clamp(0, 1)[:, None]
        self.images, self.masks = resized(renders, (height, width)), resized(covered, (height, width))
        self.names = [cameras.names[row] for row in range(len(cameras))]

    def __call__(
        self, strengths: Sequence[float], seconds: float
    ) -> Iterator[tuple[str, list[str], Float[Tensor, "b 3 h w"]]]:
        """The views before the edit, then edited at each strength.

        Args:
            strengths: Each in [0, 2].
            seconds: About how long all of it may take: with less time there are fewer steps, then fewer views.

        Yields:
            What to call it, the names of the views, and their images in [0, 1].
        """
        count, steps = affordable(self._pace(), len(self.names), NUM_STEPS, len(strengths), seconds)
        less = f" ({NUM_STEPS} are usual; run.seconds={seconds:g} leaves no time for more)" if steps < NUM_STEPS else ""
        listed = ", ".join(f"{strength:g}" for strength in strengths)
        threestudio.info(f"Views: {count}; strengths: {listed}; steps of each: {steps}{less}.")
        yield "before", self.names[:count], self.images[:count]
        begin = time.monotonic()
        for number, strength in enumerate(strengths, 1):
            edit = self._edit(strength, count, steps)
            edit.make_steps()
            spent = time.monotonic() - begin
            left = spent / number * (len(strengths) - number)
            threestudio.info(f"strength {strength:g}: done in {spent:.0f} s, {left:.0f} s to go")
            yield f"strength {strength:g}", self.names[:count], edit.result()

    def _edit(self, strength: float, count: int, steps: int) -> ImageBatchEdit:
        """The edit of some views as pictures, ready for its steps."""
        rates = [0, WAY / steps, LAST_SHARE * WAY / steps, steps]
        cfg = at_strength(OmegaConf.structured(ImageEditConfig(
            num_steps=steps, learning_rate=rates, strength=strength, guidance={"score": self._score},
        )))  # fmt: skip
        guidance = copy.copy(self.job.guidance)
        guidance.score = build_score(cfg.guidance.get("score", {}))
        guidance.load_state_dict(copy.deepcopy(self._untrained))
        seeds = [self.keys.seed + int(row) for row in self.rows[:count]]
        edit = ImageBatchEdit(self.images[:count], guidance, self.job.embeddings, cfg, seeds, self.masks[:count])
        edit.prepare()
        return edit

    def _pace(self) -> float:
        """Seconds of a step on one view."""
        edit, begin = self._edit(1.0, 1, NUM_STEPS), 0.0
        optimizers = edit.make_optimizers()
        for step in range(WARM_UP + TIMED):
            begin = time.monotonic() if step == WARM_UP else begin
            edit.step(step, optimizers)
        return (time.monotonic() - begin) / TIMED


def length_note(cfg: Any) -> str | None:
    """How a short run will differ from a long one, by what was measured (docs/colours.md); None for a long one.

    Args:
        cfg: Keys of ``SceneEditConfig``.
    """
    if cfg.color_way is None or cfg.colors != "bounded" or cfg.color_steps != "shared":
        if cfg.num_steps >= SceneEditConfig.num_steps:
            return None
        return (
            f"A run of {cfg.num_steps} steps: this config lacks what makes short runs look like long ones. On the toy "
            "ball, 100 steps without it came to 19.1 to 19.8 dB, with it to 32.6 to 33.4 (docs/colours.md)."
        )
    if cfg.num_steps >= STEPS_OF_A_WAY:
        return None
    share = (cfg.num_steps / STEPS_OF_A_WAY) ** 0.5
    return (
        f"A run of {cfg.num_steps} steps: colours go {share:.0%} as far as in {STEPS_OF_A_WAY} or more. On the toy "
        "ball, 100 steps came to 32.6 to 33.4 dB and 1,500 to 28.8 to 34.0; the sky of a new day was half done after "
        "200 (docs/colours.md)."
    )
