"""Stable score distillation for 3D Gaussian splatting: registers its data, systems, guidance, prompts and apps."""

from . import apps, data, guidance, systems

__all__ = ["apps", "data", "guidance", "systems"]
