"""The prompt processor: upstream's own ``configure`` embeds one prompt for every side; it is never reached here."""

import hashlib
from dataclasses import dataclass

from threestudio.utils.base import BaseObject


def hash_prompt(model, prompt):
    return hashlib.md5(f"{model}-{prompt}".encode()).hexdigest()


class PromptProcessor(BaseObject):
    @dataclass
    class Config(BaseObject.Config):
        prompt: str = "a hamburger"
        negative_prompt: str = ""
        pretrained_model_name_or_path: str = "runwayml/stable-diffusion-v1-5"
        overhead_threshold: float = 60.0
        front_threshold: float = 45.0
        back_threshold: float = 45.0
        view_dependent_prompt_front: bool = False
        use_cache: bool = True
        spawn: bool = True

    def configure(self):
        raise NotImplementedError
