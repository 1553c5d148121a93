"""The base of every prompt processor: texts turned into what a guidance takes, before the loop."""

import hashlib
from typing import Any

from threestudio.utils.base import BaseObject


def hash_prompt(model: str, prompt: str) -> str:
    """A file name for the embedding of a prompt by a model, as upstream threestudio names its cache."""
    return hashlib.md5(f"{model}-{prompt}".encode(), usedforsecurity=False).hexdigest()


class PromptProcessor(BaseObject):
    """Encodes prompts once: a subclass does so in ``configure``, frees the encoder, and hands them out when called."""

    def __call__(self) -> Any:
        """The encoded prompts, as the guidance takes them."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its prompts are")
