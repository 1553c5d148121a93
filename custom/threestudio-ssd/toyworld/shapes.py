"""Surfaces of the toy objects: points, normals, texture coordinates and parts, built from five primitives.

World axes: z up, ground at z = 0, lengths in world units (an object is about two units high and wide).
"""

from dataclasses import dataclass

import numpy as np

BODY = (-1.0, -1.0, -1.0)
"""Colour of a part that takes the scene's object colour and pattern."""

BLACK, ROOF, BARK = (0.07, 0.07, 0.08), (0.36, 0.13, 0.08), (0.40, 0.25, 0.12)
CREAM, CARROT, GLASS = (0.93, 0.88, 0.76), (0.95, 0.45, 0.08), (0.22, 0.27, 0.33)


@dataclass(frozen=True)
class Surface:
    """Sampled surface: points (n 3), unit normals (n 3), texture (n 2) in world units, rgbs (n 3; BODY = -1)."""

    points: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    rgbs: np.ndarray


def ellipsoid(rng, n, center, radii, rgb=BODY, z_min=-1.0):
    """Ellipsoid, optionally only the part above ``z_min`` (in units of the vertical radius)."""
    z = rng.uniform(z_min, 1, n)
    phi = rng.uniform(0, 2 * np.pi, n)
    r = np.sqrt(1 - z**2)
    unit = np.stack([r * np.cos(phi), r * np.sin(phi), z], -1)
    normals = unit / radii
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return _surface(unit * radii + center, normals, _round_uv(phi, (z + 1) * radii[2]), rgb)


def tube(rng, n, base, radius, top_radius, height, rgb=BODY, axis=2):
    """Cylinder or cone frustum with caps, along an axis; ``base`` is the centre of its lower end."""
    slant = np.hypot(radius - top_radius, height)
    areas = np.array([np.pi * (radius + top_radius) * slant, np.pi * radius**2, np.pi * top_radius**2])
    part = rng.choice(3, n, p=areas / areas.sum())
    phi = rng.uniform(0, 2 * np.pi, n)
    u = rng.uniform(0, 1, n)
    low, high = radius**2, top_radius**2
    side_r = np.sqrt(low + (high - low) * u) if radius != top_radius else np.full(n, radius)
    side_h = (radius - side_r) / (radius - top_radius) * height if radius != top_radius else u * height
    r = np.select([part == 0, part == 1], [side_r, radius * np.sqrt(u)], top_radius * np.sqrt(u))
    h = np.select([part == 0, part == 1], [side_h, np.zeros(n)], height)
    points = np.stack([r * np.cos(phi), r * np.sin(phi), h], -1)
    tilt = (radius - top_radius) / slant
    side = np.stack([np.cos(phi) * height / slant, np.sin(phi) * height / slant, np.full(n, tilt)], -1)
    cap = np.zeros((n, 3))
    cap[:, 2] = np.where(part == 1, -1, 1)
    normals = np.where(part[:, None] == 0, side, cap)
    uv = np.where(part[:, None] == 0, _round_uv(phi, h), points[:, :2] + 0.25)
    if axis != 2:
        points, normals = np.roll(points, axis - 2, -1), np.roll(normals, axis - 2, -1)
    return _surface(points + base, normals, uv, rgb)


def box(rng, n, center, half, rgb=BODY):
    """Axis-aligned box with half extents ``half``."""
    half = np.asarray(half, float)
    areas = np.array([half[1] * half[2], half[0] * half[2], half[0] * half[1]]).repeat(2)
    face = rng.choice(6, n, p=areas / areas.sum())
    axis, sign = face // 2, np.where(face % 2, 1.0, -1.0)
    points = rng.uniform(-1, 1, (n, 3)) * half
    rows = np.arange(n)
    points[rows, axis] = sign * half[axis]
    normals = np.zeros((n, 3))
    normals[rows, axis] = sign
    u = points[rows, np.where(axis == 0, 1, 0)]
    v = np.where(axis == 2, points[:, 1], points[:, 2] + half[2])
    return _surface(points + center, normals, np.stack([u + half[0], v], -1), rgb)


def torus(rng, n, center, major, minor, rgb=BODY):
    """Torus lying flat."""
    phi, theta = rng.uniform(0, 2 * np.pi, (2, 4 * n))
    keep = np.flatnonzero(rng.uniform(0, 1, 4 * n) < (major + minor * np.cos(theta)) / (major + minor))[:n]
    phi, theta = phi[keep], theta[keep]
    normals = np.stack([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), np.sin(theta)], -1)
    ring = np.stack([np.cos(phi), np.sin(phi), np.zeros_like(phi)], -1) * major
    return _surface(ring + minor * normals + center, normals, _round_uv(phi, theta / (2 * np.pi) * 2.0), rgb)


def prism(rng, n, center, half, rgb=BODY):
    """Gable roof: triangular prism with its ridge along x; ``half`` = (half length, half width, height)."""
    length, width, height = half
    slant = np.hypot(width, height)
    areas = np.array([2 * length * slant, 2 * length * slant, width * height, width * height])
    part = rng.choice(4, n, p=areas / areas.sum())
    a, b = rng.uniform(0, 1, (2, n))
    side = np.where(part % 2, 1.0, -1.0)
    slope = np.stack([(2 * a - 1) * length, side * width * (1 - b), height * b], -1)
    fold = a + b > 1
    a, b = np.where(fold, 1 - a, a), np.where(fold, 1 - b, b)
    gable = np.stack([side * length, width * (2 * a + b - 1), height * b], -1)
    slope_normal = np.stack([np.zeros(n), side * height / slant, np.full(n, width / slant)], -1)
    gable_normal = np.stack([side, np.zeros(n), np.zeros(n)], -1)
    is_slope = part[:, None] < 2
    points = np.where(is_slope, slope, gable)
    return _surface(points + center, np.where(is_slope, slope_normal, gable_normal), points[:, :2], rgb)


def object_surface(name: str, n: int, rng: np.random.Generator) -> Surface:
    """About ``n`` points on the surface of the named object, standing on z = 0 around the z axis.

    Raises:
        KeyError: If the object is unknown.
    """
    return _join(*SHAPES[name](rng, n))


def _ball(rng, n):
    yield ellipsoid(rng, n, (0, 0, 1.0), (1.0, 1.0, 1.0))


def _cube(rng, n):
    yield box(rng, n, (0, 0, 0.85), (0.85, 0.85, 0.85))


def _cone(rng, n):
    yield tube(rng, n, (0, 0, 0), 1.05, 0.02, 2.1)


def _cylinder(rng, n):
    yield tube(rng, n, (0, 0, 0), 0.78, 0.78, 1.9)


def _donut(rng, n):
    yield torus(rng, n, (0, 0, 0.42), 0.85, 0.42)


def _mushroom(rng, n):
    yield ellipsoid(rng, int(0.62 * n), (0, 0, 0.95), (1.15, 1.15, 0.95), z_min=0.0)
    yield tube(rng, int(0.18 * n), (0, 0, 0.93), 1.12, 1.15, 0.02, CREAM)
    yield tube(rng, int(0.2 * n), (0, 0, 0), 0.42, 0.36, 0.95, CREAM)


def _snowman(rng, n):
    yield ellipsoid(rng, int(0.5 * n), (0, 0, 0.75), (0.78, 0.78, 0.75))
    yield ellipsoid(rng, int(0.26 * n), (0, 0, 1.72), (0.5, 0.5, 0.48))
    yield tube(rng, int(0.14 * n), (0, 0, 2.1), 0.36, 0.34, 0.42, BLACK)
    yield tube(rng, int(0.06 * n), (0, 0, 2.06), 0.56, 0.56, 0.05, BLACK)
    yield tube(rng, int(0.04 * n), (0.46, 0, 1.72), 0.11, 0.02, 0.42, CARROT, axis=0)


def _tree(rng, n):
    yield ellipsoid(rng, int(0.8 * n), (0, 0, 1.65), (0.92, 0.92, 0.85))
    yield tube(rng, int(0.2 * n), (0, 0, 0), 0.24, 0.2, 0.95, BARK)


def _house(rng, n):
    yield box(rng, int(0.52 * n), (0, 0, 0.62), (0.95, 0.75, 0.62))
    yield prism(rng, int(0.38 * n), (0, 0, 1.22), (1.08, 0.92, 0.72), ROOF)
    yield box(rng, int(0.05 * n), (0.96, 0, 0.38), (0.02, 0.2, 0.38), BLACK)
    yield box(rng, int(0.05 * n), (-0.96, 0, 0.7), (0.02, 0.24, 0.22), GLASS)


def _car(rng, n):
    yield box(rng, int(0.5 * n), (0, 0, 0.58), (1.2, 0.62, 0.3))
    yield box(rng, int(0.1 * n), (-0.1, 0, 1.0), (0.68, 0.54, 0.14), GLASS)
    yield box(rng, int(0.2 * n), (-0.1, 0, 1.2), (0.72, 0.58, 0.09))
    for x in (-0.72, 0.72):
        for y in (-0.66, 0.46):
            yield tube(rng, int(0.05 * n), (x, y, 0.3), 0.3, 0.3, 0.2, BLACK, axis=1)


SHAPES = {
    shape.__name__[1:]: shape
    for shape in (_ball, _cube, _cone, _cylinder, _donut, _mushroom, _snowman, _tree, _house, _car)
}


def _round_uv(phi, height):
    """Eight pattern cells of half a unit around the axis."""
    return np.stack([phi / (2 * np.pi) * 4.0, height], -1)


def _surface(points, normals, uv, rgb):
    return Surface(points, normals, uv, np.broadcast_to(np.asarray(rgb, float), points.shape))


def _join(*parts: Surface) -> Surface:
    return Surface(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("points", "normals", "uv", "rgbs")))
