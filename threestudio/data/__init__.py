"""Data modules are registered by plugins; each is a Lightning ``LightningDataModule`` built with its group of keys."""
