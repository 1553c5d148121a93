"""The commands that train the embedded diffusion models: ``--run make-tiny-models``, ``-ip2p``, ``-lcm``, ..."""

from dataclasses import dataclass

import threestudio
from threestudio.utils.base import Configurable

from ..errors import check_least


@threestudio.register("app-make-tiny-models")
class MakeTinyModels(Configurable):
    """Train every embedded model but the InstructPix2Pix again; goes on where it was interrupted."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the training."""

        work: str = "outputs/tiny-models"
        """Folder of data and checkpoints."""
        out: str = "data/tiny-ldm"
        """Where the finished model goes."""
        start: str = "data/tiny-ldm"
        """Model whose autoencoder is kept and whose U-Net and text encoder are trained on; empty: random weights."""
        photos: str = "data/banana/images"
        """Photographs whose pieces the autoencoder also sees."""
        num_shards: int = 18
        """Shards of renders; scenes whose seed is divisible by 20 are held out."""
        scenes_a_shard: int = 1000
        """Scenes in each, three renders a scene."""
        vae_steps: int = 5200
        """Steps of the autoencoder; none if the training starts from a model."""
        unet_steps: int = 0
        """Steps of the U-Net; 0: its recipe's."""
        unet_batch: int = 16
        """Samples a step and process of the U-Net."""
        decoder_steps: int = 1100
        """Steps of the decoder alone, after them; none if the training starts from a model."""
        num_processes: int = 2
        """Single-threaded processes that average their gradients."""
        judges: bool = True
        """Also train the small models that judge and mask: classifier, CLIP, segmenter."""
        judge_steps: int = 0
        """Steps of each of these; 0: its recipe's."""

    def __call__(self, experiment: object) -> int:
        """Run the steps that are not done yet."""
        from ..training.make import make_models

        cfg = self.cfg
        least = {"num_shards": 1, "scenes_a_shard": 1, "unet_steps": 0, "unet_batch": 1, "num_processes": 1}
        check_least("run", cfg, self.Config, least)
        make_models(cfg)
        return 0


@threestudio.register("app-make-tiny-ip2p")
class MakeTinyIp2p(Configurable):
    """Train the embedded InstructPix2Pix on toy pairs with instructions; goes on where it was interrupted."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the training."""

        base: str = "data/tiny-ldm"
        """Model that is fine-tuned; data/tiny-ip2p is trained on."""
        work: str = "outputs/tiny-models"
        """Folder of pairs and checkpoints."""
        out: str = "data/tiny-ip2p"
        """Where the finished model goes."""
        num_shards: int = 20
        """Shards of pairs; scenes whose seed is divisible by 20 are held out."""
        scenes_a_shard: int = 1000
        """Scenes in each, three pairs a scene."""
        steps: int = 0
        """Training steps; 0: the recipe's."""
        field_steps: int = 0
        """Those of the light field alone, which come before; 0: the recipe's if it is new, none if it is trained on."""
        new_field: bool = False
        """Whether the light field of a model that is trained on begins anew."""
        batch: int = 16
        """Pairs a step and process."""
        seed: int = 0
        """Of every batch, 0: the recipe's; a model that is trained on needs another, else it meets the same batches."""
        num_processes: int = 2
        """Single-threaded processes that average their gradients."""

    def __call__(self, experiment: object) -> int:
        """Render, train, save."""
        from ..training.make import make_ip2p

        least = {
            "num_shards": 1,
            "scenes_a_shard": 1,
            "steps": 0,
            "field_steps": 0,
            "batch": 1,
            "seed": 0,
            "num_processes": 1,
        }
        check_least("run", self.cfg, self.Config, least)
        make_ip2p(self.cfg)
        return 0


@threestudio.register("app-make-tiny-lcm")
class MakeTinyLcm(Configurable):
    """Distil the embedded model into one of few steps, a LoRA; goes on where it was interrupted."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the training."""

        base: str = "data/tiny-ldm"
        """Model that is distilled, and that the LoRA is for."""
        work: str = "outputs/tiny-models"
        """Folder of renders and checkpoints."""
        out: str = "data/tiny-lcm"
        """Where the LoRA goes."""
        num_shards: int = 18
        """Shards of renders, as of make-tiny-models."""
        scenes_a_shard: int = 1000
        """Scenes in each, three renders a scene."""
        num_rounds: int = 24
        """Of 640 points on paths that the teacher solves; those divisible by 20 are held out."""
        steps: int = 0
        """Training steps; 0: the recipe's."""
        batch: int = 32
        """Samples a step and process."""
        num_processes: int = 2
        """Single-threaded processes that average their gradients."""

    def __call__(self, experiment: object) -> int:
        """Render, distil, save."""
        from ..training.make import make_lcm

        least = {
            "num_shards": 1, "scenes_a_shard": 1, "num_rounds": 2, "steps": 0, "batch": 1, "num_processes": 1,
        }  # fmt: skip
        check_least("run", self.cfg, self.Config, least)
        make_lcm(self.cfg)
        return 0


@threestudio.register("app-make-tiny-views")
class MakeTinyViews(Configurable):
    """Train the adapter through which the embedded model draws views together; goes on where it was interrupted."""

    needs_config = False

    @dataclass
    class Config:
        """Keys of the training."""

        base: str = "data/tiny-ldm"
        """Model that the adapter is for; its weights stay as they are."""
        start: str = ""
        """File of an adapter that is trained on; empty: a new one."""
        work: str = "outputs/tiny-models"
        """Folder of renders and checkpoints."""
        out: str = "data/tiny-views"
        """Where the adapter goes."""
        num_shards: int = 10
        """Shards of renders; scenes whose seed is divisible by 20 are held out."""
        scenes_a_shard: int = 500
        """Scenes in each, sixteen renders a scene."""
        steps: int = 0
        """Training steps; 0: the recipe's."""
        batch: int = 16
        """Renders a step and process, of one scene or of several."""
        num_processes: int = 2
        """Single-threaded processes that average their gradients."""

    def __call__(self, experiment: object) -> int:
        """Render, train, save."""
        from ..training.make import make_views

        least = {"num_shards": 1, "scenes_a_shard": 1, "steps": 0, "batch": 1, "num_processes": 1}
        check_least("run", self.cfg, self.Config, least)
        make_views(self.cfg)
        return 0
