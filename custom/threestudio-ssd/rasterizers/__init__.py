"""Rendering of 3D Gaussians: one signature (gsplat's), two implementations (gsplat on CUDA, numba on the CPU)."""

from .interface import rasterization

__all__ = ["rasterization"]
