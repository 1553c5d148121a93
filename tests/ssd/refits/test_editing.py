"""The views of a scene as an editor gets them and gives them back."""

from dataclasses import dataclass

import torch

from tests.edit_world import toy_cameras, toy_parts
from tests.oracle import NoNetwork
from threestudio_ssd.editors import EditorPrompts, ImageEditor
from threestudio_ssd.editors.consistency import Independent
from threestudio_ssd.editors.loaded import LoadedEditor
from threestudio_ssd.masks.region import region_around
from threestudio_ssd.refits.editing import ViewEditing
from threestudio_ssd.refits.scene_refit import SnapConfig


@dataclass(frozen=True)
class White(ImageEditor):
    """Paints all that it may white."""

    def load(self, keys, device, prompts, words=()):
        raise NotImplementedError

    def edit(self, network, views):
        return torch.ones_like(views.images)


@dataclass(frozen=True)
class LeftHalf(Independent):
    """Knows that the new object is on the left."""

    def covered(self, network, views, own):
        covered = torch.zeros_like(views.images[:, :1])
        covered[..., : covered.shape[-1] // 2] = 1
        return covered


def test_an_edited_view_keeps_what_the_editor_knows_or_what_differs_from_the_empty_scene():
    scene, is_object = toy_parts(keep_every=1)
    cameras, rows = toy_cameras(2, 32), torch.arange(2)
    region = region_around(scene.means[is_object], torch.tensor([0.0, 0.0, 1.0]))
    for consistency, is_known in ((LeftHalf(), True), (Independent(), False)):
        editor = LoadedEditor(White(), NoNetwork(EditorPrompts("a ball", "a cone")), consistency=consistency)
        editing = ViewEditing(
            editor, cameras, region, scene, scene.select(~is_object), torch.zeros(3), SnapConfig(), [0, 1]
        )
        images, shares = editing.edit(None, rows, 1.0, 0)
        is_right = torch.arange(32) >= 16
        assert (shares[..., is_right] == 0).all() == is_known
        assert torch.equal(images[(shares == 0).expand_as(images)], editing.kept[(shares == 0).expand_as(images)])
        assert shares[editing.masks == 0].max() == 0
        assert (images[(shares == 1).expand_as(images)] == 1).all()
        assert (shares == 1).any()
