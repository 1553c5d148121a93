"""One of several processes that make the steps of an edit together: RANK COUNT PORT WORLD OUT key=value ..."""

import os
import sys
from pathlib import Path

import torch

from tests.edit_world import experiment
from threestudio.plugins import load_plugins
from threestudio.utils.misc import force_device


def edited(world: Path, out: Path, rank, *words: str) -> dict[str, torch.Tensor]:
    """The parameters after all steps, and the Gaussians' statistics of growth."""
    from threestudio_ssd.data import ViewPlan
    from threestudio_ssd.edits.scene_edit import SceneEdit

    cfg = experiment(world, out, **dict(word.split("=", 1) for word in words))
    job = SceneEdit(cfg.system)
    job.open(ViewPlan(cfg.data))
    job.edit.join(rank)
    job.edit.prepare()
    job.edit.make_steps()
    return dict(job.edit.state_dict())


if __name__ == "__main__":
    rank, count, port, world, out, *words = sys.argv[1:]
    load_plugins()
    from threestudio_ssd.ranks import Rank

    force_device("cpu")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.distributed.init_process_group("gloo", rank=int(rank), world_size=int(count))
    Rank.agree = lambda *_: None  # so that the processes stay together by themselves
    state = edited(Path(world), Path(out), Rank(int(rank), int(count)), *words)
    torch.save({key: value for key, value in state.items() if torch.is_tensor(value)}, Path(out) / f"rank-{rank}.pt")
