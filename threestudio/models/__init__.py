"""Base classes of guidance, prompt processors and exporters."""
