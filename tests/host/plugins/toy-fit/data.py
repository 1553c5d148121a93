"""Batches that depend on the step only."""

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

import threestudio
from threestudio.utils.base import Updateable
from threestudio.utils.config import parse_structured


class Targets(IterableDataset, Updateable):
    """Endless; what a step trains on is derived in the system from the step."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen_steps: list[int] = []

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        self.seen_steps.append(global_step)

    def __iter__(self):
        while True:
            yield torch.linspace(0.0, 1.0, self.size)


@threestudio.register("toy-targets")
class ToyTargets(pl.LightningDataModule):
    @dataclass
    class Config:
        size: int = 8
        num_test: int = 3

    def __init__(self, cfg=None) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Targets(self.cfg.size), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([torch.zeros(self.cfg.size)], batch_size=None)

    def test_dataloader(self) -> DataLoader:
        return DataLoader([torch.full((self.cfg.size,), float(i)) for i in range(self.cfg.num_test)], batch_size=None)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader([torch.zeros(1)], batch_size=None)
