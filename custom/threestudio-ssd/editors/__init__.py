"""Image editors: views in, edited views out; one method a file, each alone on a picture and in a scene."""

from .branches import (
    CONTROLS,
    INVERSIONS,
    BranchedBackbone,
    DDIMMasaCtrl,
    DDIMPlugAndPlay,
    DDIMPromptToPrompt,
    DirectMasaCtrl,
    DirectPlugAndPlay,
    DirectPromptToPrompt,
    NullTextPromptToPrompt,
    StyleDiffusionPromptToPrompt,
    TwoBranches,
)
from .consistency import CONSISTENCIES, Consistency, register_consistency
from .distillation import Distillation
from .editor import EDITORS, EditorNetwork, EditorPrompts, ImageEditor, Views, register_editor
from .folder import Folder
from .instruct_pix2pix import InstructPix2Pix, InstructPix2PixSmall, InstructPix2PixUnguided
from .inversion import Inversion
from .load import EditorKeys, build_editor, load_editor
from .loaded import LoadedEditor
from .pipeline import Pipeline
from .prompted import DenoisingEditor, PromptedBackbone, with_words
from .sdedit import SDEdit

EDITORS |= {
    "sdedit": SDEdit,
    "inversion": Inversion,
    "ip2p": InstructPix2Pix,
    "ip2p-small": InstructPix2PixSmall,
    "ip2p-unguided": InstructPix2PixUnguided,
    "distillation": Distillation,
    "folder": Folder,
    "pipeline": Pipeline,
    "ddim-p2p": DDIMPromptToPrompt,
    "ddim-pnp": DDIMPlugAndPlay,
    "ddim-masactrl": DDIMMasaCtrl,
    "null-text-p2p": NullTextPromptToPrompt,
    "style-p2p": StyleDiffusionPromptToPrompt,
    "direct-p2p": DirectPromptToPrompt,
    "direct-pnp": DirectPlugAndPlay,
    "direct-masactrl": DirectMasaCtrl,
}
