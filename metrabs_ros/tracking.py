"""Who is who from frame to frame: absolute poses, a motion model, optimal assignment; births and deaths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metrabs_ros import motion_model
from metrabs_ros.association import affinity, assigned, cost_of_somebody_new, offsets
from metrabs_ros.errors import InputError
from metrabs_ros.pose import Pose3D, TrackedPose
from metrabs_ros.ranges import check_ranges, ranged

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

# A body's place is never known better than this, m.
_LEAST_NOISE_M = 0.05
# Above every cost within a gate.
_ANY_PRICE = 1e6
# Until the detector vouches for them again nobody comes nearer or goes farther by more than this factor, and once more
# each second: a pose that is too large asks for a crop that is too large, and so on.
_STRAYED = 1.4
# Of two boxes, the part of the smaller one from which on both may show the same person.
_SAME_PLACE = 0.5


@dataclass(frozen=True)
class TrackingParams:
    """How people are followed. Raises InputError for values outside their range."""

    forget_s: float = ranged(3.0, 0.0, 600.0, "Seconds for which somebody who is not seen keeps their id.")
    confirm_score: float = ranged(
        0.75,
        0.0,
        1.0,
        "Somebody new of at least this score has an id at once, unless where somebody known is.",
    )
    confirm_frames: int = ranged(3, 1, 1000, "Anybody else who is new has an id after being seen in so many frames.")
    doubt_s: float = ranged(0.3, 0.0, 60.0, "Seconds unseen after which somebody without an id is forgotten.")
    gate_sigmas: float = ranged(5.0, 1.0, 20.0, "Standard deviations by which a place may differ from the prediction.")
    lateral_noise: float = ranged(
        0.01, 0.0, 1.0, "Standard deviation of a place across the viewing ray, as a part of the distance, m/m."
    )
    depth_noise: float = ranged(
        0.04, 0.0, 1.0, "Standard deviation of a place along the viewing ray, as a part of the distance, m/m."
    )
    speed_m_s: float = ranged(1.0, 0.01, 100.0, "Standard deviation of people's speed in each direction, m/s.")
    persistence_s: float = ranged(2.0, 0.01, 100.0, "Seconds over which people keep their velocity.")
    new_people_per_m3: float = ranged(0.01, 1e-9, 1e3, "How densely people appear who were never seen before, 1/m³.")

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, eq=False)
class _Tracks:
    """T people as they were when last seen; all arrays have T rows.

    state [T,6] and covariance [T,6,6] of the motion model; joints3d [T,J,3] m around that place, with joints that were
    missing where they last were; seen_s; vouched_m and vouched_s, how far from the camera they were and when the
    detector last vouched for them; sightings; track_id, 0 while not confirmed; poses, the last ones.
    """

    state: Floats
    covariance: Floats
    joints3d: Floats
    seen_s: Floats
    vouched_m: Floats
    vouched_s: Floats
    sightings: Indices
    track_id: Indices
    poses: NDArray[np.object_]

    @classmethod
    def none(cls, joints: int) -> _Tracks:
        state, covariance, joints3d = np.zeros((0, 6)), np.zeros((0, 6, 6)), np.zeros((0, joints, 3))
        nobody, never = np.zeros(0, np.intp), np.zeros(0)
        return cls(state, covariance, joints3d, never, never, never, nobody, nobody, _objects([]))

    def __len__(self) -> int:
        return len(self.seen_s)

    def taken(self, index: NDArray[np.bool_]) -> _Tracks:
        return self if index.all() else _Tracks(*(rows[index] for rows in vars(self).values()))

    def joined(self, other: _Tracks) -> _Tracks:
        if not len(other):
            return self
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Tracks(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True, eq=False)
class LastSeen:
    """N people of the last frames: poses, their last ones; is_named [N], who has an id; is_current [N], who was seen in
    the very last frame."""

    poses: Sequence[Pose3D] = ()
    is_named: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    is_current: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


class Tracker:
    """Gives people track ids 1, 2, ... that last while they cross, hide and come back.

    Somebody new gets an id at once where their score is high and nobody known is before or behind them, else after
    ``confirm_frames`` frames, so that what is taken for a person in one frame only never has one, be it a second look
    at somebody. ``params`` can be replaced at any time.
    """

    def __init__(self, params: TrackingParams | None = None, first_id: int = 1, id_step: int = 1) -> None:
        """``id_step``: what ids count by, so that those of several trackers differ."""
        self.params = params or TrackingParams()
        self._tracks: _Tracks | None = None
        self._stamp_s = -math.inf
        self._next_id = first_id
        self._id_step = id_step

    def update(
        self, poses: Sequence[Pose3D], stamp_s: float, vouched: NDArray[np.bool_] | None = None
    ) -> list[TrackedPose]:
        """The people in the frame at ``stamp_s`` s who have an id, in the order of their poses.

        ``vouched`` [N] says for which poses more than the same person's last one speaks (None: all). Another one is
        left out unless it can be of somebody known who has not strayed far since they were vouched for. Joints may be
        NaN; a pose of nothing else is left out. Frames may come at any interval. A stamp before the last one is another
        recording: everybody is forgotten first (``seconds_back`` tells beforehand). Raises InputError for a stamp that
        is not finite.
        """
        if not math.isfinite(stamp_s):
            raise InputError(f"A stamp must be a finite number of seconds, got {stamp_s}: stamp the frame.")
        if self.seconds_back(stamp_s):
            self.reset()
        before_s, self._stamp_s = self._stamp_s, stamp_s
        params = self.params
        vouched = np.ones(len(poses), bool) if vouched is None else vouched
        is_somewhere = [bool(np.isfinite(pose.joints3d).all(-1).any()) for pose in poses]
        poses = [pose for pose, is_there in zip(poses, is_somewhere, strict=True) if is_there]
        vouched = vouched[is_somewhere]
        known = self._tracks
        if poses and known is None:
            known = _Tracks.none(len(poses[0].joints3d))
        if known is None:
            return []
        known = known.taken(stamp_s - known.seen_s <= params.forget_s)
        is_present = (known.seen_s >= before_s) | (stamp_s - known.seen_s <= params.doubt_s)
        if not poses:
            seen, is_away = known.taken(np.zeros(len(known), bool)), np.ones(len(known), bool)
        else:
            seen, is_away = self._seen(poses, known, is_present, vouched, stamp_s)
        is_kept = (known.track_id > 0) | (stamp_s - known.seen_s <= params.doubt_s)
        self._tracks = seen.joined(known.taken(is_away & is_kept))
        return [
            TrackedPose(**vars(pose), track_id=int(track_id))
            for pose, track_id in zip(seen.poses, seen.track_id, strict=True)
            if track_id
        ]

    def seen_since(self, stamp_s: float) -> LastSeen:
        """All who were seen at or after ``stamp_s``."""
        if self._tracks is None:
            return LastSeen()
        tracks = self._tracks.taken(self._tracks.seen_s >= stamp_s)
        return LastSeen(list(tracks.poses), tracks.track_id > 0, tracks.seen_s >= self._stamp_s)

    def missing_since(self, stamp_s: float) -> list[Pose3D]:
        """The last poses of those with an id who were not seen in the last frame but at or after ``stamp_s``."""
        if self._tracks is None:
            return []
        seen_s = self._tracks.seen_s
        return list(self._tracks.poses[(self._tracks.track_id > 0) & (seen_s < self._stamp_s) & (seen_s >= stamp_s)])

    def seconds_back(self, stamp_s: float) -> float:
        """By how much a stamp lies before the last frame's, s; 0 where time goes on, and after a reset."""
        return max(0.0, self._stamp_s - stamp_s)

    def reset(self) -> None:
        """Forget everybody; ids go on counting, so that no id ever means two people."""
        self._tracks = None
        self._stamp_s = -math.inf

    def _seen(
        self,
        poses: Sequence[Pose3D],
        known: _Tracks,
        is_present: NDArray[np.bool_],
        vouched: NDArray[np.bool_],
        stamp_s: float,
    ) -> tuple[_Tracks, NDArray[np.bool_]]:
        """The tracks of the poses after this frame, in their order, and which known tracks did not go into them."""
        params = self.params
        joints3d = np.stack([np.asarray(pose.joints3d, np.float64) for pose in poses])
        middles = _middles(joints3d)
        noise = _noise(poses, middles, params)
        age_s = stamp_s - known.seen_s
        state, covariance = motion_model.predicted(
            known.state, known.covariance, age_s, params.speed_m_s, params.persistence_s
        )
        places, posture_m = offsets(joints3d, known.joints3d)
        pairs = affinity(places - state[None, :, :3], covariance[None, :, :3, :3] + noise[:, None], posture_m, age_s)
        in_gate = (pairs.mahalanobis2 <= params.gate_sigmas**2) & (
            vouched[:, None] | ~_strayed(known, middles, stamp_s)
        )
        # A ghost is near somebody who is hidden all too easily.
        is_sure = np.array([pose.score for pose in poses]) >= params.confirm_score
        recognisable = in_gate & (is_sure[:, None] | is_present)
        owners = assigned(pairs.cost, recognisable, cost_of_somebody_new(params.new_people_per_m3))

        tracks = _begun(poses, joints3d, middles, noise, stamp_s, params)
        new, old = np.flatnonzero(owners >= 0), owners[owners >= 0]
        at = places[new, old]
        tracks.state[new], tracks.covariance[new] = motion_model.corrected(state[old], covariance[old], at, noise[new])
        around = joints3d[new] - at[:, None]
        tracks.joints3d[new] = np.where(np.isfinite(around), around, known.joints3d[old])
        tracks.sightings[new] += known.sightings[old]
        tracks.track_id[new] = known.track_id[old]
        for now, before in ((tracks.vouched_m, known.vouched_m), (tracks.vouched_s, known.vouched_s)):
            now[new] = np.where(vouched[new], now[new], before[old])

        is_away = np.ones(len(known), bool)
        is_away[old] = False
        is_somebody = (owners >= 0) | vouched
        is_sure &= ~_in_place_of(poses, tracks.track_id > 0)
        confirmed_now = is_somebody & (tracks.track_id == 0) & (is_sure | (tracks.sightings >= params.confirm_frames))
        if confirmed_now.any():
            is_missing = (known.track_id > 0) & is_away
            back = assigned(pairs.cost, in_gate & confirmed_now[:, None] & is_missing, _ANY_PRICE)
            tracks.track_id[back >= 0] = known.track_id[back[back >= 0]]
            is_away[back[back >= 0]] = False
            nameless = np.flatnonzero(confirmed_now & (back < 0))
            tracks.track_id[nameless] = self._next_id + self._id_step * np.arange(len(nameless))
            self._next_id += self._id_step * len(nameless)
        return tracks.taken(is_somebody), is_away


def _begun(
    poses: Sequence[Pose3D], joints3d: Floats, places: Floats, noise: Floats, stamp_s: float, params: TrackingParams
) -> _Tracks:
    """Tracks of people who are seen for the first time, at ``places`` [N,3] m."""
    state, covariance = motion_model.begun(places, noise, params.speed_m_s)
    count = len(poses)
    return _Tracks(
        state,
        covariance,
        joints3d - places[:, None],
        np.full(count, stamp_s),
        np.linalg.norm(places, axis=-1),
        np.full(count, stamp_s),
        np.ones(count, np.intp),
        np.zeros(count, np.intp),
        _objects(poses),
    )


def _strayed(known: _Tracks, places: Floats, stamp_s: float) -> NDArray[np.bool_]:
    """[N,T]: which of ``places`` [N,3] m are much nearer or farther than each of the known was when vouched for."""
    most = _STRAYED ** (1 + stamp_s - known.vouched_s)
    distance = np.linalg.norm(places, axis=-1)[:, None]
    return (distance > most * known.vouched_m) | (distance * most < known.vouched_m)


def _noise(poses: Sequence[Pose3D], places: Floats, params: TrackingParams) -> Floats:
    """[N,3,3] m²: what one camera knows of each place; a pose that says it is less certain is taken at its word."""
    distance = np.linalg.norm(places, axis=-1)
    told = _medians(np.stack([pose.uncertainty for pose in poses]))
    lateral = np.hypot(_LEAST_NOISE_M, params.lateral_noise * distance)
    depth = np.maximum(np.hypot(_LEAST_NOISE_M, params.depth_noise * distance), told)
    return motion_model.viewing_noise(places, lateral, depth)


def _middles(joints3d: Floats) -> Floats:
    """[N,J,3] m -> [N,3] m: the mean of the coordinates that are known."""
    known = ~np.isnan(joints3d)
    return np.where(known, joints3d, 0.0).sum(1) / known.sum(1)


def _medians(uncertainty: Floats) -> Floats:
    """[N,J] -> [N]: the median of what is finite, 0 where nothing is."""
    ordered = np.sort(np.where(np.isfinite(uncertainty), uncertainty, np.nan))
    count = np.isfinite(ordered).sum(1)
    rows = np.arange(len(ordered))
    middle = (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2]) / 2
    return np.where(count > 0, middle, 0.0)


def _in_place_of(poses: Sequence[Pose3D], is_known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[N]: whose box and that of another one, who ``is_known``, share most of the smaller of the two."""
    boxes = np.stack([pose.box for pose in poses])
    low, high, area = boxes[:, :2], boxes[:, :2] + boxes[:, 2:], boxes[:, 2:].prod(-1)
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    covered = np.clip(shared, 0, None).prod(-1) > _SAME_PLACE * np.minimum(area[:, None], area[None])
    np.fill_diagonal(covered, False)
    return covered[:, is_known].any(1)


def _objects(poses: Sequence[Pose3D]) -> NDArray[np.object_]:
    array = np.empty(len(poses), object)
    array[:] = poses
    return array
