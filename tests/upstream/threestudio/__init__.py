"""A host with the names and the semantics of upstream threestudio, as far as the plugin meets them; for tests only.

Written from what upstream does, not from its text: the registry, keys handed to dataclasses as they are written, the
saver's few methods, the hooks of a system. Nothing else is there, so that a name of our own host is an error here.
"""

import logging

from pytorch_lightning.utilities.rank_zero import rank_zero_debug, rank_zero_info, rank_zero_only

__modules__ = {}


def register(name):
    def decorator(cls):
        if name in __modules__:
            raise ValueError(f"Module {name} is registered twice")
        __modules__[name] = cls
        return cls

    return decorator


def find(name):
    if ":" in name:
        main_name, sub_names = name.split(":")
        bases = [*sub_names.split(","), main_name]
        return type(name, tuple(__modules__[base] for base in bases), {})
    return __modules__[name]


debug, info = rank_zero_debug, rank_zero_info


@rank_zero_only
def warn(*args, **kwargs):
    logging.getLogger("pytorch_lightning").warning(*args, **kwargs)
