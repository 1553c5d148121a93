"""A folder: the views are written out, edited by whatever means elsewhere, and read in again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import save_transforms_json
from ..cameras.photographs import find_photograph
from ..diffusion import Counters
from ..early import named
from ..errors import ConfigError, InputError, SceneFormatError
from ..images import as_tensor, read_rgb, resized, save_image
from .editor import EditorNetwork, EditorPrompts, ImageEditor, Views

VIEWS, MASKS, EDITED, CAMERAS = "views", "masks", "edited", "transforms.json"
"""What the folder holds: the views and masks that were written, and the edited pictures that are read."""
ASPECT_TOLERANCE = 0.02
"""How far the ratio of width and height of an edited picture may be from that of its view, as a share."""
MOST_NAMES = 5
"""Names that a message lists, at most."""


class EditsAwaited(InputError):
    """The views were written, and somebody has to edit them: what stops a run that has nothing wrong with it."""


class EditsFolder(EditorNetwork):
    """No network: the folder, and the size that views are best written at.

    Args:
        folder: Where pictures go and come from.
        image_size: Shorter side in pixels.
        prompts: For whoever edits.
    """

    def __init__(self, folder: Path, image_size: int, prompts: EditorPrompts) -> None:
        self.folder, self.image_size, self.prompts, self.counters = folder, image_size, prompts, Counters()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The folder; there is no model."""
        return {"model": None, "revision": None, "folder": str(self.folder)}


@dataclass(frozen=True)
class Folder(ImageEditor):
    """Pictures edited elsewhere: by another program, a service, or a hand.

    The first run writes ``views/NAME.png``, what may change as white in ``masks/NAME.png``, and where the views are
    taken from as ``transforms.json`` (the format of nerfstudio), and stops. A run that finds ``edited/NAME.png``, or
    with another suffix of a picture, takes these: another size of the same aspect is resampled. The same pictures serve
    every round.
    """

    folder: str = ""
    """The folder, relative to where the run is started."""
    image_size: int = 512
    """Shorter side of the views, pixels, >= 1."""

    needs: ClassVar[frozenset[str]] = frozenset({"names"})
    has_network: ClassVar[bool] = False
    sees_all_views: ClassVar[bool] = True

    def check(self, key: str) -> None:
        """See ``ImageEditor``."""
        if not self.folder.strip():
            expected, fix = "a folder for the views and their edits", f"set {key}.folder=my-edit"
            raise ConfigError(what=f"{key}.folder is empty", expected=expected, fix=fix)
        if self.image_size < 1:
            fix = f"set {key}.image_size={Folder.image_size}"
            raise ConfigError(what=f"{key}.image_size is {self.image_size}", expected="at least 1", fix=fix)

    def load(self, keys: Any, device: torch.device, prompts: EditorPrompts, words: Sequence[str] = ()) -> EditsFolder:
        """See ``ImageEditor``; nothing is loaded, and the prompts are for whoever edits."""
        return EditsFolder(Path(named(self.folder)), self.image_size, prompts)

    def edit(self, network: EditsFolder, views: Views) -> Float[Tensor, "b 3 h w"]:
        """See ``ImageEditor``.

        Raises:
            EditsAwaited: If there are no edited pictures yet; the views have been written then.
            ConfigError: If some are missing.
            SceneFormatError: If one cannot be read, or has another aspect.
        """
        files, edited = file_names(views.names or ()), network.folder / EDITED
        paths = {file: find_photograph(f"{file}.png", [edited]) for file in files}
        missing = [file for file, path in paths.items() if path is None]
        if len(missing) == len(files):
            self._write(network.folder, views, files)
            raise EditsAwaited(
                what=f"{len(files)} views were written to {network.folder / VIEWS}",
                expected=f"edited pictures of the same names in {edited}",
                fix="edit them, put them there, and run the same command again",
            )
        if missing:
            what = f"{edited} lacks {len(missing)} of {len(files)} pictures: {_listed(missing)}"
            fix = f"add them, or empty {edited} to have the views written again"
            raise ConfigError(what=what, expected=f"one for each of the views in {network.folder / VIEWS}", fix=fix)
        images = {file: as_tensor(read_rgb(path, "an edited picture")) for file, path in paths.items() if path}
        height, width = views.images.shape[-2:]
        odd = [
            f"{file} is {image.shape[-1]}x{image.shape[-2]}"
            for file, image in images.items()
            if abs(image.shape[-1] * height / (image.shape[-2] * width) - 1) > ASPECT_TOLERANCE
        ]
        if odd:
            raise SceneFormatError(
                what=f"{edited} holds {len(odd)} pictures of another aspect than their views: {_listed(odd)}",
                expected=f"{width}x{height}, or another size of this aspect", fix="crop or edit them again",
            )  # fmt: skip
        return torch.cat([resized(images[file], (height, width)) for file in files]).to(views.images)

    def _write(self, folder: Path, views: Views, files: Sequence[str]) -> None:
        """The views, their masks and cameras."""
        for index, file in enumerate(files):
            save_image(folder / VIEWS / f"{file}.png", views.images[index].permute(1, 2, 0))
            if views.masks is not None:
                mask = views.masks[index].expand(3, -1, -1).permute(1, 2, 0)
                save_image(folder / MASKS / f"{file}.png", mask)
        if views.cameras is not None:
            save_transforms_json(folder / CAMERAS, views.cameras, [f"{VIEWS}/{file}.png" for file in files])


def file_names(names: Sequence[str]) -> list[str]:
    """Names of views as names of files in one folder, all different.

    Raises:
        ConfigError: If two views have one name.
    """
    files = [name.replace("\\", "/").strip("/").replace("/", "_") for name in names]
    if twice := next((file for file in files if files.count(file) > 1), None):
        fix = "rename their photographs, or make the views by orbits"
        raise ConfigError(what=f"two views are named {twice}", expected="a name for each view", fix=fix)
    return files


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
