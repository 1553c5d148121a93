"""A toy plugin: fits a row of numbers to a target, with noise, so that every random generator matters."""

from . import data, system  # noqa: F401
