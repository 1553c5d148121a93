"""Everything an edit can refuse, word for word: what is wrong, what was expected, the one thing to do."""

import pytest
import torch

from tests.edit_world import toy_cameras, toy_parts
from threestudio_ssd.data.modules import GSViews
from threestudio_ssd.diffusion import random_backbone
from threestudio_ssd.guidance import EditGuidance, EditPrompts
from threestudio_ssd.guidance.timesteps import check_range
from threestudio_ssd.masks import MaskConfig, find_selection, in_box


def select_on_toy(**keys):
    gaussians, _ = toy_parts(keep_every=40)
    return find_selection(MaskConfig(**keys), gaussians, toy_cameras(2, 8), None, torch.zeros(3))


MESSAGES = {
    "fractions": (
        lambda: check_range(0.5, 0.2, "linear"),
        "t_min_frac is 0.5 and t_max_frac is 0.2",
        "0 < t_min_frac < t_max_frac < 1",
        "set t_min_frac=0.02 and t_max_frac=0.98, the paper's values",
    ),
    "schedule": (
        lambda: check_range(0.02, 0.98, "lineal"),
        "schedule is 'lineal'",
        "one of linear, square-root, cosine, dream-time, uniform",
        "set schedule=linear",
    ),
    "target prompt": (
        lambda: EditPrompts({"source_prompt": "a ball", "target_prompt": "  "}),
        "target_prompt is empty",
        "a sentence for what should be there",
        'set target_prompt="a photo of ..."',
    ),
    "source prompt": (
        lambda: EditPrompts({"target_prompt": "a ball"})(random_backbone(), {"src", "tgt"}),
        "source_prompt is empty",
        "a sentence for what is there; this score compares the two prompts",
        'set source_prompt="a photo of ..."',
    ),
    "score and model": (
        lambda: EditGuidance({"score": {"name": "ssd-ip2p"}}, backbone=random_backbone()),
        "score ssd-ip2p does not fit model random-sd-epsilon, which reads no picture",
        "a score for this kind of model",
        "set system.guidance.score.name=ssd, or another model",
    ),
    "box": (
        lambda: in_box(torch.zeros(1, 3), [0, 0, 0, 0, 1, 1]),
        "mask.box is [0, 0, 0, 0, 1, 1]",
        "x_min, y_min, z_min, x_max, y_max, z_max with each minimum below its maximum",
        "set mask.box=[-1,-1,0,1,1,2]",
    ),
    "threshold": (
        lambda: select_on_toy(threshold=1.0),
        "mask.threshold is 1.0",
        "between 0 and 1",
        "set mask.threshold=0.5",
    ),
    "picture without cameras": (
        lambda: select_on_toy(picture="masks"),
        "mask.picture is masks but there are no cameras",
        "the cameras of the views that the masks were drawn on",
        "set cameras=PATH, or use mask.box",
    ),
    "mask views": (lambda: select_on_toy(num_views=0), "mask.num_views is 0", "at least 1", "set mask.num_views=24"),
    "view size": (lambda: select_on_toy(view_size=8), "mask.view_size is 8", "at least 16", "set mask.view_size=256"),
    "empty part": (
        lambda: select_on_toy(any_of=[{"box": [0, 0, 0, 1, 1, 1]}, {}]),
        "mask.any_of[1] is empty",
        "one of its keys: text, picture, box, sphere, saved, any_of, none_of",
        "say what it is, or remove it",
    ),
    "part that is no group": (
        lambda: select_on_toy(none_of=["the floor"]),
        "mask.none_of[0] is 'the floor'",
        "a group of keys",
        "write it as {text: a chair}, for example",
    ),
    "unknown key of a part": (
        lambda: select_on_toy(none_of=[{"boxx": [0, 0, 0, 1, 1, 1]}]),
        "unknown key boxx",
        "one of: text, picture, box, sphere, saved, any_of, none_of",
        "did you mean box?",
    ),
    "sphere": (
        lambda: select_on_toy(sphere=[0.0, 0.0, 1.0]),
        "mask.sphere is [0.0, 0.0, 1.0]",
        "x, y, z and a radius above 0",
        "set mask.sphere=[0,0,1,1.5]",
    ),
    "missing selection": (
        lambda: select_on_toy(saved="no/selection.npy"),
        "mask.saved no/selection.npy does not exist",
        "the selection.npy of an earlier run",
        "check the path; every run writes save/selection.npy",
    ),
    "empty selection": (
        lambda: select_on_toy(box=[50.0, 50.0, 50.0, 51.0, 51.0, 51.0]),
        "the mask (box [50.0, 50.0, 50.0, 51.0, 51.0, 51.0]) selects none of 183 Gaussians",
        "at least one",
        "move or enlarge mask.box: centres lie between [-11.65, -11.99, -2.98] and [11.81, 11.15, 11.41]",
    ),
    "capture without cameras": (
        lambda: GSViews({"views": "capture"}),
        "data.views is capture but there are no cameras",
        "a file or folder of cameras",
        "set cameras=PATH, or data.views=orbit",
    ),
    "missing cameras": (
        lambda: GSViews({"cameras": "no/such/cameras.json"}),
        "cameras no/such/cameras.json do not exist",
        "a COLMAP folder, transforms.json or cameras.json",
        "check the path, or leave cameras empty for an orbit",
    ),
    "batch size": (lambda: GSViews({"batch_size": 0}), "data.batch_size is 0", "at least 1", "set data.batch_size=1"),
    "training views": (
        lambda: GSViews({"num_train_views": -1}),
        "data.num_train_views is -1",
        "at least 1",
        "set data.num_train_views=96",
    ),
    "elevations": (
        lambda: GSViews({"elevation_deg": [40.0, 10.0]}),
        "data.elevation_deg is [40.0, 10.0]",
        "two numbers, low then high",
        "set data.elevation_deg=[low,high]",
    ),
    "distances": (
        lambda: GSViews({"radius_scale": [1.0]}),
        "data.radius_scale is [1.0]",
        "two numbers, low then high",
        "set data.radius_scale=[low,high]",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name):
    cause, what, expected, fix = MESSAGES[name]
    with pytest.raises(ValueError) as error:
        cause()
    assert (error.value.what, error.value.expected, error.value.fix) == (what, expected, fix)
    assert str(error.value) == f"{what}; expected {expected}; {fix}"
