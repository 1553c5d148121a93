"""Random numbers by name: every use has a stream of its own, and no two streams share a number.

A run has one seed. What is drawn at a step is a pure function of (seed, step, stream), so that a resumed run draws what
the uninterrupted one would have, on any device, and so that growth, views and noise never draw the same numbers.
"""

import hashlib
from enum import StrEnum

import torch


class Stream(StrEnum):
    """What random numbers are for; the words are part of the seed, so a renamed stream draws other numbers."""

    DIFFUSION = "diffusion"
    """Timestep and noise of a score."""
    CONTRAST = "contrast"
    """Places of the contrastive term."""
    LORA = "lora"
    """Timesteps and noise of the training of a LoRA beside the edit."""
    SCORE = "score"
    """Whatever a score draws by itself."""
    GROWTH = "growth"
    """Where the halves of split Gaussians lie."""
    VIEW_ORDER = "view-order"
    """Which training views a step shows."""
    VIEW_POOL = "view-pool"
    """Which training views there are."""
    START = "start"
    """Gaussians that a scene or an object starts from."""
    INPAINTING = "inpainting"
    """Noise of an inpainter."""
    SWEEP = "sweep"
    """Values that a sweep draws, by key and trial."""
    RAYS = "rays"
    """Rays that a step of fitting a radiance field shows."""
    EDITOR = "editor"
    """Noise of an image editor, by view and round."""


def generator(seed: int, step: int, stream: Stream | str) -> torch.Generator:
    """A generator on the CPU for one use at one step.

    Args:
        seed: Of the run.
        step: Step of the run, or 0 for what is drawn once.
        stream: What for; a plugin's own score or system names a stream of its own.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{stream}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") % 2**63)
