"""What ``launch.py --run NAME`` starts."""

from . import make_tiny_models, toy_edits

__all__ = ["make_tiny_models", "toy_edits"]
