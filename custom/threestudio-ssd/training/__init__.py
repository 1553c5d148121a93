"""The embedded models of the toy world: one training loop, one held-out rule, one file a model."""
