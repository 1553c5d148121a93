"""What launch.py says to input that cannot be used: one line, exit code 2, nothing left behind."""

import shutil
from pathlib import Path

import pytest

from tests.edit_world import SMOKE, overrides
from threestudio.run import main


def cut_short(world: Path, folder: Path) -> Path:
    """A splat file that ends in the middle of its rows."""
    path = folder / "cut.ply"
    path.write_bytes((world / "scene.ply").read_bytes()[:5000])
    return path


def broken_mask(world: Path, folder: Path) -> Path:
    """A mask that is no picture."""
    path = folder / "view_000.png"
    path.write_bytes(b"not a picture")
    return path


def model_without_weights(world: Path, folder: Path) -> Path:
    """A model folder whose network has lost its weights."""
    model = folder / "half-model"
    shutil.copytree(world / "model", model)
    for path in (model / "unet").glob("*.safetensors"):
        path.unlink()
    return model


BAD = {
    "truncated splat": (lambda world, folder: {"scene": cut_short(world, folder)}, "cut.ply", ""),
    "not a splat": (lambda world, folder: {"scene": world / "cameras.json"}, "cameras.json", ""),
    "misspelt word": (lambda world, folder: {"scen": "a.ply"}, "unknown key scen", "did you mean scene?"),
    "misspelt key": (
        lambda world, folder: {"system.learning_rates.sh": 1},
        "unknown key system.learning_rates.sh",
        "did you mean system.learning_rates.sh",
    ),
    "misspelt score": (
        lambda world, folder: {"system.guidance.score.name": "ssdd"},
        "system.guidance.score.name is 'ssdd'",
        "did you mean ssd?",
    ),
    "misspelt score field": (
        lambda world, folder: {"system.guidance.score.enhance_wieght": 3},
        "system.guidance.score.enhance_wieght is not a field of the score ssd",
        "did you mean enhance_weight?",
    ),
    "missing model": (lambda world, folder: {"model": folder / "no-model"}, "no-model", ""),
    "model without weights": (
        lambda world, folder: {"model": model_without_weights(world, folder)},
        "half-model",
        "copy or download the model again",
    ),
    "empty prompt": (
        lambda world, folder: {"target_prompt": "", "tag": "run"},
        "target_prompt is empty",
        "set target_prompt=",
    ),
    "bad mask picture": (
        lambda world, folder: {"mask.picture": broken_mask(world, folder)},
        "view_000.png cannot be read as a picture",
        "save it again as PNG",
    ),
    "no such view": (
        lambda world, folder: {"mask.picture": "no/such/masks"},
        "mask.picture no/such/masks does not exist",
        "",
    ),
    "missing cameras": (
        lambda world, folder: {"cameras": "no/cameras.json"},
        "cameras no/cameras.json do not exist",
        "",
    ),
    "box of nothing": (
        lambda world, folder: {"mask.picture": "", "mask.box": "[50,50,50,51,51,51]"},
        "selects none of",
        "move or enlarge mask.box",
    ),
    "box of two numbers, before the model is looked for": (
        lambda world, folder: {"mask.picture": "", "mask.box": "[1,2]", "model": "no/such/model"},
        "mask.box is [1.0, 2.0]",
        "set mask.box=[-1,-1,0,1,1,2]",
    ),
    "sphere of a part, before the model is looked for": (
        lambda world, folder: {"mask.any_of": "[{sphere: [0,0,0,-1]}]", "model": "no/such/model"},
        "mask.any_of[0].sphere is [0.0, 0.0, 0.0, -1.0]",
        "set mask.any_of[0].sphere=[0,0,1,1.5]",
    ),
    "missing CLIP of the report": (
        lambda world, folder: {"system.clip_model": "owner/no-clip", "system.guidance.offline": "true"},
        "system.clip_model is owner/no-clip",
        "set system.clip_model=tiny-clip",
    ),
    "word for a number": (lambda world, folder: {"steps": "many"}, "steps is 'many'", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_two(name, world, tmp_path, capfd):
    """By the same ``main`` that launch.py calls, in this process."""
    make, said, advised = BAD[name]
    words = ["--config", str(SMOKE), *overrides(world, tmp_path / "out", **make(world, tmp_path))]
    code = main(words)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert advised in lines[0]
    assert not (tmp_path / "out").exists()
