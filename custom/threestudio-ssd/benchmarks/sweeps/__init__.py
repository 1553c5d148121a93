"""Sweeps: one config, many settings of it; each trial in a process of its own, here or on a cluster."""
