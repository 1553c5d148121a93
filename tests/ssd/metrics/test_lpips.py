"""LPIPS against torchmetrics' own computation, over the same feature weights; loading by folder; messages."""

import pytest
import torch
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from threestudio_ssd.errors import ConfigError
from threestudio_ssd.metrics import load_lpips, lpips
from threestudio_ssd.metrics.lpips_backbones import BACKBONES, Backbone

TORCHVISION_NAMES = {"alex": "alexnet", "squeeze": "squeezenet1_1", "vgg": "vgg16"}


def random_features(net):
    """Feature layers with weights that keep the activations' size, as trained ones do."""
    torch.manual_seed(4)
    build, taps, _ = BACKBONES[net]
    backbone = Backbone(build, taps)
    for parameter in backbone.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    return backbone


@pytest.fixture(params=["alex", "squeeze"])
def net_and_folder(request, tmp_path):
    """A network's name and a folder with torchvision's file of (random) weights, classifier included."""
    state = random_features(request.param).state_dict() | {"classifier.1.weight": torch.zeros(3)}
    torch.save(state, tmp_path / BACKBONES[request.param][2])
    return request.param, tmp_path


@pytest.mark.parametrize(("net", "count"), [("alex", 2_469_696), ("squeeze", 722_496), ("vgg", 14_714_688)])
def test_feature_networks_have_as_many_weights_as_published(net, count):
    build, taps, _ = BACKBONES[net]
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Backbone(build, taps).parameters()) == count


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_agrees_with_torchmetrics(net, monkeypatch, tmp_path, pictures, noise):
    backbone = random_features(net)
    torch.save(backbone.state_dict(), tmp_path / BACKBONES[net][2])
    calls = []

    def features(name, pretrained):
        calls.append(name)
        return backbone.features

    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", features)
    reference = torchmetrics_lpips._NoTrainLpips(net=net)
    changed = (pictures + 0.1 * noise).clamp(0, 1)
    with torch.no_grad():
        expected = reference(changed, pictures, normalize=True).flatten()
        value = lpips(changed, pictures, model=load_lpips(net, str(tmp_path)))
    assert calls == [TORCHVISION_NAMES[net]]
    assert value.min() > 0
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_a_worse_edit_scores_higher(net_and_folder, pictures, noise):
    model = load_lpips(net_and_folder[0], str(net_and_folder[1]))
    values = [lpips((pictures + level * noise).clamp(0, 1), pictures, model=model) for level in (0, 0.02, 0.2)]
    assert (values[0] == 0).all()
    assert (values[0] < values[1]).all()
    assert (values[1] < values[2]).all()


def test_regions(net_and_folder, pictures):
    model = load_lpips(net_and_folder[0], str(net_and_folder[1]))
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, 16:32, 16:32] = True
    edited = torch.where(masks[:, None], 1 - pictures, pictures)
    assert (lpips(edited, pictures, ~masks, model=model) == 0).all()
    assert (lpips(edited, pictures, masks, model=model) > lpips(edited, pictures, model=model)).all()
    zeroed = lpips(edited, pictures, masks, mask_mode="zeroed", model=model)
    expected = lpips(edited * masks[:, None], pictures * masks[:, None], model=model)
    torch.testing.assert_close(zeroed, expected)


def test_gradient_reaches_the_pictures(net_and_folder, pictures):
    model = load_lpips(net_and_folder[0], str(net_and_folder[1]))
    edited = (1 - pictures).requires_grad_()
    lpips(edited, pictures, model=model).sum().backward()
    assert edited.grad.abs().sum() > 0


def test_messages(tmp_path):
    with pytest.raises(ConfigError, match=r"squeezenet1_1-b8a52dc0.pth"):
        load_lpips("squeeze", str(tmp_path))
    torch.save(random_features("alex").state_dict(), tmp_path / BACKBONES["squeeze"][2])
    with pytest.raises(ConfigError, match="not those of squeeze"):
        load_lpips("squeeze", str(tmp_path))
