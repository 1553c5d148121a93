"""Prompt processors: the base class."""
