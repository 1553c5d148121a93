"""FreeU: the low-frequency projection is the FFT filter, the layers are the official ones, gradients pass."""

import pytest
import torch

from threestudio_ssd.diffusion import FreeU, random_backbone
from threestudio_ssd.diffusion.costs.architectures import ARCHITECTURES
from threestudio_ssd.diffusion.freeu import apply_freeu, hidden_channels, low_frequencies
from threestudio_ssd.errors import ConfigError


def fft_filter(features, scale):
    """The filter as its authors define it: the centre 2x2 of the shifted spectrum times `scale`, in float64."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(features.double(), dim=(-2, -1)), dim=(-2, -1))
    height, width = features.shape[-2:]
    mask = torch.ones(height, width, dtype=torch.float64)
    mask[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = scale
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1)), dim=(-2, -1)).real


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 64), (5, 7), (12, 2), (2, 2), (3, 16)])
@pytest.mark.parametrize("scale", [0.2, 0.9])
def test_the_projection_is_the_fft_filter(generator, height, width, scale):
    features = torch.randn(2, 3, height, width, generator=generator)
    found = features + (scale - 1) * low_frequencies(features)
    assert torch.allclose(found.double(), fft_filter(features, scale), atol=2e-6)


def test_half_of_the_channels_and_the_skip_are_scaled(generator):
    hidden, skip = torch.randn(1, 6, 4, 4, generator=generator), torch.randn(1, 2, 4, 4, generator=generator)
    joined = apply_freeu(hidden, skip, 1.5, 0.2)
    assert torch.equal(joined[:, :3], hidden[:, :3] * 1.5)
    assert torch.equal(joined[:, 3:6], hidden[:, 3:])
    assert torch.allclose(joined[:, 6:].double(), fft_filter(skip, 0.2), atol=1e-6)
    assert torch.allclose(apply_freeu(hidden, skip, 1.0, 1.0), torch.cat([hidden, skip], dim=1))


def test_gradcheck():
    hidden = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    skip = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h, s: apply_freeu(h, s, 1.4, 0.3), (hidden, skip))


def test_the_layers_of_stable_diffusion_are_the_official_ones():
    """Seven layers see 1280 channels (up blocks 0, 1 and the first layer of 2), three see 640."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**ARCHITECTURES["sd15"].network)
    assert [channels for _, channels in hidden_channels(unet)] == [1280] * 7 + [640] * 3 + [320] * 2


def reference_unet(unet, latents, timesteps, hidden, freeu):
    """The official rule as a patch of torch.cat inside the up blocks, with the FFT filter."""
    widest, second = sorted({*unet.config.block_out_channels}, reverse=True)[:2]
    cat = torch.cat

    def patched(tensors, dim=0):
        if len(tensors) == 2 and dim == 1 and tensors[0].dim() == 4:
            features, skip = tensors
            scales = {widest: (freeu.b1, freeu.s1), second: (freeu.b2, freeu.s2)}.get(features.shape[1])
            if scales is not None:
                features = features.clone()
                features[:, : features.shape[1] // 2] *= scales[0]
                tensors = features, fft_filter(skip, scales[1]).float()
        return cat(tensors, dim=dim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "cat", patched)
        return unet(latents, timesteps, hidden).sample


def test_paper_equals_the_official_patch(generator):
    freeu = FreeU("paper", b1=1.5, b2=1.6, s1=0.9, s2=0.2)
    with_freeu, plain = random_backbone(freeu=freeu), random_backbone()
    latents, prompts = torch.randn(1, 4, 8, 8, generator=generator), plain.encode_prompts(["a"])
    timesteps = torch.tensor([300])
    expected = reference_unet(plain.network, latents, timesteps, prompts.hidden, freeu)
    found = with_freeu.predict_noise(latents, timesteps, prompts)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, plain.predict_noise(latents, timesteps, prompts), atol=1e-3)


def test_gradients_pass_through_paper(generator):
    backbone = random_backbone(freeu={"kind": "paper", "b1": 1.3})
    latents = torch.randn(1, 4, 8, 8, generator=generator, requires_grad=True)
    backbone.predict_noise(latents, 300, backbone.encode_prompts(["a"]), with_grad=True).sum().backward()
    assert latents.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["paper", "diffusers"])
def test_scales_of_one_change_nothing(generator, kind):
    freeu = {"kind": kind, "b1": 1, "b2": 1, "s1": 1, "s2": 1}
    plain = random_backbone()
    latents, prompts = torch.randn(2, 4, 8, 8, generator=generator), plain.encode_prompts(["", "a"])
    found = random_backbone(freeu=freeu).predict_noise(latents, 300, prompts)
    assert torch.allclose(found, plain.predict_noise(latents, 300, prompts), atol=1e-5)


def test_off_is_off(generator):
    plain, off = random_backbone(), random_backbone(freeu={"kind": "none", "b1": 9.0})
    latents, prompts = torch.randn(2, 4, 8, 8, generator=generator), plain.encode_prompts(["", "a"])
    assert torch.equal(off.predict_noise(latents, 3, prompts), plain.predict_noise(latents, 3, prompts))


def test_diffusers_equals_enable_freeu(generator):
    plain = random_backbone()
    latents, prompts = torch.randn(1, 4, 8, 8, generator=generator), plain.encode_prompts(["a"])
    found = random_backbone(freeu={"kind": "diffusers", "s2": 0.5}).predict_noise(latents, 300, prompts)
    plain.network.enable_freeu(s1=0.9, s2=0.5, b1=1.1, b2=1.1)
    assert torch.equal(found, plain.predict_noise(latents, 300, prompts))


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError) as caught:
        FreeU.of({"kind": "paper", "b3": 1})
    assert str(caught.value) == (
        "freeu.b3 is not a FreeU setting; expected some of kind, b1, b2, s1, s2; remove freeu.b3"
    )
    with pytest.raises(ConfigError) as caught:
        FreeU.of({"kind": "papers"})
    assert str(caught.value) == "freeu.kind is 'papers'; expected none, paper or diffusers; set freeu.kind=none"
    with pytest.raises(ConfigError) as caught:
        random_backbone(kind="sd3", freeu={"kind": "paper"})
    assert str(caught.value) == (
        "freeu.kind=paper with a SD3Transformer2DModel, which has no skip connections; "
        "expected a U-Net (SD 1.x, 2.x, XL, InstructPix2Pix); set freeu.kind=none"
    )
