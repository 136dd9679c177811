"""Lenses that real cameras have, one of every formula, and hypothesis strategies for random ones."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from metrabs_ros.camera import Camera

SIZE = (640, 480)
K = np.array([[410.0, 0, 322.5], [0, 415.0, 236.0], [0, 0, 1]])
WIDE_K = np.array([[205.0, 0, 322.5], [0, 207.0, 236.0], [0, 0, 1]])

LENSES = {
    "pinhole": Camera(K, np.zeros(0), "plumb_bob", SIZE),
    "plumb_bob 4": Camera(K, [-0.28, 0.09, 0.001, -0.0007], "plumb_bob", SIZE),
    "plumb_bob 5": Camera(K, [-0.32, 0.12, 0.0006, -0.0009, -0.02], "plumb_bob", SIZE),
    "rational 8": Camera(K, [1.2, 0.35, 0.0004, -0.0002, 0.01, 1.55, 0.62, 0.07], "rational_polynomial", SIZE),
    "rational 12": Camera(
        K,
        [1.2, 0.35, 0.0004, -0.0002, 0.01, 1.55, 0.62, 0.07, 0.004, -0.002, -0.003, 0.001],
        "rational_polynomial",
        SIZE,
    ),
    "rational 14": Camera(
        K,
        [1.2, 0.35, 0.0004, -0.0002, 0.01, 1.55, 0.62, 0.07, 0.004, -0.002, -0.003, 0.001, 0.02, -0.03],
        "rational_polynomial",
        SIZE,
    ),
    "equidistant": Camera(WIDE_K, [0.02, -0.004, 0.001, -0.00005], "equidistant", SIZE),
}

_POLYNOMIAL_COUNTS = (0, 4, 5, 8, 12, 14)


@st.composite
def intrinsics(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int]]:
    """K [3,3] px with skew, unequal focal lengths and an off-centre principal point; size (width, height) px."""
    width, height = draw(st.integers(64, 3000)), draw(st.integers(64, 3000))
    focal = max(width, height) * draw(st.floats(0.4, 3.0))
    K = np.array(
        [
            [focal, draw(st.floats(-0.01, 0.01)) * focal, width * draw(st.floats(0.3, 0.7))],
            [0, focal * draw(st.floats(0.8, 1.25)), height * draw(st.floats(0.3, 0.7))],
            [0, 0, 1],
        ]
    )
    return K, (width, height)


@st.composite
def polynomial_cameras(draw: st.DrawFn) -> Camera:
    """Any of OpenCV's polynomial lenses, bent as much as lenses are."""
    K, size = draw(intrinsics())
    bounds = [0.4, 0.2, 0.005, 0.005, 0.05, 0.3, 0.1, 0.03, 0.01, 0.005, 0.01, 0.005, 0.06, 0.06]
    count = draw(st.sampled_from(_POLYNOMIAL_COUNTS))
    D = [draw(st.floats(-bound, bound)) for bound in bounds[:count]]
    model = "plumb_bob" if count <= 5 else "rational_polynomial"
    return Camera(K, D, model, size)


@st.composite
def fisheye_cameras(draw: st.DrawFn) -> Camera:
    """Kannala-Brandt lenses around the ideal equidistant one."""
    K, size = draw(intrinsics())
    D = [draw(st.floats(-bound, bound)) for bound in (0.05, 0.02, 0.005, 0.001)]
    return Camera(K, D, "equidistant", size)


def pixel_grid(camera: Camera, count: int = 25) -> np.ndarray:
    """[count*count,2] px, evenly over the whole image up to its outermost edges."""
    width, height = camera.size
    u, v = np.meshgrid(np.linspace(-0.5, width - 0.5, count), np.linspace(-0.5, height - 0.5, count))
    return np.stack([u, v], -1).reshape(-1, 2)
