"""The trainable LoRA: invisible unless active, trained on its own weights alone, restored to the same bytes."""

import sys

import pytest
import torch

from threestudio_ssd.diffusion import TrainableLora, random_backbone
from threestudio_ssd.errors import MissingPackageError


def predict(backbone, with_grad=False, seed=0):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    return backbone.predict_noise(latents, 300, backbone.encode_prompts(["", "a"]), with_grad=with_grad)


def train_step(lora, backbone, seed=0):
    with lora.active():
        lora.update(predict(backbone, with_grad=True, seed=seed).square().mean())


@pytest.mark.parametrize("kind", ["sd", "sd3"])
def test_off_it_is_not_there_and_untrained_it_changes_nothing(kind):
    backbone = random_backbone(kind=kind)
    before = predict(backbone)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    lora = TrainableLora(backbone)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(predict(backbone), before)
    with lora.active():
        assert torch.allclose(predict(backbone), before, atol=1e-6)
    train_step(lora, backbone)
    assert torch.equal(predict(backbone), before)
    with lora.active():
        assert not torch.allclose(predict(backbone), before, atol=1e-6)


def test_training_touches_the_lora_alone_and_lowers_its_loss():
    backbone = random_backbone()
    frozen = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    lora = TrainableLora(backbone, learning_rate=1e-2)
    first = predict(backbone).square().mean()
    for _ in range(10):
        train_step(lora, backbone)
    with lora.active():
        assert predict(backbone).square().mean() < 0.99 * first
    after = backbone.network.state_dict()
    kept = {name.replace(".base_layer", ""): value for name, value in after.items() if "lora_" not in name}
    assert kept.keys() == frozen.keys()
    assert all(torch.equal(kept[name], value) for name, value in frozen.items())
    assert not any(weight.requires_grad for weight in backbone.network.parameters())


def test_a_restored_lora_goes_on_to_the_same_bytes():
    backbones = [random_backbone(), random_backbone()]
    first, second = (TrainableLora(backbone) for backbone in backbones)
    for seed in range(3):
        train_step(first, backbones[0], seed)
    second.load_state_dict(first.state_dict())
    for lora, backbone in ((first, backbones[0]), (second, backbones[1])):
        train_step(lora, backbone, 7)
    weights = [lora.state_dict()["weights"] for lora in (first, second)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any(value.abs().max() > 0 for name, value in weights[0].items() if "lora_B" in name)


def test_half_precision_networks_have_a_float32_lora():
    backbone = random_backbone(dtype="bf16")
    lora = TrainableLora(backbone)
    train_step(lora, backbone)
    assert {value.dtype for value in lora.state_dict()["weights"].values()} == {torch.float32}
    with lora.active():
        assert torch.isfinite(predict(backbone)).all()


def test_a_lora_of_another_network_is_refused():
    lora = TrainableLora(random_backbone())
    with pytest.raises(ValueError, match="belongs to another network"):
        lora.load_state_dict({"weights": {"a": torch.zeros(1)}, "optimizer": {}})


def test_without_peft_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingPackageError) as error:
        TrainableLora(random_backbone())
    assert str(error.value) == "a LoRA trained beside the edit needs peft; expected peft >= 0.18; pip install peft"
