"""The way back from 2D Gaussians to 3D parameters and cameras: the transpose of ``project_forward``."""

import numpy as np

from .camera_models import NUM_SPILLED, project_points, project_points_vjp
from .compiling import inline, kernel
from .projection import (
    CHUNK,
    LN2,
    _covariance,
    _image_axes,
    _rotation,
    _times_covariance,
    _unit_quaternions,
    _whitener,
    copy_view,
    pad_rows,
    viewing_direction,
    world_to_camera,
)
from .simd import DOUBLES, gather, larger, splat_double, square_root, store_doubles
from .spherical_harmonics import new_basis, sh_basis, sh_color, sh_direction_vjp

_NUM_COLUMNS = 23


@inline
def _quaternion_scale_vjp(rows, at, quats, scales, v00, v01, v02, v11, v12, v22):
    """Gradient of quaternions (4) and scales (3), given that of ``R diag(scales)**2 Rt`` (a symmetric matrix)."""
    w, x, y, z, inverse = _unit_quaternions(quats, rows, at)
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = _rotation(w, x, y, z)
    a, b, c = gather(scales, rows, at, 3, 0), gather(scales, rows, at, 3, 1), gather(scales, rows, at, 3, 2)
    # V R, column by column; the covariance is the sum over columns r of scale**2 r rt
    p0, p1, p2 = _times_covariance(r00, r10, r20, v00, v01, v02, v11, v12, v22)
    q0, q1, q2 = _times_covariance(r01, r11, r21, v00, v01, v02, v11, v12, v22)
    s0, s1, s2 = _times_covariance(r02, r12, r22, v00, v01, v02, v11, v12, v22)
    va = 2.0 * a * (r00 * p0 + r10 * p1 + r20 * p2)
    vb = 2.0 * b * (r01 * q0 + r11 * q1 + r21 * q2)
    vc = 2.0 * c * (r02 * s0 + r12 * s1 + r22 * s2)
    a, b, c = 4.0 * a * a, 4.0 * b * b, 4.0 * c * c  # 2 from the square, 2 from the rotation's own factor
    p0, p1, p2, q0, q1, q2, s0, s1, s2 = a * p0, a * p1, a * p2, b * q0, b * q1, b * q2, c * s0, c * s1, c * s2
    vw = x * (q2 - s1) + y * (s0 - p2) + z * (p1 - q0)
    vx = -2.0 * x * (q1 + s2) + y * (p1 + q0) + z * (p2 + s0) + w * (q2 - s1)
    vy = x * (p1 + q0) - 2.0 * y * (p0 + s2) + z * (q2 + s1) + w * (s0 - p2)
    vz = x * (p2 + s0) + y * (q2 + s1) - 2.0 * z * (p0 + q1) + w * (p1 - q0)
    along = vw * w + vx * x + vy * y + vz * z  # the length of a quaternion changes nothing
    return (
        inverse * (vw - along * w), inverse * (vx - along * x), inverse * (vy - along * y), inverse * (vz - along * z),
        va, vb, vc,
    )  # fmt: skip


@inline
def _image_covariance_vjp(slots, at, s00, s01, s11, det, v_whitener, v_conics):
    """Gradient of the blurred image covariance (matrix entries) from the whitened moments and the conic."""
    alpha, beta, gamma = _whitener(s00, s01, s11, det)
    uu, uw, ww = (
        gather(v_whitener, slots, at, 4, 0),
        gather(v_whitener, slots, at, 4, 1),
        gather(v_whitener, slots, at, 4, 2),
    )
    scale = 2.0 * LN2 * LN2
    v00 = scale * alpha * alpha * uu
    v01 = scale * alpha * (beta * uu + gamma * uw)
    v11 = scale * (beta * beta * uu + 2.0 * beta * gamma * uw + gamma * gamma * ww)
    if v_conics.shape[0] > 0:  # d(C) = -C dS C
        a, b, c = s11 / det, -s01 / det, s00 / det
        va, vc = gather(v_conics, slots, at, 3, 0), gather(v_conics, slots, at, 3, 2)
        vb = 0.5 * gather(v_conics, slots, at, 3, 1)
        p0, p1, q0, q1 = a * va + b * vb, a * vb + b * vc, b * va + c * vb, b * vb + c * vc
        v00 -= p0 * a + p1 * b
        v01 -= p0 * b + p1 * c
        v11 -= q0 * b + q1 * c
    return v00, v01, v11


@inline
def _coefficients_vjp(degree, slot, color, colors, v_colors_in, basis, v_colors):
    """Add the gradient of SH coefficients; return that of the colour before its clamp."""
    red, green, blue = sh_color(degree, colors, color, basis)
    red = v_colors_in[slot, 0] if red >= 0.0 else np.float32(0.0)  # as torch.clamp_min: the border itself passes
    green = v_colors_in[slot, 1] if green >= 0.0 else np.float32(0.0)
    blue = v_colors_in[slot, 2] if blue >= 0.0 else np.float32(0.0)
    for k in range((degree + 1) ** 2):
        v_colors[color, k, 0] += basis[k] * red
        v_colors[color, k, 1] += basis[k] * green
        v_colors[color, k, 2] += basis[k] * blue
    return red, green, blue


@inline
def _color_vjp(degree, slot, color, colors, direction, v_colors_in, basis, dots, v_colors):
    """Add the gradient of SH coefficients; return that of the viewing direction (not normalised)."""
    x, y, z, inverse = direction
    sh_basis(degree, x, y, z, basis)
    red, green, blue = _coefficients_vjp(degree, slot, color, colors, v_colors_in, basis, v_colors)
    for k in range((degree + 1) ** 2):
        dots[k] = colors[color, k, 0] * red + colors[color, k, 1] * green + colors[color, k, 2] * blue
    vx, vy, vz = sh_direction_vjp(degree, x, y, z, dots)
    along = vx * x + vy * y + vz * z
    return inverse * (vx - along * x), inverse * (vy - along * y), inverse * (vz - along * z)


@inline
def _has_gradient(slot, v_means2d, v_depths, v_conics, v_whitener, v_opacities, v_colors):
    """Whether anything reached this Gaussian; the hidden ones are not worth projecting back."""
    if v_opacities[slot] != 0.0 or v_means2d[slot, 0] != 0.0 or v_means2d[slot, 1] != 0.0:
        return True
    if v_whitener[slot, 0] != 0.0 or v_whitener[slot, 1] != 0.0 or v_whitener[slot, 2] != 0.0:
        return True
    if v_depths.shape[0] > 0 and v_depths[slot] != 0.0:
        return True
    for k in range(3 if v_conics.shape[0] > 0 else 0):
        if v_conics[slot, k] != 0.0:
            return True
    for k in range(v_colors.shape[1]):
        if v_colors[slot, k] != 0.0:
            return True
    return False


@inline
def _project_back(
    options, camera, view, members, slots, member, means, quats, scales, covars, opacities,
    v_means2d, v_depths, v_conics, v_whitener, v_opacities_in, has_view_gradient, spilled, columns,
):  # fmt: skip
    """Gradients of a vector of Gaussians, from one camera.

    Args:
        members, slots, member: The Gaussians are ``members[member:]``; their gradients in 2D at ``slots[member:]``.
        columns: Out (_NUM_COLUMNS, lanes): of the mean, opacity, then quaternion and scales or the world covariance
            (upper triangle of a symmetric matrix), then of the upper 3x4 of the view matrix.
    """
    fx, fy, cx, cy = camera
    wx, wy, wz = (
        gather(means, members, member, 3, 0),
        gather(means, members, member, 3, 1),
        gather(means, members, member, 3, 2),
    )
    x, y, z = world_to_camera(view, wx, wy, wz)
    _, _, j00, j01, j02, j10, j11, j12 = project_points(
        options.camera_model, x, y, z, fx, fy, cx, cy, options.width, options.height, spilled
    )
    s00, s01, s02, s11, s12, s22 = _covariance(options.has_covars, members, member, quats, scales, covars)
    a0, a1, a2, b0, b1, b2 = _image_axes(view, j00, j01, j02, j10, j11, j12)
    p0, p1, p2 = _times_covariance(a0, a1, a2, s00, s01, s02, s11, s12, s22)
    q0, q1, q2 = _times_covariance(b0, b1, b2, s00, s01, s02, s11, s12, s22)
    c00, c01, c11 = p0 * a0 + p1 * a1 + p2 * a2, p0 * b0 + p1 * b1 + p2 * b2, q0 * b0 + q1 * b1 + q2 * b2
    d00, d11 = c00 + options.eps2d, c11 + options.eps2d
    det = d00 * d11 - c01 * c01
    v00, v01, v11 = _image_covariance_vjp(slots, member, d00, c01, d11, det, v_whitener, v_conics)

    v_opacity = gather(v_opacities_in, slots, member, 1, 0)
    if options.is_antialiased:
        ratio = larger(c00 * c11 - c01 * c01, splat_double(0.0)) / det
        compensation = square_root(ratio)
        opacity = gather(opacities, members, member, 1, 0)
        v_ratio = 0.5 * v_opacity * opacity / larger(compensation, splat_double(1e-12)) / det
        v00 += v_ratio * (c11 - ratio * d11)
        v01 -= v_ratio * c01 * (1.0 - ratio)
        v11 += v_ratio * (c00 - ratio * d00)
        v_opacity *= compensation
    store_doubles(columns, 3 * DOUBLES, v_opacity)

    # T = J W: V_world = Tt V T, V_T = 2 V T S
    ta0, ta1, ta2 = v00 * a0 + v01 * b0, v00 * a1 + v01 * b1, v00 * a2 + v01 * b2
    tb0, tb1, tb2 = v01 * a0 + v11 * b0, v01 * a1 + v11 * b1, v01 * a2 + v11 * b2
    w00, w01, w02 = a0 * ta0 + b0 * tb0, a0 * ta1 + b0 * tb1, a0 * ta2 + b0 * tb2
    w11, w12, w22 = a1 * ta1 + b1 * tb1, a1 * ta2 + b1 * tb2, a2 * ta2 + b2 * tb2
    if options.has_covars:
        v_world = (w00, w01, w02, w11, w12, w22)
        for k in range(6):
            store_doubles(columns, (4 + k) * DOUBLES, v_world[k])
    else:
        v_shape = _quaternion_scale_vjp(members, member, quats, scales, w00, w01, w02, w11, w12, w22)
        for k in range(7):
            store_doubles(columns, (4 + k) * DOUBLES, v_shape[k])
    ta0, ta1, ta2 = 2.0 * (v00 * p0 + v01 * q0), 2.0 * (v00 * p1 + v01 * q1), 2.0 * (v00 * p2 + v01 * q2)
    tb0, tb1, tb2 = 2.0 * (v01 * p0 + v11 * q0), 2.0 * (v01 * p1 + v11 * q1), 2.0 * (v01 * p2 + v11 * q2)

    vx, vy, vz = project_points_vjp(
        options.camera_model, x, y, z, fx, fy, cx, cy, options.width, options.height, spilled,
        gather(v_means2d, slots, member, 2, 0), gather(v_means2d, slots, member, 2, 1),
        ta0 * view[0, 0] + ta1 * view[0, 1] + ta2 * view[0, 2],
        ta0 * view[1, 0] + ta1 * view[1, 1] + ta2 * view[1, 2],
        ta0 * view[2, 0] + ta1 * view[2, 1] + ta2 * view[2, 2],
        tb0 * view[0, 0] + tb1 * view[0, 1] + tb2 * view[0, 2],
        tb0 * view[1, 0] + tb1 * view[1, 1] + tb2 * view[1, 2],
        tb0 * view[2, 0] + tb1 * view[2, 1] + tb2 * view[2, 2],
    )  # fmt: skip
    if v_depths.shape[0] > 0:
        vz += gather(v_depths, slots, member, 1, 0)
    store_doubles(columns, 0, view[0, 0] * vx + view[1, 0] * vy + view[2, 0] * vz)
    store_doubles(columns, DOUBLES, view[0, 1] * vx + view[1, 1] * vy + view[2, 1] * vz)
    store_doubles(columns, 2 * DOUBLES, view[0, 2] * vx + view[1, 2] * vy + view[2, 2] * vz)
    if has_view_gradient:
        v_view = (
            vx * wx + j00 * ta0 + j10 * tb0, vx * wy + j00 * ta1 + j10 * tb1, vx * wz + j00 * ta2 + j10 * tb2, vx,
            vy * wx + j01 * ta0 + j11 * tb0, vy * wy + j01 * ta1 + j11 * tb1, vy * wz + j01 * ta2 + j11 * tb2, vy,
            vz * wx + j02 * ta0 + j12 * tb0, vz * wy + j02 * ta1 + j12 * tb1, vz * wz + j02 * ta2 + j12 * tb2, vz,
        )  # fmt: skip
        for k in range(12):
            store_doubles(columns, (11 + k) * DOUBLES, v_view[k])


@kernel
def project_backward(
    first, last, options, means, quats, scales, covars, opacities, colors, viewmats, Ks, centers,
    segments, slots, ids, v_means2d, v_depths, v_conics, v_whitener, v_opacities_in, v_colors_in,
    v_means, v_quats, v_scales, v_covars, v_opacities, v_colors, v_views, v_centers, has_view_gradient,
):  # fmt: skip
    """Gradients of 3D parameters and cameras from those of the projected Gaussians.

    Args:
        first, last: Range of units, as in ``project_forward``; a unit owns its Gaussians, cameras are added in order.
        segments: (i * chunks + 1) start of each image's chunk in ``slots`` and ``ids``.
        slots: Where each visible Gaussian's results stand in the arrays indexed by slot.
        v_depths, v_conics: May be empty: no gradient arrived.
        v_means ... v_colors: Out, zero on entry; v_quats and v_scales, or v_covars, may be empty.
        v_views: Out (i, chunks, 12): each chunk's part of the upper 3x4 of the view matrix.
        v_centers: Out (i, chunks, 3): each chunk's part of the camera position, through the viewing direction.
        has_view_gradient: Whether v_views is wanted.
    """
    num_gaussians = means.shape[0] * options.num_cameras // max(viewmats.shape[0], 1)
    num_chunks = v_views.shape[1]
    basis, dots = new_basis(), np.empty(25, np.float64)
    view, spilled = np.empty((4, 4), np.float64), np.empty(NUM_SPILLED, np.float64)
    members, member_slots = np.empty(CHUNK + DOUBLES, np.int64), np.empty(CHUNK + DOUBLES, np.int64)
    columns = np.zeros((_NUM_COLUMNS, DOUBLES), np.float64)
    for unit in range(first, last):
        batch, chunk = unit // num_chunks, unit % num_chunks
        for image in range(batch * options.num_cameras, (batch + 1) * options.num_cameras):
            copy_view(viewmats, image, view)
            camera = (np.float64(Ks[image, 0, 0]), np.float64(Ks[image, 1, 1]),
                      np.float64(Ks[image, 0, 2]), np.float64(Ks[image, 1, 2]))  # fmt: skip
            part, part_center = v_views[image, chunk], v_centers[image, chunk]
            segment = image * num_chunks + chunk
            count = 0
            for at in range(segments[segment], segments[segment + 1]):
                slot = slots[at]
                if _has_gradient(slot, v_means2d, v_depths, v_conics, v_whitener, v_opacities_in, v_colors_in):
                    members[count], member_slots[count] = batch * num_gaussians + ids[at], slot
                    count += 1
            pad_rows(members, count)
            pad_rows(member_slots, count)
            for member in range(0, count, DOUBLES):
                _project_back(
                    options, camera, view, members, member_slots, member, means, quats, scales, covars, opacities,
                    v_means2d, v_depths, v_conics, v_whitener, v_opacities_in, has_view_gradient, spilled, columns,
                )  # fmt: skip
                for i in range(min(DOUBLES, count - member)):
                    g, slot = members[member + i], member_slots[member + i]
                    color = g + (image - batch) * num_gaussians if options.is_color_per_view else g
                    ox, oy, oz = 0.0, 0.0, 0.0
                    if options.sh_degree < 0:
                        for k in range(v_colors_in.shape[1]):
                            v_colors[color, k, 0] += v_colors_in[slot, k]
                    elif options.sh_degree == 0:  # one colour from everywhere
                        _coefficients_vjp(0, slot, color, colors, v_colors_in, basis, v_colors)
                    else:
                        ox, oy, oz = _color_vjp(
                            options.sh_degree, slot, color, colors, viewing_direction(means, g, centers, image),
                            v_colors_in, basis, dots, v_colors,
                        )  # fmt: skip
                    v_means[g, 0] += columns[0, i] + ox
                    v_means[g, 1] += columns[1, i] + oy
                    v_means[g, 2] += columns[2, i] + oz
                    part_center[0] -= ox
                    part_center[1] -= oy
                    part_center[2] -= oz
                    v_opacities[g] += columns[3, i]
                    if options.has_covars:
                        v_covars[g, 0, 0] += columns[4, i]
                        v_covars[g, 0, 1] += 2.0 * columns[5, i]
                        v_covars[g, 0, 2] += 2.0 * columns[6, i]
                        v_covars[g, 1, 1] += columns[7, i]
                        v_covars[g, 1, 2] += 2.0 * columns[8, i]
                        v_covars[g, 2, 2] += columns[9, i]
                    else:
                        for k in range(4):
                            v_quats[g, k] += columns[4 + k, i]
                        for k in range(3):
                            v_scales[g, k] += columns[8 + k, i]
                    if has_view_gradient:
                        for k in range(12):
                            part[k] += columns[11 + k, i]
