"""Comparisons of methods: PIE-Bench, the rasteriser's times, tables and grids, and what a kept result was made with."""
