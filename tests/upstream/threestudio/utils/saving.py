"""The saver: no texts, no videos of frames, a grid whose every entry says its kwargs, JSON of plain values."""

import json
import os
import re

import cv2
import numpy as np
import torch


class SaverMixin:
    _save_dir = None

    def set_save_dir(self, save_dir):
        self._save_dir = save_dir

    def get_save_dir(self):
        if self._save_dir is None:
            raise ValueError("no save dir")
        return self._save_dir

    def convert_data(self, data):
        if data is None or isinstance(data, np.ndarray):
            return data
        if isinstance(data, torch.Tensor):
            return data.detach().cpu().numpy()
        if isinstance(data, list):
            return [self.convert_data(item) for item in data]
        if isinstance(data, dict):
            return {key: self.convert_data(item) for key, item in data.items()}
        raise TypeError(type(data))

    def get_save_path(self, filename):
        path = os.path.join(self.get_save_dir(), filename)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def create_loggers(self, cfg_loggers):
        if "wandb" in cfg_loggers.keys() and cfg_loggers.wandb.enable:
            raise NotImplementedError

    def get_loggers(self):
        return []

    def get_rgb_image_(self, img, data_format="HWC", data_range=(0, 1)):
        img = self.convert_data(img)
        assert data_format in ("CHW", "HWC")
        img = img.transpose(1, 2, 0) if data_format == "CHW" else img
        if img.dtype != np.uint8:
            low, high = data_range
            img = ((img.clip(low, high) - low) / (high - low) * 255.0).astype(np.uint8)
        return cv2.cvtColor(img, cv2.COLOR_RGB2BGR)

    def save_rgb_image(self, filename, img, data_format="HWC", data_range=(0, 1), name=None, step=None):
        path = self.get_save_path(filename)
        cv2.imwrite(path, self.get_rgb_image_(img, data_format, data_range))
        return path

    def get_image_grid_(self, imgs):
        if isinstance(imgs[0], list):
            return np.concatenate([self.get_image_grid_(row) for row in imgs], axis=0)
        assert all(col["type"] == "rgb" for col in imgs)
        return np.concatenate([self.get_rgb_image_(col["img"], **col["kwargs"]) for col in imgs], axis=1)

    def save_image_grid(self, filename, imgs, align="max", name=None, step=None, texts=None):
        path = self.get_save_path(filename)
        cv2.imwrite(path, self.get_image_grid_(imgs))
        return path

    def save_data(self, filename, data):
        data = self.convert_data(data)
        path = self.get_save_path(filename if filename.endswith(".npy") else f"{filename}.npy")
        np.save(path, data)
        return path

    def save_img_sequence(self, filename, img_dir, matcher, save_format="mp4", fps=30, name=None, step=None):
        assert save_format in ("gif", "mp4")
        path = self.get_save_path(filename if filename.endswith(save_format) else f"{filename}.{save_format}")
        folder, pattern = os.path.join(self.get_save_dir(), img_dir), re.compile(matcher)
        names = [name for name in os.listdir(folder) if pattern.search(name)]
        names.sort(key=lambda name: int(pattern.search(name).groups()[0]))
        frames = [cv2.imread(os.path.join(folder, name)) for name in names]
        height, width = frames[0].shape[:2]
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        for frame in frames:
            writer.write(frame)
        writer.release()
        return path

    def save_json(self, filename, payload):
        path = self.get_save_path(filename)
        with open(path, "w") as file:
            file.write(json.dumps(payload))
        return path
