"""Modules shared by systems, data and models."""
