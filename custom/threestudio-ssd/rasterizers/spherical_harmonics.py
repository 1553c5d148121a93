"""Real spherical harmonics up to degree 4 as polynomials of a unit direction, and their gradient.

The basis, its order and its signs are those of gsplat and of Sloan, "Efficient Spherical Harmonic Evaluation"
(JCGT 2013), written out as polynomials in x, y, z.
"""

import numpy as np

from .compiling import inline

C0 = 0.2820947917738781
C1 = 0.48860251190292
C2_XY, C2_Z2, C2_1, C2_X2 = 1.092548430592079, 0.9461746957575601, 0.3153915652525201, 0.5462742152960395
C3_3, C3_2, C3_1A, C3_1B = 0.5900435899266435, 1.445305721320277, 2.285228997322329, 0.4570457994644658
C3_0A, C3_0B = 1.865881662950577, 1.119528997770346
C4_4, C4_3, C4_2A, C4_2B = 0.6258357354491763, 1.770130769779931, 3.31161143515146, 0.47308734787878
C4_1A, C4_1B = 4.683325804901025, 2.007139630671868
C4_0A, C4_0B, C4_0C = 3.702494142032151, 3.173566407456129, 0.3173566407456129


@inline
def sh_basis(degree, x, y, z, basis):
    """Fill ``basis[: (degree + 1)**2]`` for the unit direction (x, y, z)."""
    basis[0] = C0
    if degree >= 1:
        basis[1] = -C1 * y
        basis[2] = C1 * z
        basis[3] = -C1 * x
    if degree >= 2:
        zz, c1, s1 = z * z, x * x - y * y, 2.0 * x * y
        basis[4] = C2_X2 * s1
        basis[5] = -C2_XY * y * z
        basis[6] = C2_Z2 * zz - C2_1
        basis[7] = -C2_XY * x * z
        basis[8] = C2_X2 * c1
        if degree >= 3:
            c2, s2 = x * c1 - y * s1, x * s1 + y * c1
            middle = C3_1B - C3_1A * zz
            basis[9] = -C3_3 * s2
            basis[10] = C3_2 * z * s1
            basis[11] = middle * y
            basis[12] = z * (C3_0A * zz - C3_0B)
            basis[13] = middle * x
            basis[14] = C3_2 * z * c1
            basis[15] = -C3_3 * c2
            if degree >= 4:
                c3, s3 = x * c2 - y * s2, x * s2 + y * c2
                inner, outer = z * (C4_1B - C4_1A * zz), C4_2A * zz - C4_2B
                basis[16] = C4_4 * s3
                basis[17] = -C4_3 * z * s2
                basis[18] = outer * s1
                basis[19] = inner * y
                basis[20] = zz * (C4_0A * zz - C4_0B) + C4_0C
                basis[21] = inner * x
                basis[22] = outer * c1
                basis[23] = -C4_3 * z * c2
                basis[24] = C4_4 * c3


@inline
def new_basis():
    """Memory for ``sh_basis``; what does not depend on the direction is filled in."""
    basis = np.empty(25, np.float64)
    basis[0] = C0
    return basis


@inline
def sh_color(degree, coefficients, row, basis):
    """Red, green, blue of the coefficients in a row of (n, k, 3), plus 1/2, not clamped; of degree 0: ``new_basis``."""
    red, green, blue = 0.5, 0.5, 0.5
    for k in range((degree + 1) ** 2):
        red += basis[k] * coefficients[row, k, 0]
        green += basis[k] * coefficients[row, k, 1]
        blue += basis[k] * coefficients[row, k, 2]
    return red, green, blue


@inline
def sh_direction_vjp(degree, x, y, z, v):
    """Gradient with respect to (x, y, z) of ``sum(v[k] * basis[k])``, treating x, y, z as independent."""
    vx, vy, vz = 0.0, 0.0, 0.0
    if degree >= 1:
        vx, vy, vz = -C1 * v[3], -C1 * v[1], C1 * v[2]
    if degree >= 2:
        zz, c1, s1 = z * z, x * x - y * y, 2.0 * x * y
        vx += 2.0 * C2_X2 * (y * v[4] + x * v[8]) - C2_XY * z * v[7]
        vy += 2.0 * C2_X2 * (x * v[4] - y * v[8]) - C2_XY * z * v[5]
        vz += 2.0 * C2_Z2 * z * v[6] - C2_XY * (y * v[5] + x * v[7])
        if degree >= 3:
            middle = C3_1B - C3_1A * zz
            vx += -3.0 * C3_3 * (s1 * v[9] + c1 * v[15]) + 2.0 * C3_2 * z * (y * v[10] + x * v[14]) + middle * v[13]
            vy += -3.0 * C3_3 * (c1 * v[9] - s1 * v[15]) + 2.0 * C3_2 * z * (x * v[10] - y * v[14]) + middle * v[11]
            vz += C3_2 * (s1 * v[10] + c1 * v[14]) - 2.0 * C3_1A * z * (y * v[11] + x * v[13])
            vz += (3.0 * C3_0A * zz - C3_0B) * v[12]
            if degree >= 4:
                c2, s2 = x * c1 - y * s1, x * s1 + y * c1
                inner, outer = z * (C4_1B - C4_1A * zz), C4_2A * zz - C4_2B
                inner_z = C4_1B - 3.0 * C4_1A * zz
                vx += 4.0 * C4_4 * (s2 * v[16] + c2 * v[24]) - 3.0 * C4_3 * z * (s1 * v[17] + c1 * v[23])
                vx += 2.0 * outer * (y * v[18] + x * v[22]) + inner * v[21]
                vy += 4.0 * C4_4 * (c2 * v[16] - s2 * v[24]) - 3.0 * C4_3 * z * (c1 * v[17] - s1 * v[23])
                vy += 2.0 * outer * (x * v[18] - y * v[22]) + inner * v[19]
                vz += -C4_3 * (s2 * v[17] + c2 * v[23]) + 2.0 * C4_2A * z * (s1 * v[18] + c1 * v[22])
                vz += inner_z * (y * v[19] + x * v[21]) + z * (4.0 * C4_0A * zz - 2.0 * C4_0B) * v[20]
    return vx, vy, vz
