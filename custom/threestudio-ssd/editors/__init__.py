"""Image editors: views in, edited views out; one method a file, each alone on a picture and in a scene."""

from .editor import EDITORS, EditorNetwork, EditorPrompts, ImageEditor, LoadedEditor, Views, register_editor
from .load import EditorKeys, build_editor, load_editor
from .prompted import PromptedBackbone
from .sdedit import SDEdit

EDITORS |= {"sdedit": SDEdit}
