"""The clip of the demo and the tests: two people outdoors, out of the wheel of sports2d (BSD-3-Clause)."""

from __future__ import annotations

from pathlib import Path

from metrabs_ros.weights import fetch
from metrabs_ros.weights_spec import PackageFile

ROOT = Path(__file__).resolve().parent.parent
SOURCE = PackageFile("Sports2D/Demo/demo.mp4", wheel="sports2d==0.8.34")
SHA256 = "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039"
# Of the longer side, degrees. Nobody calibrated that phone; wide-angle phones have about this.
FOV_DEG = 55.0


def clip_path() -> Path:
    """The clip in the checkout's cache, fetched at the first call. Raises InputError where it cannot be."""
    path = ROOT / ".cache" / "demo.mp4"
    fetch(SOURCE, SHA256, path)
    return path


if __name__ == "__main__":
    print(clip_path())
