"""Writing results: every file is written under a temporary name and renamed, so none is ever half there."""

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from threestudio.utils.images import (
    grayscale_picture,
    picture_grid,
    rgb_picture,
    to_numpy,
    uv_picture,
    write_texts,
)

CODECS = {"mp4": "mp4v", "webm": "VP80"}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, with its suffix; renamed to it when the block ends well, removed otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB, RGBA or grey picture, 8 or 16 bits; the suffix decides the format.

    Raises:
        OSError: If the picture cannot be written in that format.
    """
    if picture.ndim == 3:
        order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
        picture = cv2.cvtColor(picture, order)
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), picture):
            raise OSError(f"cannot write {path} as a picture")


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float = 30) -> None:
    """Write RGB frames, (h w 3) 8-bit and all of one size; odd sizes lose their last row or column.

    ``.mp4`` is MPEG-4 part 2: quick to write and read by players, but not by most browsers. ``.webm`` is VP8, which
    browsers show and which takes some eight times as long. ``.gif`` needs no codec at all.

    Raises:
        ValueError: If there is no frame or the suffix is another one.
        OSError: If the codec cannot be opened.
    """
    path = Path(path)
    frames = list(frames)
    if not frames:
        raise ValueError(f"no frames to write to {path}")
    if path.suffix == ".gif":
        _write_gif(path, frames, fps)
        return
    if path.suffix[1:] not in CODECS:
        raise ValueError(f"{path.name} has no suffix of a video; expected .mp4, .webm or .gif")
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*CODECS[path.suffix[1:]]), fps, (width, height))
        if not writer.isOpened():
            raise OSError(f"opencv cannot open its {CODECS[path.suffix[1:]]} encoder for {path}")
        for frame in frames:
            writer.write(cv2.cvtColor(np.ascontiguousarray(frame[:height, :width]), cv2.COLOR_RGB2BGR))
        writer.release()


def _write_gif(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    with atomic_path(path) as temporary:
        pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=1000 / fps, loop=0)


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

    def convert_data(self, data: Any) -> Any:
        """Tensors as arrays, inside lists and dicts too."""
        return to_numpy(data)

    def save_rgb_image(
        self,
        filename: str,
        img: Any,
        data_format: str = "HWC",
        data_range: Sequence[float] = (0, 1),
        name: str | None = None,
        step: int | None = None,
    ) -> str:
        """Save a colour image; ``name`` and ``step`` put it into the run's TensorBoard log too."""
        return self._save_picture(filename, rgb_picture(img, data_format, data_range), name, step)

    def save_grayscale_image(
        self,
        filename: str,
        img: Any,
        data_range: Sequence[float] | None = None,
        cmap: str | None = "jet",
        name: str | None = None,
        step: int | None = None,
    ) -> str:
        """Save a one-channel image through a colour map."""
        return self._save_picture(filename, grayscale_picture(img, data_range, cmap), name, step)

    def save_uv_image(
        self,
        filename: str,
        img: Any,
        data_format: str = "HWC",
        data_range: Sequence[float] = (0, 1),
        cmap: str = "checkerboard",
    ) -> str:
        """Save two coordinates as a checkerboard or as colours."""
        return self._save_picture(filename, uv_picture(img, data_format, data_range, cmap))

    def save_image_grid(
        self,
        filename: str,
        imgs: Sequence,
        align: str | int | tuple[int, int] = "max",
        name: str | None = None,
        step: int | None = None,
        texts: Sequence[object] | None = None,
    ) -> str:
        """Save pictures side by side; see :func:`threestudio.utils.images.picture_grid`."""
        picture = picture_grid(imgs, align)
        return self._save_picture(filename, write_texts(picture, texts) if texts else picture, name, step)

    def save_image(self, filename: str, img: Any) -> str:
        """Save pixels as they are.

        Raises:
            TypeError: If they are neither 8 nor 16 bits.
        """
        picture = to_numpy(img)
        if picture.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"save_image takes 8 or 16 bit pixels, got {picture.dtype}; see save_rgb_image")
        return self._save_picture(filename, picture)

    def save_data(self, filename: str, data: Any) -> str:
        """Save an array as ``.npy``, a dict of arrays as ``.npz``."""
        data = to_numpy(data)
        suffix = ".npz" if isinstance(data, dict) else ".npy"
        path = self.get_save_path(filename if filename.endswith(suffix) else f"{filename}{suffix}")
        with atomic_path(path) as temporary:
            if isinstance(data, dict):
                np.savez(temporary, **data)
            else:
                np.save(temporary, data)
        return path

    def save_state_dict(self, filename: str, data: dict) -> str:
        """Save tensors and plain values with ``torch.save``."""
        path = self.get_save_path(filename)
        with atomic_path(path) as temporary:
            torch.save(data, temporary)
        return path

    def save_json(self, filename: str, payload: Any) -> str:
        """Save as readable JSON; tensors and arrays become lists, numbers that are not finite null."""
        text = json.dumps(_jsonable(payload), indent=2, allow_nan=False)
        return self.save_text(filename, f"{text}\n")

    def save_text(self, filename: str, text: str) -> str:
        """Save a text, UTF-8."""
        path = self.get_save_path(filename)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return path

    def save_file(self, filename: str, src_path: str | Path) -> str:
        """Copy a file into the folder."""
        path = self.get_save_path(filename)
        with atomic_path(path) as temporary:
            shutil.copyfile(src_path, temporary)
        return path

    def save_video(self, filename: str, frames: Iterable[Any], fps: float = 30) -> str:
        """Save frames (h w 3), floats in [0, 1] or 8 bits, as ``.mp4``, ``.webm`` or ``.gif``."""
        path = self.get_save_path(filename)
        write_video(path, [rgb_picture(frame) for frame in frames], fps)
        return path

    def save_img_sequence(
        self,
        filename: str,
        img_dir: str,
        matcher: str,
        save_format: str = "mp4",
        fps: int = 30,
        name: str | None = None,
        step: int | None = None,
    ) -> str:
        r"""Make a video of saved pictures.

        Args:
            filename: The video; its suffix is added if missing.
            img_dir: Sub-folder of the save folder that holds the pictures.
            matcher: Regular expression whose first group is the frame number, as ``(\d+)\.png``.
            save_format: ``mp4``, ``webm`` or ``gif``.
            fps: Frames per second.
            name: Log the video's path under this name.
            step: The step it is logged at.

        Raises:
            ValueError: If no picture matches.
        """
        folder, pattern = Path(self.get_save_dir()) / img_dir, re.compile(matcher)
        matches = {path: pattern.search(path.name) for path in folder.iterdir() if not path.name.startswith(".")}
        paths = sorted((path for path in matches if matches[path]), key=lambda path: int(matches[path].group(1)))
        if not paths:
            raise ValueError(f"no file in {folder} matches {matcher!r}")
        frames = (cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths)
        path = self.get_save_path(filename if filename.endswith(save_format) else f"{filename}.{save_format}")
        write_video(path, frames, fps)
        if name is not None:
            self._log_to("add_text", name, path, step)
        return path

    def _save_picture(
        self, filename: str, picture: np.ndarray, name: str | None = None, step: int | None = None
    ) -> str:
        path = self.get_save_path(filename)
        write_picture(path, picture)
        if name is not None:
            self._log_to("add_image", name, picture, step, dataformats="HWC")
        return path

    def _log_to(self, method: str, name: str, value: Any, step: int | None, **kwargs: Any) -> None:
        """Call a writer method on every attached TensorBoard log."""
        for logger in getattr(self, "loggers", None) or []:
            if hasattr(logger.experiment, method):
                getattr(logger.experiment, method)(name, value, step, **kwargs)


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
