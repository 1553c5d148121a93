"""The three camera models: where a point lands, the Jacobian there, and the gradient of both.

A Gaussian is projected by the first-order expansion of the camera at its mean (Zwicker et al. 2001, "EWA volume
splatting"): its image mean is the projected mean, its image covariance ``J W S Wt Jt`` with the 2x3 Jacobian J below.
Points are in camera space (+x right, +y down, +z forward), image coordinates in pixels. A vector of points is projected
at once; fisheye, whose terms depend on where the point is, goes point by point.
"""

import math

from .compiling import inline
from .simd import DOUBLES, is_between, larger, lesser, load_doubles, splat_double, store_doubles

PINHOLE, ORTHO, FISHEYE = 0, 1, 2
NUM_SPILLED = 14 * DOUBLES
"""float64 numbers that projecting a vector of points needs for them one by one."""
CAMERA_MODELS = {"pinhole": PINHOLE, "ortho": ORTHO, "fisheye": FISHEYE}
# Beyond this share of the half image, the pinhole Jacobian is taken at the border: far outside it explodes.
_BORDER = 0.3


@inline
def _clamped_slope(slope, focal, center, size):
    """x/z kept to the image and a border around it, and 1 where it was inside, 0 elsewhere."""
    border = _BORDER * 0.5 * size / focal
    low = splat_double(-(center / focal + border))
    high = splat_double((size - center) / focal + border)
    return lesser(larger(slope, low), high), is_between(low, slope, high)


@inline
def _fisheye_terms(x, y, z):
    """g = theta / r of the equidistant fisheye as a function of s = r**2 and z: g, dg/ds, d2g/ds2."""
    s = x * x + y * y
    if s < 1e-4 * z * z and z > 0.0:  # series of atan(r / z) / r: the closed form cancels
        z2 = z * z
        q = s / z2
        g = (1.0 - q * (1.0 / 3.0 - q * (0.2 - q / 7.0))) / z
        g_s = -(1.0 / 3.0 - q * (0.4 - q * 3.0 / 7.0)) / (z * z2)
        return g, g_s, (0.4 - q * 6.0 / 7.0) / (z * z2 * z2)
    r = math.sqrt(s)
    rho2 = s + z * z
    g = math.atan2(r, z) / r
    h = z / rho2 - g
    g_s = 0.5 * h / s
    return g, g_s, 0.5 * (-z / (rho2 * rho2) - g_s - h / s) / s


@inline
def _fisheye_point(x, y, z, fx, fy, cx, cy):
    g, g_s, _ = _fisheye_terms(x, y, z)
    g_z = -1.0 / (x * x + y * y + z * z)
    mixed = 2.0 * x * y * g_s
    return (
        fx * x * g + cx, fy * y * g + cy,
        fx * (g + 2.0 * x * x * g_s), fx * mixed, fx * x * g_z,
        fy * mixed, fy * (g + 2.0 * y * y * g_s), fy * y * g_z,
    )  # fmt: skip


@inline
def _fisheye_point_vjp(x, y, z, vu, vv, v00, v01, v02, v10, v11, v12):
    g, g_s, g_ss = _fisheye_terms(x, y, z)
    rho2 = x * x + y * y + z * z
    g_z, g_sz, g_zz = -1.0 / rho2, 1.0 / (rho2 * rho2), 2.0 * z / (rho2 * rho2)
    xx, xy, yy = x * x, x * y, y * y
    xxy = 2.0 * y * g_s + 4.0 * xx * y * g_ss  # d3(x g)/dx dx dy and so on: J is itself a gradient
    xyy = 2.0 * x * g_s + 4.0 * x * yy * g_ss
    xxx, yyy = 6.0 * x * g_s + 4.0 * xx * x * g_ss, 6.0 * y * g_s + 4.0 * yy * y * g_ss
    xxz, xyz, yyz = g_z + 2.0 * xx * g_sz, 2.0 * xy * g_sz, g_z + 2.0 * yy * g_sz
    mixed = 2.0 * xy * g_s
    vx = vu * (g + 2.0 * xx * g_s) + vv * mixed
    vy = vu * mixed + vv * (g + 2.0 * yy * g_s)
    vz = (vu * x + vv * y) * g_z
    vx += v00 * xxx + (v01 + v10) * xxy + v02 * xxz + v11 * xyy + v12 * xyz
    vy += v00 * xxy + (v01 + v10) * xyy + v02 * xyz + v11 * yyy + v12 * yyz
    vz += v00 * xxz + (v01 + v10) * xyz + v11 * yyz + (v02 * x + v12 * y) * g_zz
    return vx, vy, vz


@inline
def project_points(model, x, y, z, fx, fy, cx, cy, width, height, spilled):
    """Image position and Jacobian rows: ``u, v, j00, j01, j02, j10, j11, j12``.

    Args:
        x, y, z: Vectors of float64.
        spilled: Scratch memory, NUM_SPILLED numbers.
    """
    zero = splat_double(0.0)
    if model == ORTHO:
        return fx * x + cx, fy * y + cy, splat_double(fx), zero, zero, zero, splat_double(fy), zero
    if model == FISHEYE:
        store_doubles(spilled, 0, x)
        store_doubles(spilled, DOUBLES, y)
        store_doubles(spilled, 2 * DOUBLES, z)
        for i in range(DOUBLES):
            point = _fisheye_point(spilled[i], spilled[DOUBLES + i], spilled[2 * DOUBLES + i], fx, fy, cx, cy)
            for k in range(8):
                spilled[(3 + k) * DOUBLES + i] = point[k]
        return (
            load_doubles(spilled, 3 * DOUBLES), load_doubles(spilled, 4 * DOUBLES), load_doubles(spilled, 5 * DOUBLES),
            load_doubles(spilled, 6 * DOUBLES), load_doubles(spilled, 7 * DOUBLES), load_doubles(spilled, 8 * DOUBLES),
            load_doubles(spilled, 9 * DOUBLES), load_doubles(spilled, 10 * DOUBLES),
        )  # fmt: skip
    rz = 1.0 / z
    slope_x, _ = _clamped_slope(x * rz, fx, cx, width)
    slope_y, _ = _clamped_slope(y * rz, fy, cy, height)
    return (
        fx * x * rz + cx, fy * y * rz + cy,
        fx * rz, zero, -fx * slope_x * rz,
        zero, fy * rz, -fy * slope_y * rz,
    )  # fmt: skip


@inline
def project_points_vjp(model, x, y, z, fx, fy, cx, cy, width, height, spilled, vu, vv, v00, v01, v02, v10, v11, v12):
    """Gradient with respect to (x, y, z), given those of position and Jacobian."""
    if model == ORTHO:
        return fx * vu, fy * vv, splat_double(0.0)
    vu, v00, v01, v02 = fx * vu, fx * v00, fx * v01, fx * v02
    vv, v10, v11, v12 = fy * vv, fy * v10, fy * v11, fy * v12
    if model == FISHEYE:
        given = (x, y, z, vu, vv, v00, v01, v02, v10, v11, v12)
        for k in range(11):
            store_doubles(spilled, k * DOUBLES, given[k])
        for i in range(DOUBLES):
            vx, vy, vz = _fisheye_point_vjp(
                spilled[i], spilled[DOUBLES + i], spilled[2 * DOUBLES + i], spilled[3 * DOUBLES + i],
                spilled[4 * DOUBLES + i], spilled[5 * DOUBLES + i], spilled[6 * DOUBLES + i], spilled[7 * DOUBLES + i],
                spilled[8 * DOUBLES + i], spilled[9 * DOUBLES + i], spilled[10 * DOUBLES + i],
            )  # fmt: skip
            spilled[11 * DOUBLES + i], spilled[12 * DOUBLES + i], spilled[13 * DOUBLES + i] = vx, vy, vz
        first = 11 * DOUBLES
        return (
            load_doubles(spilled, first), load_doubles(spilled, first + DOUBLES),
            load_doubles(spilled, first + 2 * DOUBLES),
        )  # fmt: skip
    rz = 1.0 / z
    slope_x, is_inside_x = _clamped_slope(x * rz, fx, cx, width)
    slope_y, is_inside_y = _clamped_slope(y * rz, fy, cy, height)
    rz2 = rz * rz
    # the slope x/z moves with the point; at the border it is constant
    kept_x, kept_y = is_inside_x * v02 * rz2, is_inside_y * v12 * rz2
    vx, vy, vz = vu * rz - kept_x, vv * rz - kept_y, -(vu * x + vv * y) * rz2
    vz += (-v00 - v11 + v02 * slope_x + v12 * slope_y) * rz2
    return vx, vy, vz + kept_x * slope_x + kept_y * slope_y
