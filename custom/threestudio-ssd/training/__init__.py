"""The embedded models of the toy world: one training loop, one held-out rule, one file a model."""

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[3] / "data"
"""Folder of the models that the repository ships."""
