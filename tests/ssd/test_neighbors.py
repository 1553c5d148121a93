"""Nearest points: against all distances, with ties at zero, and in a process that flushes denormals."""

import subprocess
import sys

import numpy as np

from threestudio_ssd.neighbors import Neighbors, normals_of


def test_nearest_are_those_of_all_distances():
    rng = np.random.default_rng(0)
    points, places = rng.normal(size=(200, 3)), rng.normal(size=(50, 3)) * 2
    everything = np.linalg.norm(places[:, None] - points[None], axis=-1)
    gaps, rows = Neighbors(points).nearest(places, 4)
    np.testing.assert_allclose(gaps, np.sort(everything, axis=1)[:, :4], rtol=1e-12)
    np.testing.assert_allclose(np.take_along_axis(everything, rows, axis=1), gaps, rtol=1e-12)


def test_a_limit_leaves_infinite_distances():
    gaps, _ = Neighbors(np.array([[0.0], [1.0]])).nearest(np.array([[0.1], [9.0]]), 2, limit=0.5)
    np.testing.assert_allclose(gaps, [[0.1, np.inf], [np.inf, np.inf]])


def test_pairs_within_a_radius():
    pairs = Neighbors(np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0]])).pairs(1.8)
    assert pairs.tolist() == [[0, 1]]


def test_many_zeros_in_a_process_that_flushes_denormals():
    """scipy's own tree recurses until the stack ends there."""
    program = (
        "import numpy as np, torch, threestudio; threestudio.load_plugins();"
        "from threestudio_ssd.neighbors import Neighbors;"
        "torch.set_flush_denormal(True);"
        "points = np.zeros((130, 3)); points[100:] = np.random.default_rng(0).uniform(size=(30, 3));"
        "print(Neighbors(points).nearest(points, 2)[0].shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "(130, 2)"), done.stderr


def test_normals_are_across_the_surface_that_points_lie_on():
    rng = np.random.default_rng(0)
    places = rng.uniform(-1, 1, (400, 2))
    tilted = np.column_stack([places, 0.5 * places[:, 0]])
    normals = normals_of(tilted)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.abs(normals @ np.array([-0.5, 0, 1]) / np.hypot(0.5, 1)), 1, atol=1e-6)
    assert normals_of(tilted[:1]).shape == (1, 3)
