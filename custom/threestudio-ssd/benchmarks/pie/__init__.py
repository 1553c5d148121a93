"""PIE-Bench: its folder, its figures, and the run that edits and measures every image."""
