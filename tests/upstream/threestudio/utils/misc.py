"""Devices, schedules and weights; a device is a GPU, whether there is one or not."""

import gc
import math
import os

import torch

from threestudio.utils.config import config_to_primitive


def get_rank():
    return int(os.environ.get("LOCAL_RANK", 0))


def get_device():
    return torch.device(f"cuda:{get_rank()}")


def C(value, epoch, global_step, interpolation="linear"):
    if isinstance(value, int | float):
        return value
    value = config_to_primitive(value)
    if not isinstance(value, list):
        raise TypeError("a schedule is a list")
    value = [0, *value] if len(value) == 3 else value
    last = 3
    while last + 2 < len(value) and global_step >= value[last]:
        last += 2
    start_step, start = value[:2] if last == 3 else (value[last - 2], value[last - 3])
    end, end_step = value[last - 1], value[last]
    now = global_step if isinstance(end_step, int) else epoch
    share = max(min(1.0, (now - start_step) / (end_step - start_step)), 0.0)
    if interpolation == "exp":
        return math.exp(math.log(start) * (1 - share) + math.log(end) * share)
    return start + (end - start) * share


def cleanup():
    gc.collect()
    torch.cuda.empty_cache()


def load_module_weights(path, module_name=None, ignore_modules=None, map_location=None):
    ckpt = torch.load(path, map_location=map_location)
    return ckpt["state_dict"], ckpt["epoch"], ckpt["global_step"]
