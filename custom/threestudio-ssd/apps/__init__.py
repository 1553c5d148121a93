"""What ``launch.py --run NAME`` starts."""

from . import make_tiny_models, tiny_quality, toy_edits

__all__ = ["make_tiny_models", "tiny_quality", "toy_edits"]
