"""Registered systems, one thin file each: what is edited by which objective, and what is reported of it."""
