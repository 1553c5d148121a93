"""``rasterization`` for CPU tensors: checks and flattens the arguments, runs the stages, fills ``meta``."""

import math

import numpy as np
import torch
from torch import Tensor

from .autograd import Blend, Options, Project, TileLists, tile_grid
from .camera_models import CAMERA_MODELS

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
MAX_SH_DEGREE = 4


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _flat(tensor: Tensor, *tail: int) -> Tensor:
    """Float32 with all leading dimensions in one; the tensor itself if it is that (sparse gradients need it)."""
    if tensor.dtype != torch.float32:
        tensor = tensor.float()
    return tensor if tensor.dim() == 1 + len(tail) and tensor.shape[1:] == tail else tensor.reshape(-1, *tail)


def _check_shapes(batch, n, c, quats, scales, covars, opacities, colors, viewmats, Ks, sh_degree, backgrounds) -> None:
    def expect(name: str, tensor: Tensor, *shapes: tuple) -> None:
        _check(tuple(tensor.shape) in shapes, f"{name} has shape {tuple(tensor.shape)}; expected {shapes}")

    if covars is None:
        expect("quats", quats, (*batch, n, 4))
        expect("scales", scales, (*batch, n, 3))
    else:
        expect("covars", covars, (*batch, n, 3, 3))
    expect("opacities", opacities, (*batch, n))
    expect("viewmats", viewmats, (*batch, c, 4, 4))
    expect("Ks", Ks, (*batch, c, 3, 3))
    if sh_degree is None:
        d = colors.shape[-1]
        expect("colors", colors, (*batch, n, d), (*batch, c, n, d))
    else:
        _check(0 <= sh_degree <= MAX_SH_DEGREE, f"sh_degree is {sh_degree}; expected 0 to {MAX_SH_DEGREE}")
        k = colors.shape[-2]
        expect("colors (SH coefficients)", colors, (*batch, n, k, 3), (*batch, c, n, k, 3))
        _check((sh_degree + 1) ** 2 <= k, f"sh_degree {sh_degree} needs {(sh_degree + 1) ** 2} coefficients, got {k}")
        d = 3
    if backgrounds is not None:
        expect("backgrounds", backgrounds, (*batch, c, d))


def rasterization_cpu(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *, near_plane, far_plane, radius_clip, eps2d,
    sh_degree, packed, tile_size, backgrounds, render_mode, sparse_grad, absgrad, rasterize_mode, channel_chunk,
    camera_model, covars,
) -> tuple[Tensor, Tensor, dict]:  # fmt: skip
    """The arguments that ``interface.rasterization`` has left after refusing what the CPU does not do."""
    batch, n, c = tuple(means.shape[:-2]), means.shape[-2], viewmats.shape[-3]
    _check(means.shape[-1] == 3, f"means has shape {tuple(means.shape)}; expected (..., n, 3)")
    _check(render_mode in RENDER_MODES, f"render_mode is {render_mode!r}; expected one of {RENDER_MODES}")
    _check(camera_model in CAMERA_MODELS, f"camera_model is {camera_model!r}; expected one of {tuple(CAMERA_MODELS)}")
    _check(
        rasterize_mode in ("classic", "antialiased"),
        f"rasterize_mode is {rasterize_mode!r}; expected 'classic' or 'antialiased'",
    )
    _check(width > 0 and height > 0, f"image size is {width} x {height}; expected positive numbers of pixels")
    _check_shapes(batch, n, c, quats, scales, covars, opacities, colors, viewmats, Ks, sh_degree, backgrounds)
    _check(not sparse_grad or (packed and not batch), "sparse_grad needs packed=True and no batch dimensions")
    num_batches = math.prod(batch)
    num_images = num_batches * c
    if covars is not None:
        quats = scales = None

    tail = 2 if sh_degree is None else 3
    is_color_per_view = colors.dim() == len(batch) + tail + 1
    color_shape = (colors.shape[-1], 1) if sh_degree is None else tuple(colors.shape[-2:])
    has_colors = render_mode not in ("D", "ED")
    if has_colors:
        flat_colors = _flat(colors, *color_shape)
    else:  # colours are not looked at
        flat_colors, sh_degree, is_color_per_view = torch.empty(num_batches * n, 0, 1), None, False
    viewmats, Ks = _flat(viewmats, 4, 4), _flat(Ks, 3, 3)
    # only colours that depend on the direction need the camera's position
    centers = torch.linalg.inv(viewmats)[:, :3, 3] if sh_degree else viewmats[:, :3, 3].detach()
    options = Options(
        num_cameras=c, width=float(width), height=float(height), near_plane=float(near_plane),
        far_plane=float(far_plane), radius_clip=float(radius_clip), eps2d=float(eps2d),
        camera_model=CAMERA_MODELS[camera_model], sh_degree=-1 if sh_degree is None else int(sh_degree),
        is_antialiased=rasterize_mode == "antialiased", has_covars=covars is not None,
        is_color_per_view=is_color_per_view,
    )  # fmt: skip
    projected = Project.apply(
        _flat(means, 3),
        None if quats is None else _flat(quats, 4),
        None if scales is None else _flat(scales, 3),
        None if covars is None else _flat(covars, 3, 3),
        _flat(opacities),
        flat_colors, viewmats, Ks, centers, options, packed, sparse_grad,
    )  # fmt: skip
    means2d, depths, conics, geometry, view_opacities, rgbs, radii, slots, images, gaussian_ids, num_skipped = projected

    tiles_wide, tiles_high = tile_grid(width, height, tile_size)
    lists = TileLists(
        slots.numpy(), images.numpy(), geometry.detach().numpy(), means2d.detach().numpy(), depths.detach().numpy(),
        num_images, tile_size, tiles_wide, tiles_high,
    )  # fmt: skip
    dims = () if packed else (*batch, c, n)

    def shaped(tensor: Tensor) -> Tensor:
        return tensor if packed else tensor.reshape(*dims, *tensor.shape[1:])

    means2d_out = shaped(means2d)
    batch_ids = camera_ids = None
    if packed:  # by numpy: after each of its own loops torch's threads wait busily, in the way of the kernels'
        batch_ids, camera_ids = (torch.from_numpy(part) for part in np.divmod(images.numpy().astype(np.int64), c))
    meta = {
        "batch_ids": batch_ids,
        "camera_ids": camera_ids,
        "gaussian_ids": gaussian_ids if packed else None,
        "radii": shaped(radii),
        "means2d": means2d_out,
        "depths": shaped(depths),
        "conics": shaped(conics),
        "opacities": shaped(view_opacities),
        "tile_width": tiles_wide,
        "tile_height": tiles_high,
        "tiles_per_gauss": shaped(torch.from_numpy(lists.num_tiles)),
        "isect_ids": torch.from_numpy(lists.keys),
        "flatten_ids": torch.from_numpy(lists.pairs),
        "isect_offsets": torch.from_numpy(lists.offsets[:-1]).int().reshape(*batch, c, tiles_high, tiles_wide),
        "width": width,
        "height": height,
        "tile_size": tile_size,
        "n_batches": num_batches,
        "n_cameras": c,
        "n_skipped": num_skipped,
    }

    channels = rgbs
    if render_mode in ("RGB+D", "RGB+ED"):
        channels = torch.cat([rgbs, depths[:, None]], dim=-1)
    elif not has_colors:
        channels = depths[:, None]
    if backgrounds is not None:
        backgrounds = backgrounds.reshape(num_images, -1).float()
        zeros = backgrounds.new_zeros(num_images, 1)
        if render_mode in ("RGB+D", "RGB+ED"):
            backgrounds = torch.cat([backgrounds, zeros], dim=-1)
        elif not has_colors:
            backgrounds = zeros
    blend_means = means2d_out if packed else means2d_out.reshape(-1, 2)
    parts = []
    for start in range(0, max(channels.shape[1], 1), channel_chunk):
        pick = slice(start, start + channel_chunk)
        whole = channels.shape[1] <= channel_chunk
        part_background = backgrounds if whole or backgrounds is None else backgrounds[:, pick]
        part = channels if whole else channels[:, pick]
        absgrad_of = means2d_out if absgrad else None
        inputs = blend_means, geometry, view_opacities, part, part_background
        parts.append(Blend.apply(*inputs, lists, num_images, width, height, absgrad_of))
    render_colors = parts[0][0] if len(parts) == 1 else torch.cat([part[0] for part in parts], dim=-1)
    render_alphas = parts[0][1]
    if render_mode in ("ED", "RGB+ED"):
        expected = render_colors[..., -1:] / render_alphas.clamp(min=1e-10)
        render_colors = torch.cat([render_colors[..., :-1], expected], dim=-1)
    shape = (*batch, c, height, width)
    return render_colors.reshape(*shape, -1), render_alphas.reshape(*shape, 1), meta
