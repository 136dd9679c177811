"""A pipeline for each of several cameras, over the same networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from metrabs_ros.conventions import ENGINE
from metrabs_ros.pipeline import DEFAULT_ENGINE, PosePipeline
from metrabs_ros.shared_networks import Meeting, around


class CameraPipelines:
    """One PosePipeline a camera, in the cameras' order; ``run`` works on a frame of each at the same time.

    What the pipelines ask of the engine and of the detector meanwhile runs as one batch. Each has its own tracker, and
    no track id is given twice.
    """

    def __init__(
        self,
        pipelines: Sequence[PosePipeline],
        meeting: Meeting | None = None,
        owner: PosePipeline | None = None,
    ) -> None:
        """``meeting``: where the pipelines' networks meet; ``owner`` closes them (None: each pipeline its own)."""
        self.pipelines = list(pipelines)
        self._owners = self.pipelines if owner is None else [owner]
        self._meeting = meeting or Meeting()
        others = len(self.pipelines) - 1
        self._pool = ThreadPoolExecutor(others, "camera") if others else None

    @classmethod
    def from_engine(
        cls,
        name_or_path: str | Path = DEFAULT_ENGINE,
        backend: str = "auto",
        *,
        cameras: int = 1,
        convention: str = ENGINE,
        num_aug: int = 1,
        person_height: float = 0.0,
    ) -> CameraPipelines:
        """The engine of a name or spec file, opened once. Raises InputError."""
        first = PosePipeline.from_engine(
            name_or_path, backend, num_aug, convention=convention, person_height=person_height
        )
        if cameras == 1:
            return cls([first])
        meeting = Meeting()
        return cls([first.shared(around(meeting), i + 1, cameras) for i in range(cameras)], meeting, owner=first)

    @property
    def calls(self) -> tuple[int, int]:
        """Batches that ran since the beginning where networks are shared, and those among them of several cameras."""
        return self._meeting.calls, self._meeting.joined

    def warm_up(self) -> None:
        """Runs every network once."""
        self.pipelines[0].warm_up()

    def run(self, jobs: Mapping[int, Callable[[PosePipeline], None]]) -> None:
        """Each job with the pipeline of its camera, at the same time; returns when all are done. Jobs raise nothing."""
        (first, job), *rest = jobs.items()
        self._meeting.begin(len(jobs))
        others = [self._pool.submit(self._do, camera, other) for camera, other in rest] if self._pool else []
        self._do(first, job)
        for other in others:
            other.result()

    def release_memory(self) -> None:
        """What frames have taken is given back; not while ``run`` works."""
        for pipeline in self._owners:
            pipeline.release_memory()

    def close(self) -> None:
        """Frees the engines."""
        if self._pool is not None:
            self._pool.shutdown()
        for pipeline in self._owners:
            pipeline.close()

    def _do(self, camera: int, job: Callable[[PosePipeline], None]) -> None:
        with self._meeting.taking_part(camera):
            job(self.pipelines[camera])
