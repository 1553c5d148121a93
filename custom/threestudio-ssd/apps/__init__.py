"""What ``launch.py --run NAME`` starts."""

from . import convert, make_tiny_models, tiny_quality, toy_edits

__all__ = ["convert", "make_tiny_models", "tiny_quality", "toy_edits"]
