"""Editors with a source branch: an inversion and a control, one file each, and the editors that combine them."""

from .control import Control
from .editor import CONTROLS, INVERSIONS, TwoBranches
from .network import BranchedBackbone
from .picture_inversion import PictureInversion
from .rows_of_table import (
    DDIMMasaCtrl,
    DDIMPlugAndPlay,
    DDIMPromptToPrompt,
    DirectMasaCtrl,
    DirectPlugAndPlay,
    DirectPromptToPrompt,
    NullTextPromptToPrompt,
    StyleDiffusionPromptToPrompt,
)
