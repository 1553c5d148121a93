"""The data modules: a step needs no batch, since what it shows follows from its number."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from torch.utils.data import DataLoader, IterableDataset

import threestudio

from ..host import parse_structured
from .keys import GSViewsConfig, PhotosConfig, SingleImageConfig
from .photos import PhotoCapture
from .scene_views import ViewPlan


class Steps(IterableDataset):
    """One empty item a step; what a step shows follows from the step itself, so that resuming is exact."""

    def __iter__(self) -> Iterator[dict]:
        while True:
            yield {}


class StepData(pl.LightningDataModule):
    """Endless empty batches for training, one for each of the other stages, which look at everything in one step."""

    Config: type

    def __init__(self, cfg: dict | DictConfig | None = None) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Steps(), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        once: Any = [{}]
        return DataLoader(once, batch_size=None)

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader


@threestudio.register("gs-views")
class GSViews(StepData):
    """The views of a splat scene; which ones there are says its ``plan``."""

    Config = GSViewsConfig

    def __init__(self, cfg: dict | DictConfig | None = None) -> None:
        super().__init__(cfg)
        self.plan = ViewPlan(self.cfg)


@threestudio.register("gs-photos")
class PhotosData(StepData):
    """The photographs of a capture; they are in its ``capture``."""

    Config = PhotosConfig

    def __init__(self, cfg: dict | DictConfig | None = None) -> None:
        super().__init__(cfg)
        self.capture = PhotoCapture(self.cfg)


@threestudio.register("ssd-picture")
class SingleImage(StepData):
    """One image; it is read by ``load_image``."""

    Config = SingleImageConfig
