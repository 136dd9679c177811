"""Bodies posed through their URDF by a parser of others, and the joints that an engine would then see."""

from __future__ import annotations

import functools
import io

import numpy as np
import yourdfpy

from metrabs_ros.body_frame import EYES_ABOVE_EARS
from metrabs_ros.body_model import JOINT_NAMES, LINK_NAMES
from metrabs_ros.body_urdf import urdf
from metrabs_ros.segment_lengths import SegmentLengths

# The links that lie on joints of a skeleton.
LINK_OF = {
    f"{side}_{joint}": f"{side[0]}_{link}"
    for side in ("left", "right")
    for joint, link in (
        ("hip", "y_hip"),
        ("knee", "knee"),
        ("ankle", "ankle"),
        ("shoulder", "y_shoulder"),
        ("elbow", "elbow"),
        ("wrist", "wrist"),
    )
}
SEEN = (*LINK_OF, "left_ear", "right_ear", "left_eye", "right_eye")


@functools.lru_cache(maxsize=64)
def parsed(lengths: SegmentLengths, reference_joints: bool = False) -> yourdfpy.URDF:
    text = urdf("p1", lengths, reference_joints)
    return yourdfpy.URDF.load(io.BytesIO(text.encode()), build_scene_graph=True, load_meshes=False)


def links_through_urdf(lengths: SegmentLengths, positions: np.ndarray, T_cam_body: np.ndarray) -> np.ndarray:
    """One person's positions [len(JOINT_NAMES)] -> poses of all links [len(LINK_NAMES),4,4], by the parsed URDF."""
    robot = parsed(lengths)
    robot.update_cfg({f"{name}_p1": value for name, value in zip(JOINT_NAMES, positions, strict=True)})
    return np.stack([T_cam_body @ robot.get_transform(f"{link}_p1", "body_p1") for link in LINK_NAMES])


def joints_of(links: np.ndarray) -> np.ndarray:
    """Poses of links [len(LINK_NAMES),4,4] -> joints [len(SEEN),3], the ears where they lie in people."""
    points = [links[LINK_NAMES.index(link), :3, 3] for link in LINK_OF.values()]
    head = links[LINK_NAMES.index("head")]
    ears = -0.07 * np.array([np.cos(EYES_ABOVE_EARS), 0, np.sin(EYES_ABOVE_EARS)])
    for middle, half in ((ears, 0.07), (np.zeros(3), 0.03)):
        points += [head[:3, :3] @ (middle + [0, side * half, 0]) + head[:3, 3] for side in (1, -1)]
    return np.stack(points)


def return_errors(links: np.ndarray, joints: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """Distances, m, of a skeleton's joints [J,3] from the links that stand for them, and of head from between the
    eyes."""
    at = {name: joints[names.index(name)] for name in SEEN if name in names}
    wanted = {name: at[name] for name in LINK_OF} | {"head": (at["left_eye"] + at["right_eye"]) / 2}
    of = LINK_OF | {"head": "head"}
    return {
        name: float(np.linalg.norm(links[LINK_NAMES.index(of[name]), :3, 3] - point)) for name, point in wanted.items()
    }
