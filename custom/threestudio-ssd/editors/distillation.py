"""Score distillation on the image: any score's steps on its latents, or on its pixels."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from torch import Tensor

from ..diffusion import ModelKeys, PromptEmbeds, backbone_of
from ..edits.image_edit import ImageBatchEdit, ImageEditConfig
from ..errors import ConfigError, check_values
from ..guidance import EditGuidance, build_score
from ..guidance.prompts import NEGATIVE_PROMPT
from ..host import parse_structured
from ..seeds import Stream, generator
from .editor import EditorPrompts, ImageEditor, Views
from .prompted import PromptedBackbone


class Guided(PromptedBackbone):
    """A backbone with its prompts embedded, and the guidance that scores with it."""

    guidance: EditGuidance

    def embeddings(self, views: Views) -> dict[str, PromptEmbeds]:
        """Those that the score reads, by name."""
        rows = {"src": self.source, "tgt": self.target, "neg": lambda _: self.null, "null": lambda _: self.empty}
        return {name: rows[name](views) for name in self.guidance.prompt_names}


@dataclass(frozen=True)
class Distillation(ImageEditor):
    """Steps of any score, as ``configs/ssd-image.yaml`` makes them, from the images as they are.

    The source is the view before any edit. An edit of strength s makes its share of the steps; the timesteps go through
    their whole schedule in them. Outside the masks the score is dropped at every step. Views of one batch come out as
    each would alone, but for the scores vsd and piva: there they share the LoRA that these train.
    """

    score: str = "ssd-small"
    """Name of a score or preset."""
    guidance: dict = field(default_factory=dict)
    """More keys of the guidance, as below ``system.guidance``; below ``score``, fields of the score."""
    num_steps: int = 200
    """Steps at strength 1, >= 1."""
    learning_rate: float = 0.02
    """Of the first step, > 0; it falls linearly to ``last_rate`` of it."""
    last_rate: float = 0.05
    """Share of the learning rate that the last step has, in [0, 1]; 1 for a constant one."""
    parametrisation: Literal["latent", "pixel"] = "latent"
    """What is optimised: the latents, or the pixels through the encoder."""
    latent_steps: Literal["sgd", "adam"] = "sgd"
    """How latents move: by the score itself, as published, or whatever its size is."""
    lambda_detail: float = 10.0
    """Weight of changes finer than a latent cell, for pixels, >= 0."""

    @property
    def reads_instruction(self) -> bool:
        """Whether the score is one for InstructPix2Pix."""
        return any(branch.image == "src" for branch in build_score(self._score).branches)

    @property
    def _score(self) -> dict[str, Any]:
        return {**self.guidance.get("score", {}), "name": self.score}

    def check(self, key: str) -> None:
        """See ``ImageEditor``."""
        rules = {
            "num_steps": (self.num_steps >= 1, "at least 1"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "last_rate": (0 <= self.last_rate <= 1, "from 0 to 1"),
            "lambda_detail": (self.lambda_detail >= 0, "at least 0"),
        }
        check_values(key, self, Distillation(), rules)
        options = self.guidance.get("score", {})
        if not isinstance(options, Mapping) or "name" in options:
            expected, fix = f"fields of the score {self.score}", f"name the score with {key}.score=NAME"
            raise ConfigError(what=f"{key}.guidance.score is {options}", expected=expected, fix=fix)
        build_score(self._score, f"{key}.guidance.score")
        if other := next((name for name in self.guidance if name in ModelKeys.__dataclass_fields__), None):
            fix = f"set it beside {key}"
            raise ConfigError(what=f"{key}.guidance.{other} is a key of the model", expected="keys of scores", fix=fix)
        self._keys(key)

    def _keys(self, key: str = "system.editing.editor") -> Any:
        """The keys of the guidance, which messages name in full."""
        tree = OmegaConf.create()
        OmegaConf.update(tree, f"{key}.guidance", {**self.guidance, "score": self._score})
        return parse_structured(EditGuidance.Config, OmegaConf.select(tree, f"{key}.guidance"))

    def load(self, keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str] = ()) -> Guided:
        """See ``ImageEditor``."""
        if "neg" in {branch.prompt for branch in build_score(self._score).branches}:
            prompts = prompts._replace(negative=prompts.negative or NEGATIVE_PROMPT)
        backbone = backbone_of(keys, device)
        guidance = EditGuidance(self._keys(), backbone=backbone)
        network = Guided(backbone, prompts, words)
        network.guidance = guidance
        return network

    def edit(self, network: Guided, views: Views) -> Float[Tensor, "b 3 h w"]:
        """See ``ImageEditor``."""
        num_steps = max(1, round(self.num_steps * views.strength))
        last = self.learning_rate * self.last_rate
        cfg = ImageEditConfig(
            num_steps=num_steps, parametrisation=self.parametrisation, latent_steps=self.latent_steps,
            learning_rate=[0, self.learning_rate, last, num_steps], lambda_detail=self.lambda_detail,
        )  # fmt: skip
        start = views.images if views.masks is None else views.surroundings.lerp(views.images, views.masks)
        untrained = copy.deepcopy(network.guidance.state_dict())
        with torch.enable_grad():
            edit = ImageBatchEdit(
                views.sources, network.guidance, network.embeddings(views), cfg, draw_seeds(views), views.masks, start
            )
            edit.prepare()
            edit.make_steps()
        network.guidance.load_state_dict(untrained)
        return edit.result()


def draw_seeds(views: Views) -> list[int]:
    """One for each view and round; a run's steps count on from each."""
    draws = [generator(seed, views.round, Stream.EDITOR) for seed in views.seeds]
    return [int(torch.randint(2**31, (), generator=each)) for each in draws]
