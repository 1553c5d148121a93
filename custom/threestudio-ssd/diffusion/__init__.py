"""Diffusion backbones: one interface for every latent diffusion model the project can use."""

from .adapter import TrainableLora
from .backbone import Backbone, Counters, load_backbone
from .features import AttentionTaps
from .freeu import FreeU
from .keys import ModelKeys, backbone_of
from .noise import NoiseLevels
from .prompts import PromptEmbeds
from .random import random_backbone
