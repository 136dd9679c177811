"""What a person sees in the two-person clip, written down by hand from its frames.

Where the middle of the hips is, in pixels, at some frames; in between it moves about evenly. A person counts as visible
from the first to the last frame given here: the woman from when her head comes out from behind the tree until it leaves
the image, the man (on the roof, in the air upside down, on the grass) until the tree hides his head.
"""

from __future__ import annotations

import numpy as np

HIPS = {
    "man": {
        0: (651, 277), 15: (636, 243), 30: (631, 253), 45: (631, 243), 60: (612, 291), 75: (622, 253), 90: (641, 243),
        105: (646, 219), 120: (728, 282), 135: (767, 267), 150: (801, 257), 165: (860, 280), 175: (938, 254),
        181: (1044, 354), 187: (1022, 513), 190: (1059, 698), 195: (1107, 782), 210: (1297, 733), 225: (1545, 758),
        227: (1590, 740),
    },
    "woman": {
        37: (1572, 739), 45: (1515, 753), 60: (1409, 729), 75: (1277, 715), 90: (1127, 720), 105: (986, 728),
        120: (826, 728), 135: (675, 728), 150: (534, 728), 165: (369, 731), 180: (204, 740), 195: (45, 735),
        199: (24, 740),
    },
}  # fmt: skip
# A skeleton whose hips are this near, px, is this person's: less than half of their height in the image.
NEAR = 150.0


def hips_of(person: str) -> dict[int, np.ndarray]:
    """Frame -> mid-hip pixel of every frame in which the person is visible."""
    marks = HIPS[person]
    frames = np.arange(min(marks), max(marks) + 1)
    points = np.array(list(marks.values()), float)
    x, y = (np.interp(frames, list(marks), points[:, axis]) for axis in (0, 1))
    return {int(frame): np.array(point) for frame, *point in zip(frames, x, y, strict=True)}
