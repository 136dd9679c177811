"""Test-time augmentation: several views of each person, whose predictions are brought back and averaged.

The views are those of the authors' released code: rolled, nearer and farther, brighter, and every other one mirrored.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from metrabs_ros.crop import VirtualCameras
from metrabs_ros.engine import EngineOutput
from metrabs_ros.errors import InputError

Floats = NDArray[np.float64]

MAX_VIEWS = 32
_ROLL = np.radians(25)
_FARTHEST, _NEAREST = 0.8, 1.1
_BRIGHTEST = 0.6


@dataclass(frozen=True, eq=False)
class AugmentedViews:
    """A views of a person: angles [A] rad by which the camera rolls, scales [A] of its focal length, gammas [A] of the
    crop's values, mirrored [A]."""

    angles: Floats
    scales: Floats
    gammas: Floats
    mirrored: NDArray[np.bool_]

    @classmethod
    def of(cls, num_aug: int) -> AugmentedViews:
        """The views of a number; 1 is the crop as it is. Raises InputError unless it is a whole number in 1..32."""
        if isinstance(num_aug, (bool, np.bool_)) or not isinstance(num_aug, (int, np.integer)):
            raise InputError(f"num_aug must be a whole number from 1 to {MAX_VIEWS}, got {num_aug!r}.")
        if not 1 <= num_aug <= MAX_VIEWS:
            raise InputError(
                f"num_aug must be a number of views from 1 (no augmentation) to {MAX_VIEWS}, got {num_aug}: "
                "5 is a good start."
            )
        if num_aug == 1:
            return cls(np.zeros(1), np.ones(1), np.ones(1), np.zeros(1, bool))
        farther = num_aug // 2
        scales = np.concatenate(
            [np.linspace(_FARTHEST, 1, farther, endpoint=False), np.linspace(1, _NEAREST, num_aug - farther)]
        )
        mirrored = (np.arange(num_aug) - farther) % 2 != 0
        return cls(np.linspace(-_ROLL, _ROLL, num_aug), scales, np.linspace(_BRIGHTEST, 1, num_aug), mirrored)

    def __len__(self) -> int:
        return len(self.angles)

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether the crop as it is is the only view: nothing is done then, which is how most frames go."""
        turned = self.angles.any() or (self.scales != 1).any()
        return len(self) == 1 and not turned and not self.mirrored.any()

    def cameras(self, virtual: VirtualCameras) -> VirtualCameras:
        """N virtual cameras -> N·A, the views of a person one after the other; not mirrored."""
        if self.is_plain:
            return virtual
        roll = Rotation.from_euler("z", -self.angles).as_matrix()
        R_view_cam = np.einsum("aij,njk->naik", roll, virtual.R_crop_cam)
        K = np.repeat(virtual.K[:, None], len(self), 1)
        K[..., :2, :2] *= self.scales[:, None, None]
        return VirtualCameras(K.reshape(-1, 3, 3), R_view_cam.reshape(-1, 3, 3), virtual.side)

    def shown(self, cameras: VirtualCameras, about: str = "middle") -> VirtualCameras:
        """What the network is shown of ``cameras`` [N·A]: pixel columns in reverse where the view is mirrored.

        ``about`` the "middle" of the crop, or its "principal_point", half a pixel beside it, as in the released code.
        """
        if self.is_plain:
            return cameras
        mirrored = self.of_all(self.mirrored, cameras)
        flip = np.array([[-1.0, 0, _exchanged_sum(cameras, about)], [0, 1, 0], [0, 0, 1]])
        return replace(cameras, K=np.where(mirrored[:, None, None], flip @ cameras.K, cameras.K))

    def unmirrored(
        self, output: EngineOutput, cameras: VirtualCameras, counterparts: NDArray[np.intp], about: str = "middle"
    ) -> EngineOutput:
        """What the network said of ``shown`` as ``cameras`` see it; counterparts [J]: Skeleton.mirror."""
        if self.is_plain:
            return output
        mirrored = self.of_all(self.mirrored, cameras)
        joints = np.where(mirrored[:, None], counterparts, np.arange(len(counterparts)))

        def exchanged(values: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.take_along_axis(values, joints.reshape(*joints.shape, *[1] * (values.ndim - 2)), 1)

        coords3d_rel = exchanged(output.coords3d_rel)
        coords3d_rel[mirrored, :, 0] *= -1
        return EngineOutput(
            self.exchanged_columns(exchanged(output.coords2d), cameras, about),
            coords3d_rel,
            exchanged(output.confidence),
            output.person_score,
            exchanged(output.spread2d),
            exchanged(output.spread3d),
        )

    def exchanged_columns(
        self, pixels: NDArray[np.float32], cameras: VirtualCameras, about: str = "middle"
    ) -> NDArray[np.float32]:
        """Pixels [N·A,J,2] of ``shown`` as ``cameras`` see them, and the other way round."""
        if not self.mirrored.any():
            return pixels
        exchanged = pixels.copy()
        mirrored = self.of_all(self.mirrored, cameras)
        exchanged[mirrored, :, 0] = _exchanged_sum(cameras, about) - pixels[mirrored, :, 0]
        return exchanged

    def of_all(self, per_view: NDArray[np.generic], cameras: VirtualCameras) -> NDArray[np.generic]:
        """A value a view, [A], for each of the cameras [N·A]."""
        return np.tile(per_view, len(cameras) // len(self))


def _exchanged_sum(cameras: VirtualCameras, about: str) -> int:
    """What the columns of a pixel and of its mirror image add up to."""
    return cameras.side - 1 if about == "middle" else cameras.side
