"""Projection: 3D Gaussians to 2D, culling, colour from spherical harmonics; and the way back.

Kerbl et al. 2023, "3D Gaussian Splatting", section 4; Zwicker et al. 2001 for the covariance; Radl et al. 2024,
"StopThePop", appendix B.2, for the opacity-aware extent. Arithmetic is float64, storage float32: a long thin Gaussian
has a covariance whose determinant cancels in float32. As many Gaussians as a vector has float64 lanes are projected at
once; what differs from one to the next (is it visible, where does it go) follows one by one.

The blending stage does not get the conic (inverse covariance), whose quadratic form cancels for the same reason, but
its *whitener*: the upper-triangular M with ``MtM = conic * log2(e) / 2``, as alpha, beta, gamma in

    u = alpha dx + beta dy,   w = gamma dy,   opacity(dx, dy) = 2 ** (log2_opacity - u**2 - w**2).

Its gradient travels back as second moments of (u, w), which ``project_backward`` turns into that of the covariance.
"""

import math
from typing import NamedTuple

import numpy as np

from .camera_models import NUM_SPILLED, project_points
from .compiling import inline, kernel
from .simd import DOUBLES, gather, larger, lesser, log2, round_up, splat_double, square_root, store_doubles
from .spherical_harmonics import new_basis, sh_basis, sh_color

CHUNK = 1024
"""Gaussians in one unit of work. Fixed: sums over chunks must not depend on the number of threads."""
MIN_ALPHA = 1.0 / 255.0
LOG2_MIN_ALPHA = math.log2(MIN_ALPHA)
LN2 = math.log(2.0)
WHITENER_SCALE = math.sqrt(0.5 / LN2)
MAX_EXTENT = 3.33
"""Standard deviations at which an opaque Gaussian falls to MIN_ALPHA, as gsplat rounds it."""
MAX_RADIUS = 1.0e9
MIN_WHITENER = 1.0e-12
"""Keeps 1 / alpha and 1 / gamma finite for Gaussians of more than a billion pixels."""
NUM_GEOMETRY = 11
"""Columns before the colours: u v depth | conic (3) | alpha beta gamma log2_opacity | opacity."""

_NUM_COLUMNS = NUM_GEOMETRY + 5


class Options(NamedTuple):
    """What is the same for all Gaussians of one call."""

    num_cameras: int
    width: float
    height: float
    near_plane: float
    far_plane: float
    radius_clip: float
    eps2d: float
    camera_model: int
    sh_degree: int
    """-1: colours are given, not evaluated."""
    is_antialiased: bool
    has_covars: bool
    is_color_per_view: bool


@inline
def _covariance(has_covars, rows, at, quats, scales, covars):
    """World covariance, upper triangle."""
    if has_covars:
        return (
            gather(covars, rows, at, 9, 0), gather(covars, rows, at, 9, 1), gather(covars, rows, at, 9, 2),
            gather(covars, rows, at, 9, 4), gather(covars, rows, at, 9, 5), gather(covars, rows, at, 9, 8),
        )  # fmt: skip
    w, x, y, z, _ = _unit_quaternions(quats, rows, at)
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(w, x, y, z)
    a, b, c = gather(scales, rows, at, 3, 0), gather(scales, rows, at, 3, 1), gather(scales, rows, at, 3, 2)
    a, b, c = a * a, b * b, c * c
    return (
        a * r00 * r00 + b * r01 * r01 + c * r02 * r02,
        a * r00 * r10 + b * r01 * r11 + c * r02 * r12,
        a * r00 * r20 + b * r01 * r21 + c * r02 * r22,
        a * r10 * r10 + b * r11 * r11 + c * r12 * r12,
        a * r10 * r20 + b * r11 * r21 + c * r12 * r22,
        a * r20 * r20 + b * r21 * r21 + c * r22 * r22,
    )


@inline
def _unit_quaternions(quats, rows, at):
    w, x, y, z = (
        gather(quats, rows, at, 4, 0), gather(quats, rows, at, 4, 1), gather(quats, rows, at, 4, 2),
        gather(quats, rows, at, 4, 3),
    )  # fmt: skip
    inverse = 1.0 / square_root(w * w + x * x + y * y + z * z)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@inline
def _rotation(w, x, y, z):
    """Rotation matrix of a unit quaternion, row by row."""
    return (
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip


@inline
def _whitener(s00, s01, s11, det):
    """alpha, beta, gamma of the module docstring, from the image covariance."""
    alpha, beta, gamma = square_root(s11 / det), -s01 / square_root(s11 * det), 1.0 / square_root(s11)
    return WHITENER_SCALE * alpha, WHITENER_SCALE * beta, WHITENER_SCALE * gamma


@inline
def copy_view(viewmats, image, view):
    """One view matrix in float64. (A loop: slice assignment compiles numba's error messages along with it.)"""
    for row in range(4):
        for column in range(4):
            view[row, column] = viewmats[image, row, column]


@inline
def pad_rows(rows, count):
    """Repeat the last of some row numbers until they fill their last vector."""
    for i in range(count, -(-count // DOUBLES) * DOUBLES):
        rows[i] = rows[count - 1]


@inline
def world_to_camera(view, x, y, z):
    """Camera space from world space; numbers or vectors of them."""
    return (
        view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3],
        view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3],
        view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3],
    )


@inline
def _image_axes(view, j00, j01, j02, j10, j11, j12):
    """T = J W, the 2x3 map from world offsets to image offsets."""
    return (
        j00 * view[0, 0] + j01 * view[1, 0] + j02 * view[2, 0],
        j00 * view[0, 1] + j01 * view[1, 1] + j02 * view[2, 1],
        j00 * view[0, 2] + j01 * view[1, 2] + j02 * view[2, 2],
        j10 * view[0, 0] + j11 * view[1, 0] + j12 * view[2, 0],
        j10 * view[0, 1] + j11 * view[1, 1] + j12 * view[2, 1],
        j10 * view[0, 2] + j11 * view[1, 2] + j12 * view[2, 2],
    )


@inline
def _times_covariance(a, b, c, s00, s01, s02, s11, s12, s22):
    """Row vector (a, b, c) times a symmetric matrix."""
    return a * s00 + b * s01 + c * s02, a * s01 + b * s11 + c * s12, a * s02 + b * s12 + c * s22


@inline
def viewing_direction(means, g, centers, image):
    """Unit vector from the camera to a Gaussian, and the inverse of its length."""
    dx, dy = np.float64(means[g, 0]) - centers[image, 0], np.float64(means[g, 1]) - centers[image, 1]
    dz = np.float64(means[g, 2]) - centers[image, 2]
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    inverse = 1.0 / length if length > 0.0 else 0.0
    return dx * inverse, dy * inverse, dz * inverse, inverse


@inline
def _clamped(value):
    """Not below 0; a NaN must survive the clamp, to be seen and skipped."""
    return 0.0 if value < 0.0 else value


@inline
def _project(options, camera, view, members, member, means, quats, scales, covars, opacities, spilled, columns):
    """A vector of Gaussians into one camera.

    Args:
        camera: fx, fy, cx, cy, pixels.
        members, member: The Gaussians are ``members[member:]``.
        columns: Out (_NUM_COLUMNS, lanes): those of ``NUM_GEOMETRY``, then the radii, determinant and diagonal of the
            image covariance.
    """
    fx, fy, cx, cy = camera
    x, y, z = world_to_camera(
        view, gather(means, members, member, 3, 0), gather(means, members, member, 3, 1),
        gather(means, members, member, 3, 2),
    )  # fmt: skip
    u, v, j00, j01, j02, j10, j11, j12 = project_points(
        options.camera_model, x, y, z, fx, fy, cx, cy, options.width, options.height, spilled
    )
    s00, s01, s02, s11, s12, s22 = _covariance(options.has_covars, members, member, quats, scales, covars)
    a0, a1, a2, b0, b1, b2 = _image_axes(view, j00, j01, j02, j10, j11, j12)
    p0, p1, p2 = _times_covariance(a0, a1, a2, s00, s01, s02, s11, s12, s22)
    q0, q1, q2 = _times_covariance(b0, b1, b2, s00, s01, s02, s11, s12, s22)
    c00, c01, c11 = p0 * a0 + p1 * a1 + p2 * a2, p0 * b0 + p1 * b1 + p2 * b2, q0 * b0 + q1 * b1 + q2 * b2
    det_sharp = c00 * c11 - c01 * c01
    c00, c11 = c00 + options.eps2d, c11 + options.eps2d
    det = c00 * c11 - c01 * c01
    opacity = gather(opacities, members, member, 1, 0)
    if options.is_antialiased:
        opacity *= square_root(larger(det_sharp / det, splat_double(0.0)))
    log2_opacity = log2(opacity)
    extent = lesser(square_root((log2_opacity - LOG2_MIN_ALPHA) * (2.0 * LN2)), splat_double(MAX_EXTENT))
    largest = splat_double(MAX_RADIUS)
    alpha, beta, gamma = _whitener(c00, c01, c11, det)
    smallest = splat_double(MIN_WHITENER)
    results = (
        u, v, z, c11 / det, -c01 / det, c00 / det, larger(alpha, smallest), beta, larger(gamma, smallest),
        log2_opacity, opacity, lesser(round_up(extent * square_root(c00)), largest),
        lesser(round_up(extent * square_root(c11)), largest), det, c00, c11,
    )  # fmt: skip
    for k in range(_NUM_COLUMNS):
        store_doubles(columns, k * DOUBLES, results[k])


@kernel
def project_forward(
    first, last, options, means, quats, scales, covars, opacities, colors, viewmats, Ks, centers,
    rows, ids, radii, counts, num_skipped,
):  # fmt: skip
    """Project chunks of Gaussians into every camera of their batch; keep the visible ones, in order.

    Args:
        first, last: Range of units; a unit is (batch element, chunk of Gaussians).
        colors: (b*n, d, 1) or per view (i*n, d, 1); with SH, (..., k, 3).
        centers: Camera positions (i, 3) for the viewing direction.
        rows: Out (i*n, NUM_GEOMETRY + d), filled compactly from the start of each chunk.
        ids: Out (i*n): index within the batch element, parallel to rows.
        radii: Out (i*n, 2), parallel to rows.
        counts: Out (i, chunks): visible Gaussians.
        num_skipped: Out (units): Gaussians with a parameter or projection that is not finite.
    """
    num_gaussians = means.shape[0] * options.num_cameras // max(viewmats.shape[0], 1)
    num_chunks = counts.shape[1]
    num_channels = rows.shape[1] - NUM_GEOMETRY
    basis, view, spilled = new_basis(), np.empty((4, 4), np.float64), np.empty(NUM_SPILLED, np.float64)
    is_bad, members = np.empty(CHUNK, np.bool_), np.empty(CHUNK + DOUBLES, np.int64)
    columns = np.empty((_NUM_COLUMNS, DOUBLES), np.float64)
    for unit in range(first, last):
        batch, chunk = unit // num_chunks, unit % num_chunks
        start, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, num_gaussians)
        for k in range(CHUNK):
            is_bad[k] = False
        for image in range(batch * options.num_cameras, (batch + 1) * options.num_cameras):
            copy_view(viewmats, image, view)
            camera = (np.float64(Ks[image, 0, 0]), np.float64(Ks[image, 1, 1]),
                      np.float64(Ks[image, 0, 2]), np.float64(Ks[image, 1, 2]))  # fmt: skip
            count = 0
            for n in range(start, stop):
                g = batch * num_gaussians + n
                x, y, z = world_to_camera(view, means[g, 0], means[g, 1], means[g, 2])
                if not math.isfinite(x + y + z):
                    is_bad[n - start] = True
                elif options.near_plane <= z <= options.far_plane:
                    members[count] = g
                    count += 1
            pad_rows(members, count)
            at = image * num_gaussians + start
            for member in range(0, count, DOUBLES):
                _project(
                    options, camera, view, members, member, means, quats, scales, covars, opacities, spilled, columns
                )
                for i in range(min(DOUBLES, count - member)):
                    g = members[member + i]
                    n = g - batch * num_gaussians
                    u, v, opacity, rx, ry = columns[0, i], columns[1, i], columns[10, i], columns[11, i], columns[12, i]
                    det, c00, c11 = columns[13, i], columns[14, i], columns[15, i]
                    if not math.isfinite(u + v + columns[2, i] + det + opacity):
                        is_bad[n - start] = True
                        continue
                    if det <= 0.0 or c00 <= 0.0 or c11 <= 0.0 or opacity < MIN_ALPHA:
                        continue
                    if rx <= options.radius_clip and ry <= options.radius_clip:
                        continue
                    if u + rx <= 0.0 or u - rx >= options.width or v + ry <= 0.0 or v - ry >= options.height:
                        continue
                    color = image * num_gaussians + n if options.is_color_per_view else g
                    if options.sh_degree < 0:
                        for k in range(num_channels):
                            rows[at, NUM_GEOMETRY + k] = colors[color, k, 0]
                    else:
                        if options.sh_degree > 0:
                            x, y, z, _ = viewing_direction(means, g, centers, image)
                            sh_basis(options.sh_degree, x, y, z, basis)
                        red, green, blue = sh_color(options.sh_degree, colors, color, basis)
                        rows[at, NUM_GEOMETRY] = _clamped(red)
                        rows[at, NUM_GEOMETRY + 1] = _clamped(green)
                        rows[at, NUM_GEOMETRY + 2] = _clamped(blue)
                    total = np.float32(0.0)
                    for k in range(num_channels):
                        total += rows[at, NUM_GEOMETRY + k]
                    if not math.isfinite(total):
                        is_bad[n - start] = True
                        continue
                    for k in range(NUM_GEOMETRY):
                        rows[at, k] = columns[k, i]
                    radii[at, 0], radii[at, 1] = int(rx), int(ry)
                    ids[at] = n
                    at += 1
            counts[image, chunk] = at - (image * num_gaussians + start)
        num_skipped[unit] = 0
        for k in range(CHUNK):
            num_skipped[unit] += is_bad[k]


@kernel
def gather_visible(
    first, last, num_gaussians, is_packed, starts, counts, rows, ids, radii,
    slots, images, visible_ids, out_radii, means2d, depths, conics, geometry, opacities, colors,
):  # fmt: skip
    """Move what each chunk kept to its place: one after the other (packed), or to (image, Gaussian).

    Args:
        first, last: Range of (image, chunk) segments.
        starts: (segments + 1) number of visible Gaussians before each segment.
        slots, images, visible_ids: Out, one entry a visible Gaussian: its place in the arrays that follow, its image,
            its index within the batch element.
    """
    num_chunks = counts.shape[1]
    for segment in range(first, last):
        image, chunk = segment // num_chunks, segment % num_chunks
        source = image * num_gaussians + chunk * CHUNK
        for at in range(starts[segment], starts[segment + 1]):
            row, n = rows[source], ids[source]
            slot = at if is_packed else image * num_gaussians + n
            slots[at], images[at], visible_ids[at] = slot, image, n
            out_radii[slot, 0], out_radii[slot, 1] = radii[source, 0], radii[source, 1]
            means2d[slot, 0], means2d[slot, 1], depths[slot] = row[0], row[1], row[2]
            conics[slot, 0], conics[slot, 1], conics[slot, 2] = row[3], row[4], row[5]
            for k in range(4):
                geometry[slot, k] = row[6 + k]
            opacities[slot] = row[10]
            for k in range(colors.shape[1]):
                colors[slot, k] = row[NUM_GEOMETRY + k]
            source += 1
