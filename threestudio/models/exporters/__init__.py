"""Exporters: the base class."""
