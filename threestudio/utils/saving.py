"""Writing results: every file is written under a temporary name and renamed, so none is ever half there."""

import errno
import json
import math
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from threestudio.errors import StorageError, storage_cause
from threestudio.utils.images import picture_grid, rgb_picture, to_numpy
from threestudio.utils.resolvers import without_environment

FRAMES_PER_SECOND = 30


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, with its suffix, on whose disk it is before it becomes ``path``.

    It is renamed when the block ends well, removed otherwise. So ``path`` is what it was or what it should be, also
    where the power fails.

    Raises:
        StorageError: If nothing can be written there, at once or in the block.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:30]}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except Exception as error:
        cause = storage_cause(error)
        if cause is None or isinstance(error, StorageError):
            raise
        raise unwritable(path, cause) from error
    finally:
        with suppress(OSError):  # on a disk that went away, what is left cannot be removed
            temporary.unlink(missing_ok=True)


def sync(path: str | Path) -> None:
    """Have the disk keep a file, or the names in a folder, before anything else is done."""
    if sys.platform == "win32":  # which syncs neither folders nor files that are opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that syncs no folders
            raise
    finally:
        os.close(handle)


def unwritable(path: str | Path, cause: OSError) -> StorageError:
    """The error of a path that cannot be written, for a reason of the system."""
    fix = "make room or choose another folder (exp_root_dir of a run)"
    return StorageError(
        what=f"{path} cannot be written ({cause.strerror or cause})", expected="a place with room", fix=fix
    )


LEFT_BEHIND = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.\w+)?")
"""Names of ``atomic_path``, and of the same in a plugin, that a killed process leaves."""


def remove_left_behind(folder: str | Path) -> None:
    """Remove the unfinished files of a killed run; nothing else may be writing there.

    Args:
        folder: All below it is looked at.
    """
    for file in Path(folder).rglob(".*.tmp*"):
        if LEFT_BEHIND.fullmatch(file.name) and file.is_file():
            file.unlink(missing_ok=True)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB picture (h w 3), 8 bits; the suffix decides the format.

    Raises:
        OSError: If the picture cannot be written in that format.
        StorageError: If nothing can be written there.
    """
    is_encoded, content = cv2.imencode(Path(path).suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        raise OSError(f"cannot write {path} as a picture")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.tobytes())


def write_video(path: str | Path, frames: Iterable[np.ndarray]) -> None:
    """Write RGB frames, (h w 3) 8-bit and all of one size, as ``.mp4``; odd sizes lose their last row or column.

    VP9 is what OpenCV's wheels encode everywhere and browsers play: Chromium, Firefox, Safari from 14.1 and iOS 15 on.
    H.264 would play in older ones too, but these wheels have no encoder of it (but on macOS), and the packages that do
    (PyAV, imageio-ffmpeg) bring x264 under the GPL. MPEG-4 part 2 is played by no browser.

    Raises:
        ValueError: If there is no frame or the suffix is another one.
        OSError: If the codec cannot be opened.
        StorageError: If nothing can be written there.
    """
    path = Path(path)
    frames = list(frames)
    if not frames:
        raise ValueError(f"no frames to write to {path}")
    if path.suffix != ".mp4":
        raise ValueError(f"{path.name} has no suffix of a video; expected .mp4")
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"vp09"), FRAMES_PER_SECOND, (width, height))
        if not writer.isOpened():
            raise OSError(f"opencv cannot open its VP9 encoder for {path}")
        for frame in frames:
            writer.write(cv2.cvtColor(np.ascontiguousarray(frame[:height, :width]), cv2.COLOR_RGB2BGR))
        writer.release()
        if temporary.stat().st_size == 0:  # opencv says nothing of a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class SaverMixin:
    """Saves into one folder; names may hold sub-folders. Every method returns the path it wrote."""

    _save_dir: str | None = None

    def set_save_dir(self, save_dir: str | Path) -> None:
        """Choose the folder; it is made when the first file is written."""
        self._save_dir = str(save_dir)

    def get_save_dir(self) -> str:
        """The folder.

        Raises:
            ValueError: If none was chosen.
        """
        if self._save_dir is None:
            raise ValueError("no save folder was chosen: call set_save_dir first")
        return self._save_dir

    def get_save_path(self, filename: str) -> str:
        """Where a file of this name goes; its folder exists afterwards."""
        path = Path(self.get_save_dir()) / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def save_rgb_image(self, filename: str, img: Any) -> str:
        """Save a colour image (h w 3), with values in [0, 1] or 8 bits."""
        path = self.get_save_path(filename)
        write_picture(path, rgb_picture(img))
        return path

    def save_image_grid(self, filename: str, imgs: Sequence) -> str:
        """Save pictures side by side; see :func:`threestudio.utils.images.picture_grid`."""
        path = self.get_save_path(filename)
        write_picture(path, picture_grid(imgs))
        return path

    def save_data(self, filename: str, data: Any) -> str:
        """Save an array or tensor as ``.npy``."""
        path = self.get_save_path(filename if filename.endswith(".npy") else f"{filename}.npy")
        with atomic_path(path) as temporary:
            np.save(temporary, to_numpy(data))
        return path

    def save_json(self, filename: str, payload: Any) -> str:
        """Save as readable JSON; tensors and arrays become lists, numbers that are not finite null."""
        text = json.dumps(_jsonable(payload), indent=2, allow_nan=False)
        return self.save_text(filename, f"{text}\n")

    def save_text(self, filename: str, text: str) -> str:
        """Save a text, UTF-8."""
        path = self.get_save_path(filename)
        with atomic_path(path) as temporary:
            temporary.write_text(without_environment(text), encoding="utf-8")
        return path

    def save_video(self, filename: str, frames: Iterable[Any]) -> str:
        """Save frames (h w 3), with values in [0, 1] or 8 bits, as ``.mp4``."""
        path = self.get_save_path(filename)
        write_video(path, [rgb_picture(frame) for frame in frames])
        return path

    def save_img_sequence(self, filename: str, img_dir: str, matcher: str) -> str:
        r"""Make a video of saved pictures.

        Args:
            filename: The video; its suffix ``.mp4`` is added if missing.
            img_dir: Sub-folder of the save folder that holds the pictures.
            matcher: Regular expression whose first group is the frame number, as ``(\d+)\.png``.

        Raises:
            ValueError: If no picture matches.
        """
        folder, pattern = Path(self.get_save_dir()) / img_dir, re.compile(matcher)
        matches = [(pattern.search(path.name), path) for path in folder.iterdir() if not path.name.startswith(".")]
        numbered = sorted((int(match.group(1)), path) for match, path in matches if match is not None)
        if not numbered:
            raise ValueError(f"no file in {folder} matches {matcher!r}")
        pictures = (cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for _, path in numbered)
        path = self.get_save_path(filename if filename.endswith(".mp4") else f"{filename}.mp4")
        write_video(path, [picture for picture in pictures if picture is not None])
        return path


def _jsonable(value: Any) -> Any:
    """Plain values for JSON, which has no word for infinity and NaN.

    Raises:
        TypeError: For a type that has no plain form.
    """
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
