"""``rasterization``: gsplat 1.5.3's call, on GPUs through gsplat or mpsplat, else by the kernels beside this file."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError
from .backends import backend_of, gpu_rasterization


class GlobalShutter:
    """The default of ``rolling_shutter``: equal to gsplat's ``RollingShutterType.GLOBAL`` without importing gsplat."""

    name, value = "GLOBAL", 4

    def __eq__(self, other: object) -> bool:
        return getattr(other, "name", None) == self.name and getattr(other, "value", None) == self.value

    def __hash__(self) -> int:
        return hash("GLOBAL")

    def __repr__(self) -> str:
        return "RollingShutterType.GLOBAL"


GLOBAL_SHUTTER = GlobalShutter()


def rasterization(
    means: Float[Tensor, "*batch n 3"],
    quats: Float[Tensor, "*batch n 4"] | None,
    scales: Float[Tensor, "*batch n 3"] | None,
    opacities: Float[Tensor, "*batch n"],
    colors: Float[Tensor, "..."],
    viewmats: Float[Tensor, "*batch c 4 4"],
    Ks: Float[Tensor, "*batch c 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = True,
    tile_size: int = 16,
    backgrounds: Float[Tensor, "*batch c d"] | None = None,
    render_mode: Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"] = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    channel_chunk: int = 32,
    distributed: bool = False,
    camera_model: Literal["pinhole", "ortho", "fisheye", "ftheta"] = "pinhole",
    segmented: bool = False,
    covars: Float[Tensor, "*batch n 3 3"] | None = None,
    with_ut: bool = False,
    with_eval3d: bool = False,
    radial_coeffs: Float[Tensor, "*batch c _"] | None = None,
    tangential_coeffs: Float[Tensor, "*batch c 2"] | None = None,
    thin_prism_coeffs: Float[Tensor, "*batch c 4"] | None = None,
    ftheta_coeffs: object | None = None,
    rolling_shutter: object = GLOBAL_SHUTTER,
    viewmats_rs: Float[Tensor, "*batch c 4 4"] | None = None,
) -> tuple[Tensor, Tensor, dict]:
    """Render Gaussians into every camera of their batch element, differentiably.

    CUDA tensors are handed to gsplat unchanged, and MPS tensors to mpsplat. All others are rendered on the CPU, with
    the same arguments, defaults and results; so are those of a GPU whose rasteriser cannot be had: images and alphas
    then return to the GPU, while ``meta`` stays on the CPU. The CPU's is differentiable in means, quats, scales,
    opacities, colors, viewmats, backgrounds and covars. Gaussians whose parameters or projection are not finite are
    left out and counted in ``meta["n_skipped"]``.

    Args:
        means: Centres, world units.
        quats: Rotations, wxyz, of any length but zero. Ignored with ``covars``.
        scales: Standard deviations, world units (not logs). Ignored with ``covars``.
        opacities: In [0, 1] (not logits).
        colors: (*batch, [c,] n, d) any d channels; with ``sh_degree``, (*batch, [c,] n, k, 3) SH coefficients.
        viewmats: World to camera, OpenCV axes.
        Ks: Intrinsics, pixels. No gradient.
        width, height: Image size, pixels.
        near_plane, far_plane: Depths outside are not drawn, world units.
        radius_clip: Gaussians whose radius is at most this are not drawn, pixels.
        eps2d: Added to the diagonal of the image covariance, pixels squared.
        sh_degree: Degree to evaluate, 0 to 4; None: colours are given.
        packed: Whether ``meta`` lists visible Gaussians only, or (c, n) entries.
        tile_size: Edge of a tile, pixels.
        backgrounds: Colour behind everything; depth channels have 0.
        render_mode: Colour, depth ("D": sum of weights times z; "ED": divided by alpha), or both (depth last).
        sparse_grad: With ``packed``: sparse gradients of means, quats and scales.
        absgrad: Also sum absolute gradients of 2D means, into ``meta["means2d"].absgrad`` (AbsGS).
        rasterize_mode: "antialiased" scales opacities as Mip-Splatting does.
        channel_chunk: Channels blended in one go.
        camera_model: "pinhole", "ortho" or "fisheye" on the CPU.
        segmented: How CUDA sorts; no effect here.
        covars: World covariances in place of quats and scales; the upper triangle is read.
        distributed, with_ut, with_eval3d, radial_coeffs, tangential_coeffs, thin_prism_coeffs, ftheta_coeffs,
        rolling_shutter, viewmats_rs: CUDA only.

    Returns:
        Images (*batch, c, h, w, channels), alphas (*batch, c, h, w, 1), and gsplat's ``meta`` dictionary.

    Raises:
        ConfigError: If an option is asked for that the CPU does not have.
        ValueError: If shapes do not fit together.
    """
    backend = backend_of(means.device.type)
    if backend != "cpu":
        shutter = {} if rolling_shutter is GLOBAL_SHUTTER else {"rolling_shutter": rolling_shutter}
        return gpu_rasterization(backend)(
            means=means, quats=quats, scales=scales, opacities=opacities, colors=colors, viewmats=viewmats, Ks=Ks,
            width=width, height=height, near_plane=near_plane, far_plane=far_plane, radius_clip=radius_clip,
            eps2d=eps2d, sh_degree=sh_degree, packed=packed, tile_size=tile_size, backgrounds=backgrounds,
            render_mode=render_mode, sparse_grad=sparse_grad, absgrad=absgrad, rasterize_mode=rasterize_mode,
            channel_chunk=channel_chunk, distributed=distributed, camera_model=camera_model, segmented=segmented,
            covars=covars, with_ut=with_ut, with_eval3d=with_eval3d, radial_coeffs=radial_coeffs,
            tangential_coeffs=tangential_coeffs, thin_prism_coeffs=thin_prism_coeffs, ftheta_coeffs=ftheta_coeffs,
            viewmats_rs=viewmats_rs, **shutter,
        )  # fmt: skip
    cuda_only = {
        "distributed": distributed,
        "camera_model='ftheta'": camera_model == "ftheta",
        "with_ut": with_ut,
        "with_eval3d": with_eval3d,
        "radial_coeffs": radial_coeffs is not None,
        "tangential_coeffs": tangential_coeffs is not None,
        "thin_prism_coeffs": thin_prism_coeffs is not None,
        "ftheta_coeffs": ftheta_coeffs is not None,
        "rolling_shutter": rolling_shutter != GLOBAL_SHUTTER,
        "viewmats_rs": viewmats_rs is not None,
    }
    for option, is_asked in cuda_only.items():
        if is_asked:
            raise ConfigError(
                what=f"rasterization: {option} is not available on the CPU",
                expected="an option of the CPU rasteriser (docs/rasterizer.md lists them)",
                fix=f"leave out {option.split('=')[0]}, or render on a CUDA device",
            )
    from .cpu import rasterization_cpu  # numba takes half a second to import; CUDA users do not need it

    means_, quats_, scales_, opacities_, colors_, viewmats_, Ks_, backgrounds_, covars_ = (
        None if each is None else each.cpu()
        for each in (means, quats, scales, opacities, colors, viewmats, Ks, backgrounds, covars)
    )
    images, alphas, meta = rasterization_cpu(
        means_, quats_, scales_, opacities_, colors_, viewmats_, Ks_, width, height, near_plane=near_plane,
        far_plane=far_plane, radius_clip=radius_clip, eps2d=eps2d, sh_degree=sh_degree, packed=packed,
        tile_size=tile_size, backgrounds=backgrounds_, render_mode=render_mode, sparse_grad=sparse_grad,
        absgrad=absgrad, rasterize_mode=rasterize_mode, channel_chunk=channel_chunk, camera_model=camera_model,
        covars=covars_,
    )  # fmt: skip
    return images.to(means.device), alphas.to(means.device), meta
