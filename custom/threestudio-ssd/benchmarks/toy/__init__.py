"""The toy benchmark: edits whose truth is known."""
