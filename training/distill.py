"""BlazePose as a second teacher: its landmarks, in pixels and in metres, for the joints that both skeletons have."""

from __future__ import annotations

import torch

from metrabs_ros.engine import open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.skeleton import Skeleton
from training.examples import Batch
from training.losses import TeacherPose


class Teacher:
    """An engine of the runtime that labels crops. Its joints mean the same places by name, not to the centimetre."""

    def __init__(self, engine: str, student: Skeleton) -> None:
        spec = load_spec(find_spec(engine))
        self._engine = open_engine(spec)
        common = [name for name in student.joint_names if name in spec.joints]
        if not common:
            raise InputError(f"The teacher {engine} has no joint in common with the student: give another one.")
        self._own = [spec.joints.index(name) for name in common]
        self._min_score = spec.min_person_score
        self.student_joints = tuple(student.joint_names.index(name) for name in common)

    def __call__(self, batch: Batch) -> TeacherPose:
        """Weights are the teacher's own confidences, 0 on crops where it sees nobody or nobody is."""
        crops = batch.image.cpu().numpy().astype("float32") / 255
        seen = self._engine.infer(crops)
        score = torch.from_numpy(seen.person_score)
        trusted = torch.where(score >= self._min_score, score, 0.0) * ~batch.background.cpu()
        device = batch.image.device
        return TeacherPose(
            torch.from_numpy(seen.coords2d[:, self._own]).to(device),
            torch.from_numpy(seen.coords3d_rel[:, self._own]).to(device),
            (torch.from_numpy(seen.confidence[:, self._own]) * trusted[:, None]).to(device),
            self.student_joints,
        )
