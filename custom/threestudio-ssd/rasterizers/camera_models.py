"""The three camera models: where a point lands, the Jacobian there, and the gradient of both.

A Gaussian is projected by the first-order expansion of the camera at its mean (Zwicker et al. 2001, "EWA volume
splatting"): its image mean is the projected mean, its image covariance ``J W S Wt Jt`` with the 2x3 Jacobian J below.
Points are in camera space (+x right, +y down, +z forward), image coordinates in pixels.
"""

import math

from .compiling import inline

PINHOLE, ORTHO, FISHEYE = 0, 1, 2
CAMERA_MODELS = {"pinhole": PINHOLE, "ortho": ORTHO, "fisheye": FISHEYE}
# Beyond this share of the half image, the pinhole Jacobian is taken at the border: far outside it explodes.
_BORDER = 0.3


@inline
def _clamped_slope(slope, focal, center, size):
    """x/z kept to the image and a border around it, and whether it was inside."""
    border = _BORDER * 0.5 * size / focal
    low, high = -(center / focal + border), (size - center) / focal + border
    return min(max(slope, low), high), low <= slope <= high


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
def project_point(model, x, y, z, fx, fy, cx, cy, width, height):
    """Image position and Jacobian rows: ``u, v, j00, j01, j02, j10, j11, j12``."""
    if model == ORTHO:
        return fx * x + cx, fy * y + cy, fx, 0.0, 0.0, 0.0, fy, 0.0
    if model == FISHEYE:
        g, g_s, _ = _fisheye_terms(x, y, z)
        g_z = -1.0 / (x * x + y * y + z * z)
        mixed = 2.0 * x * y * g_s
        return (
            fx * x * g + cx, fy * y * g + cy,
            fx * (g + 2.0 * x * x * g_s), fx * mixed, fx * x * g_z,
            fy * mixed, fy * (g + 2.0 * y * y * g_s), fy * y * g_z,
        )  # fmt: skip
    rz = 1.0 / z
    slope_x, _ = _clamped_slope(x * rz, fx, cx, width)
    slope_y, _ = _clamped_slope(y * rz, fy, cy, height)
    return (
        fx * x * rz + cx, fy * y * rz + cy,
        fx * rz, 0.0, -fx * slope_x * rz,
        0.0, fy * rz, -fy * slope_y * rz,
    )  # fmt: skip


@inline
def project_point_vjp(model, x, y, z, fx, fy, cx, cy, width, height, vu, vv, v00, v01, v02, v10, v11, v12):
    """Gradient with respect to (x, y, z), given those of position and Jacobian."""
    if model == ORTHO:
        return fx * vu, fy * vv, 0.0
    vu, v00, v01, v02 = fx * vu, fx * v00, fx * v01, fx * v02
    vv, v10, v11, v12 = fy * vv, fy * v10, fy * v11, fy * v12
    if model == FISHEYE:
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
    rz = 1.0 / z
    slope_x, is_inside_x = _clamped_slope(x * rz, fx, cx, width)
    slope_y, is_inside_y = _clamped_slope(y * rz, fy, cy, height)
    rz2 = rz * rz
    vx, vy, vz = vu * rz, vv * rz, -(vu * x + vv * y) * rz2
    vz += (-v00 - v11 + v02 * slope_x + v12 * slope_y) * rz2
    if is_inside_x:  # the slope x/z moves with the point; at the border it is constant
        vx -= v02 * rz2
        vz += v02 * slope_x * rz2
    if is_inside_y:
        vy -= v12 * rz2
        vz += v12 * slope_y * rz2
    return vx, vy, vz
