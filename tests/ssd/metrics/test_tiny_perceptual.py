"""The offline perceptual distance: zero for equal pictures, larger for worse ones, local in a region."""

import torch

from threestudio_ssd.metrics import tiny_perceptual_distance


def test_a_worse_edit_scores_higher(random_clip, pictures, noise):
    values = [
        tiny_perceptual_distance((pictures + level * noise).clamp(0, 1), pictures, model=random_clip)
        for level in (0, 0.02, 0.3)
    ]
    assert (values[0] == 0).all()
    assert (values[0] < values[1]).all()
    assert (values[1] < values[2]).all()


def test_agrees_with_cosines_layer_by_layer(random_clip, pictures):
    first, second = pictures[..., :32, :32], pictures[..., 16:, 16:]
    distances = []
    for layer in (1, 2):
        features = [
            random_clip.network.vision_model(pixel_values=random_clip.prepare(stack), output_hidden_states=True)
            .hidden_states[layer][:, 1:]
            .double()
            for stack in (first, second)
        ]
        distances.append(1 - torch.cosine_similarity(*features, dim=-1))
    expected = torch.stack(distances).mean((0, 2)).float()
    torch.testing.assert_close(tiny_perceptual_distance(first, second, model=random_clip), expected)


def test_a_region_weighs_its_own_patches(random_clip, pictures):
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, 16:32, 16:32] = True
    edited = torch.where(masks[:, None], 1 - pictures, pictures)
    inside = tiny_perceptual_distance(edited, pictures, masks, model=random_clip)
    assert (inside > tiny_perceptual_distance(edited, pictures, model=random_clip)).all()
    assert (tiny_perceptual_distance(edited, pictures, ~masks, model=random_clip) == 0).all()


def test_carries_gradient(random_clip, pictures):
    edited = (1 - pictures).requires_grad_()
    tiny_perceptual_distance(edited, pictures, model=random_clip).sum().backward()
    assert edited.grad.abs().sum() > 0
