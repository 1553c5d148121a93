"""The toy world: a parametric generator of scenes as 3D Gaussians, hence of the ground truth of an edit.

Two scenes of the same seed that differ in one attribute share everything else, Gaussian by Gaussian
(except where the shape of the object itself differs). Axes: z up, ground at z = 0, the object at the origin.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .shapes import object_surface
from .vocabulary import ACCENT_RGB, ATTRIBUTES, COLOR_RGB, GROUND_RGB, TIME_LIGHT, Attributes

NUM_OBJECT, NUM_GROUND, NUM_SKY = 3200, 3600, 500
OBJECT_SIGMA, FLATNESS, OPACITY = 0.055, 0.2, 0.97
GROUND_RADIUS, SKY_RADIUS, SKY_SIGMA = 8.5, 12.0, 1.0
ORBIT_RADIUS = 5.4
"""Of the cameras about the object, world units."""
OBJECT_HEIGHT = 2.0
"""About that of every object, world units."""
SHARE_RANGE = (0.22, 0.9)
"""Share of the image's height that an object has in wide views."""
AMBIENT = 0.62
PATTERN_CELL, DOT_RADIUS = 0.5, 0.13
"""Length of a pattern cell and radius of a dot, texture units."""

PART_OBJECT, PART_GROUND, PART_SKY = 0, 1, 2


@dataclass(frozen=True)
class ToyScene:
    """A toy scene as arrays, float32.

    Attributes:
        means: Centres, (n 3), world units.
        scales: Standard deviations along the local axes, (n 3), world units.
        quats: Rotations, wxyz, unit, (n 4).
        opacities: (n), in [0, 1].
        rgbs: (n 3), in [0, 1].
        parts: (n), PART_OBJECT, PART_GROUND or PART_SKY.
    """

    means: np.ndarray
    scales: np.ndarray
    quats: np.ndarray
    opacities: np.ndarray
    rgbs: np.ndarray
    parts: np.ndarray


def build_scene(attributes: Attributes, seed: int, *, has_object: bool = True, turn_deg: float = 0.0) -> ToyScene:
    """The scene that ``attributes`` describe; ``seed`` decides all that they leave open (size, yaw, sun, texture).

    Args:
        attributes: What it shows.
        seed: Decides the rest.
        has_object: False leaves out the object and its shadow, and nothing else.
        turn_deg: The object is turned by so much from the direction that the seed decides, about its upright axis.
    """
    choices = np.random.default_rng([seed, 0])
    yaw, size = _draw_yaw(choices) + np.radians(turn_deg), _draw_size(choices)
    sun = _draw_sun(choices)
    color_jitter = choices.normal(0, 0.02, 3)
    light = TIME_LIGHT[attributes.time]

    surface = object_surface(attributes.object, NUM_OBJECT, np.random.default_rng([seed, 1]))
    rgbs = _object_rgbs(attributes, surface, color_jitter)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    points, normals = size * surface.points @ turn.T, surface.normals @ turn.T
    shade = AMBIENT + (1 - AMBIENT) * np.clip(normals @ sun, 0, 1)
    rgbs = rgbs * shade[:, None] * light.light_rgb

    ground, ground_sigma, ground_rgbs = _ground(
        attributes.ground, np.random.default_rng([seed, 2]), sun if has_object else None
    )
    sky = _sky_points()
    up = np.array([0.0, 0.0, 1.0])
    means = np.concatenate([points, ground, sky])
    all_normals = np.concatenate([normals, np.broadcast_to(up, ground.shape), sky / SKY_RADIUS])
    sigma = np.concatenate([np.full(len(points), OBJECT_SIGMA * size), ground_sigma, np.full(len(sky), SKY_SIGMA)])
    parts = np.repeat([PART_OBJECT, PART_GROUND, PART_SKY], [len(points), len(ground), len(sky)])
    all_rgbs = np.concatenate([rgbs, ground_rgbs * light.light_rgb, np.broadcast_to(light.sky_rgb, sky.shape)])
    kept = slice(None) if has_object else slice(len(points), None)
    return ToyScene(
        means=means.astype(np.float32)[kept],
        scales=(sigma[:, None] * [1, 1, FLATNESS]).astype(np.float32)[kept],
        quats=_quats_from_normals(all_normals).astype(np.float32)[kept],
        opacities=np.full(len(means), OPACITY, np.float32)[kept],
        rgbs=np.clip(all_rgbs, 0.0, 1.0).astype(np.float32)[kept],
        parts=parts.astype(np.int64)[kept],
    )


def object_yaw_deg(seed: int) -> float:
    """Direction in which the object of a scene of this seed looks: azimuth of its front, in degrees."""
    return float(np.degrees(_draw_yaw(np.random.default_rng([seed, 0]))))


def object_size(seed: int) -> float:
    """How large the object of a scene of this seed is, as a factor of all its lengths."""
    choices = np.random.default_rng([seed, 0])
    _draw_yaw(choices)
    return _draw_size(choices)


def sun_direction(seed: int) -> np.ndarray:
    """Where the sun of a scene of this seed stands: a unit vector, (3)."""
    choices = np.random.default_rng([seed, 0])
    _draw_yaw(choices)
    _draw_size(choices)
    return _draw_sun(choices)


def sample_attributes(rng: np.random.Generator) -> Attributes:
    """Every attribute uniformly at random."""
    return Attributes(*(words[rng.integers(len(words))] for words in ATTRIBUTES.values()))


class View(NamedTuple):
    """A camera, and what a caption can say about it.

    Attributes:
        camera: The camera.
        azimuth_deg: Where it stands about the object.
        elevation_deg: Where it stands above the ground's plane, as seen from the object.
        share: Of the image's height that an object two units high has.
        offset: Distance of the object from the image's middle; 1 is the distance from there to an edge.
    """

    camera: "ToyCamera"
    azimuth_deg: float
    elevation_deg: float
    share: float
    offset: float


@dataclass(frozen=True)
class ToyCamera:
    """An orbit camera: ``viewmat`` (4 4) world-to-camera in OpenCV axes, ``fov_y_deg``."""

    viewmat: np.ndarray
    fov_y_deg: float = 40.0

    def intrinsics(self, width: int, height: int) -> np.ndarray:
        """Pinhole matrix (3 3) in pixels, principal point in the middle."""
        focal = 0.5 * height / np.tan(np.radians(self.fov_y_deg) / 2)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)


def orbit_camera(
    azimuth_deg: float, elevation_deg: float, radius: float = ORBIT_RADIUS, target=(0.0, 0.0, 0.9)
) -> ToyCamera:
    """Camera on a sphere around ``target``, z up."""
    azimuth, elevation = np.radians([azimuth_deg, elevation_deg])
    away = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    return ToyCamera(_look_along(-away, np.asarray(target, float) + radius * away))


def sample_camera(rng: np.random.Generator) -> ToyCamera:
    """A camera as the training data has them: any azimuth, elevation 5 to 50 degrees, a little off centre."""
    return sample_view(rng, is_wide=False).camera


def sample_view(rng: np.random.Generator, *, is_wide: bool) -> View:
    """A random camera that sees the object.

    Args:
        rng: Random numbers.
        is_wide: Views as editors ask for them, whole or cropped to a region: the object has ``SHARE_RANGE`` of the
            image's height and lies anywhere inside it. Otherwise the object is near the middle, at half the height.
    """
    if not is_wide:
        jitter = rng.uniform(-0.15, 0.15, 3)
        azimuth_deg, elevation_deg = rng.uniform(0, 360), rng.uniform(5, 50)
        radius = rng.uniform(4.9, 6.0)
        camera = orbit_camera(azimuth_deg, elevation_deg, radius, np.array([0, 0, 0.9]) + jitter)
        half_side = radius * np.tan(np.radians(camera.fov_y_deg) / 2)
        offset = float(np.linalg.norm((camera.viewmat[:3, :3] @ jitter)[:2]) / half_side)
        return View(camera, azimuth_deg, elevation_deg, 0.5 * OBJECT_HEIGHT / half_side, offset)
    azimuth_deg, elevation_deg = rng.uniform(0, 360), rng.uniform(5, 55)
    radius, share = rng.uniform(4.6, 7.5), float(np.exp(rng.uniform(*np.log(SHARE_RANGE))))
    half_side = 0.5 * OBJECT_HEIGHT / share
    most = max(0.0, half_side - 0.6 * OBJECT_HEIGHT)
    middle = orbit_camera(azimuth_deg, elevation_deg, radius)
    rotation = middle.viewmat[:3, :3].astype(float)
    aside = rng.uniform(-most, most, 2)
    ahead = np.array([*aside, radius]) @ rotation
    eye = -rotation.T @ middle.viewmat[:3, 3]
    fov_y_deg = float(np.degrees(2 * np.arctan(half_side / radius)))
    camera = ToyCamera(_look_along(ahead / np.linalg.norm(ahead), eye), fov_y_deg)
    return View(camera, azimuth_deg, elevation_deg, share, float(np.linalg.norm(aside) / half_side))


def _draw_yaw(choices: np.random.Generator) -> float:
    return choices.uniform(0, 2 * np.pi)


def _draw_size(choices: np.random.Generator) -> float:
    return choices.uniform(0.92, 1.08)


def _draw_sun(choices: np.random.Generator) -> np.ndarray:
    azimuth, height = choices.uniform(0, 2 * np.pi), choices.uniform(0.8, 1.2)
    sun = np.array([np.cos(azimuth), np.sin(azimuth), height])
    return sun / np.linalg.norm(sun)


def _look_along(ahead: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """World-to-camera matrix of a camera at ``eye`` that looks along the unit vector ``ahead``, z up."""
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    viewmat = np.eye(4)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ eye
    return viewmat.astype(np.float32)


def _object_rgbs(attributes: Attributes, surface, jitter: np.ndarray) -> np.ndarray:
    u, v = surface.uv.T
    half = PATTERN_CELL / 2
    if attributes.pattern == "striped":
        is_accent = np.floor(v / half) % 2 == 1
    elif attributes.pattern == "checkered":
        is_accent = (np.floor(u / PATTERN_CELL) + np.floor(v / PATTERN_CELL)) % 2 == 1
    elif attributes.pattern == "dotted":
        row = np.floor(v / PATTERN_CELL)
        du = (u + PATTERN_CELL / 2 * (row % 2)) % PATTERN_CELL - half
        is_accent = du**2 + ((v % PATTERN_CELL) - half) ** 2 < DOT_RADIUS**2
    else:
        is_accent = np.zeros(len(u), bool)
    base = np.clip(np.asarray(COLOR_RGB[attributes.color]) + jitter, 0, 1)
    body = np.where(is_accent[:, None], ACCENT_RGB[attributes.color], base)
    return np.where(surface.rgbs < 0, body, surface.rgbs)


def _ground(name: str, rng: np.random.Generator, sun: np.ndarray | None):
    """Positions (n 3), standard deviations (n) and rgbs (n 3) of the ground disc, denser near the object.

    The object's shadow falls away from the sun; without a sun there is none.
    """
    u, phi = rng.uniform(0, 1, NUM_GROUND), rng.uniform(0, 2 * np.pi, NUM_GROUND)
    r = GROUND_RADIUS * u**0.8
    x, y = r * np.cos(phi), r * np.sin(phi)
    sigma = 0.085 + 0.095 * (r / 2) ** 0.95
    phases = rng.uniform(0, 2 * np.pi, 6)
    grain = rng.normal(0, 0.5, NUM_GROUND)
    waves = np.sin(2.1 * x + phases[0]) * np.sin(1.7 * y + phases[1]) + np.sin(4.3 * x + 3.1 * y + phases[2])
    texture = {
        "grass": 0.5 + 0.18 * waves + 0.35 * grain,
        "sand": 0.5 + 0.35 * np.sin(5.5 * x + 1.2 * np.sin(1.3 * y + phases[3]) + phases[4]) + 0.1 * grain,
        "snow": 0.55 + 0.25 * waves + 0.1 * grain,
        "wood": 0.5 + 0.45 * np.sign(np.sin(5.0 * y + phases[5])) + 0.12 * grain,
    }[name]
    dark, bright = np.asarray(GROUND_RGB[name])
    rgbs = dark + (bright - dark) * np.clip(texture, 0, 1)[:, None]
    if sun is not None:
        foot = np.hypot(x + 0.25 * sun[0], y + 0.25 * sun[1])
        shadow = 1 - 0.42 / (1 + np.exp((foot - 1.05) / 0.14))
        rgbs = rgbs * shadow[:, None]
    return np.stack([x, y, np.zeros_like(x)], -1), sigma, rgbs


def _sky_points() -> np.ndarray:
    """A dome of evenly spread points (Fibonacci lattice), from a little below the horizon to the zenith."""
    index = np.arange(NUM_SKY) + 0.5
    z = -0.25 + 1.25 * index / NUM_SKY
    phi = index * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(np.clip(1 - z**2, 0, None))
    return SKY_RADIUS * np.stack([r * np.cos(phi), r * np.sin(phi), z], -1)


def _quats_from_normals(normals: np.ndarray) -> np.ndarray:
    """Rotations that carry the z axis onto each normal, wxyz."""
    x, y, z = normals.T
    quats = np.stack([1 + z, -y, x, np.zeros_like(z)], -1)
    flipped = z < -1 + 1e-6
    quats[flipped] = (0, 1, 0, 0)
    return quats / np.linalg.norm(quats, axis=-1, keepdims=True)
