"""Guidance: the base class."""
