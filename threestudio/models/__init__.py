"""Base classes of prompt processors and exporters."""
