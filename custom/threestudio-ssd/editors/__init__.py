"""Image editors: views in, edited views out; one method a file, each alone on a picture and in a scene."""

from .consistency import CONSISTENCIES, Consistency, register_consistency
from .distillation import Distillation
from .editor import EDITORS, EditorNetwork, EditorPrompts, ImageEditor, Views, register_editor
from .folder import Folder
from .instruct_pix2pix import InstructPix2Pix
from .inversion import Inversion
from .load import EditorKeys, build_editor, load_editor
from .loaded import LoadedEditor
from .pipeline import Pipeline
from .prompted import DenoisingEditor, PromptedBackbone
from .sdedit import SDEdit

EDITORS |= {
    "sdedit": SDEdit,
    "inversion": Inversion,
    "ip2p": InstructPix2Pix,
    "distillation": Distillation,
    "folder": Folder,
    "pipeline": Pipeline,
}
