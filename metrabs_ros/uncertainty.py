"""How far joints may be from their true places, in metres: from the views' disagreement or from the heatmaps' spread.

The uncertainty of a joint is the root mean square distance from its true place. What a network shows of its own errors
is not all of them: ``Calibration`` holds what an engine's real errors were found to be in terms of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.errors import InputError

Floats = NDArray[np.float64]

# Of a person, m.
LEAST_HEIGHT, GREATEST_HEIGHT = 0.4, 2.6


@dataclass(frozen=True)
class Calibration:
    """An engine's errors in terms of what it shows of them, as training.calibrate measures them.

    heatmap: error over the one that the heatmaps' spreads imply; views: the error that all views of test-time
    augmentation share over the spread between them; distance: error of the whole person as a part of their distance,
    which neither shows; height: m, how tall the engine takes people to be whose height it cannot see (0: not measured).
    Raises InputError where one is negative.
    """

    heatmap: float = 1.0
    views: float = 1.0
    distance: float = 0.0
    height: float = 0.0

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if value < 0:
                raise InputError(f"calibration: {key} must not be negative, got {value}.")

    def size_of(self, person_height: float) -> float:
        """By how much somebody of this height, m, is larger than the engine takes them to be; 1 where it is 0, unknown.

        An image hardly shows how tall somebody is: the network's answer is nearly the same for all adults, and how far
        they stand is off by as much as their height from that. Raises InputError for a height that nobody has, and
        where the engine's own is not known.
        """
        if not person_height:
            return 1.0
        if not LEAST_HEIGHT <= person_height <= GREATEST_HEIGHT:
            raise InputError(
                f"person_height must be 0 (unknown) or a height from {LEAST_HEIGHT} to {GREATEST_HEIGHT} m, got "
                f"{person_height}."
            )
        if not self.height:
            raise InputError(
                "The engine's spec does not say how tall it takes people to be, so that person_height is of no use: "
                "add calibration: height to it (training.calibrate measures it), or leave person_height at 0."
            )
        return person_height / self.height


def spread_of_views(joints3d: ArrayLike) -> Floats:
    """[N,A,J,3] m -> [N,J] m: standard deviation between A >= 2 views, all axes together, unbiased."""
    joints3d = np.asarray(joints3d, np.float64)
    return np.sqrt(joints3d.var(1, ddof=1).sum(-1))


def of_views(spread: Floats, views: int, distance: Floats, calibration: Calibration) -> Floats:
    """Uncertainty [N,J] m of the mean of views: spread [N,J] m between them, distance [N,J] m from the camera.

    A view's error is one that all views of the person share and one of its own. Averaging A views leaves 1/A of the
    variance of their own, which is the spread squared, and all of what they share, which no spread shows: that is taken
    to be ``calibration.views`` times as large as the spread (1: half the variance of a view's error is shared, so that
    the uncertainty of many views is the spread between them). Lastly the whole person may be nearer or farther by
    ``calibration.distance`` of the distance, for nobody's height can be seen in one image.
    """
    return np.sqrt((1 / views + calibration.views**2) * spread**2 + (calibration.distance * distance) ** 2)


def of_heatmaps(deviation: Floats, distance: Floats, calibration: Calibration) -> Floats:
    """Uncertainty [N,J] m of one view: deviation [N,J] m as reconstruct.absolute_deviation has it; NaN stays NaN.

    Heatmaps are as wide as training made them, not as wide as errors are: ``calibration.heatmap`` is the ratio.
    """
    return np.hypot(calibration.heatmap * deviation, calibration.distance * distance)
