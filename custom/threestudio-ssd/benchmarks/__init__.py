"""Comparisons of whole runs with known outcomes."""
