"""Writing results: every file is written under a temporary name and renamed, so none is ever half there."""

import json
import math
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from threestudio.utils.images import picture_grid, rgb_picture, to_numpy
from threestudio.utils.resolvers import without_environment

FRAMES_PER_SECOND = 30


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, with its suffix; renamed to it when the block ends well, removed otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:30]}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB picture (h w 3), 8 bits; the suffix decides the format.

    Raises:
        OSError: If the picture cannot be written in that format.
    """
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise OSError(f"cannot write {path} as a picture")


def write_video(path: str | Path, frames: Iterable[np.ndarray]) -> None:
    """Write RGB frames, (h w 3) 8-bit and all of one size, as ``.mp4``; odd sizes lose their last row or column.

    MPEG-4 part 2 is quick to write and read by players, but not by most browsers.

    Raises:
        ValueError: If there is no frame or the suffix is another one.
        OSError: If the codec cannot be opened.
    """
    path = Path(path)
    frames = list(frames)
    if not frames:
        raise ValueError(f"no frames to write to {path}")
    if path.suffix != ".mp4":
        raise ValueError(f"{path.name} has no suffix of a video; expected .mp4")
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), FRAMES_PER_SECOND, (width, height))
        if not writer.isOpened():
            raise OSError(f"opencv cannot open its mp4v encoder for {path}")
        for frame in frames:
            writer.write(cv2.cvtColor(np.ascontiguousarray(frame[:height, :width]), cv2.COLOR_RGB2BGR))
        writer.release()


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
