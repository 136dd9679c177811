"""Networks that several threads share: one batch, nobody held, nobody mixed up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from metrabs_ros.camera_pipelines import CameraPipelines
from metrabs_ros.shared_networks import Meeting, SharedNetwork


class FakeNetwork:
    """Doubles its input; ``batches`` are the sizes that it was called with."""

    backend_name, device, input_names = "fake", "none", ["x"]

    def __init__(self, batch: int = -1) -> None:
        self.input_shape = [batch, 2]
        self.batches: list[int] = []

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(batch))
        if np.isnan(batch).any():
            raise RuntimeError("a fault of the fake network")
        return {"y": 2 * batch}

    def close(self) -> None: ...


def together(meeting: Meeting, *jobs: Callable[[], Any]) -> list[Any]:
    def taking_part(order: int, job: Callable[[], Any]) -> Any:
        with meeting.taking_part(order):
            return job()

    meeting.begin(len(jobs))
    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(taking_part, i, job) for i, job in enumerate(jobs)]
        return [future.exception(10) or future.result() for future in futures]


def rows(count: int, value: float) -> np.ndarray:
    return np.full((count, 2), value, np.float32)


def test_what_is_asked_for_at_the_same_time_runs_as_one_batch_and_comes_back_apart() -> None:
    network, meeting = FakeNetwork(), Meeting()
    shared = SharedNetwork(network, meeting)
    answers = together(meeting, *(lambda n=n: shared.run(rows(n, n))["y"] for n in (1, 3, 2)))
    assert network.batches == [6]
    assert (meeting.calls, meeting.joined) == (1, 1)
    for count, answer in zip((1, 3, 2), answers, strict=True):
        np.testing.assert_array_equal(answer, rows(count, 2 * count))


def test_threads_that_ask_different_numbers_of_times_do_not_wait_for_each_other() -> None:
    network, meeting = FakeNetwork(), Meeting()
    shared = SharedNetwork(network, meeting)

    def asking(times: int) -> float:
        return sum(float(shared.run(rows(1, i))["y"][0, 0]) for i in range(times))

    assert together(meeting, *(lambda n=n: asking(n) for n in (0, 1, 4))) == [0.0, 0.0, 12.0]
    assert network.batches == [2, 1, 1, 1]


def test_two_networks_at_once_each_get_their_own_rows() -> None:
    meeting = Meeting()
    networks = [FakeNetwork(), FakeNetwork()]
    shared = [SharedNetwork(network, meeting) for network in networks]
    answers = together(
        meeting,
        lambda: shared[0].run(rows(1, 1))["y"],
        lambda: shared[1].run(rows(2, 5))["y"],
        lambda: shared[0].run(rows(3, 7))["y"],
    )
    assert [network.batches for network in networks] == [[4], [2]]
    np.testing.assert_array_equal(answers[2], rows(3, 14))


def test_a_network_of_a_fixed_batch_is_called_for_one_after_the_other() -> None:
    network, meeting = FakeNetwork(batch=1), Meeting()
    shared = SharedNetwork(network, meeting)
    together(meeting, *(lambda: shared.run(rows(1, 0)) for _ in range(3)))
    assert network.batches == [1, 1, 1]


def test_a_fault_reaches_everybody_who_was_in_the_batch_and_the_next_batch_runs() -> None:
    network, meeting = FakeNetwork(), Meeting()
    shared = SharedNetwork(network, meeting)
    answers = together(meeting, lambda: shared.run(rows(1, np.nan)), lambda: shared.run(rows(1, 0)))
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]
    answers = together(meeting, lambda: shared.run(rows(1, 1)), lambda: shared.run(rows(1, 0)))
    assert network.batches == [2, 2]
    assert all(isinstance(answer, dict) for answer in answers)


def test_outside_of_a_meeting_nobody_waits() -> None:
    network = FakeNetwork()
    np.testing.assert_array_equal(SharedNetwork(network, Meeting()).run(rows(2, 3))["y"], rows(2, 6))


def test_who_fails_before_asking_holds_nobody() -> None:
    network, meeting = FakeNetwork(), Meeting()
    shared = SharedNetwork(network, meeting)

    def failing() -> None:
        raise ValueError("nothing to ask")

    answers = together(meeting, failing, lambda: shared.run(rows(1, 1))["y"])
    assert isinstance(answers[0], ValueError)
    np.testing.assert_array_equal(answers[1], rows(1, 2))


@pytest.mark.parametrize("cameras", [1, 3])
def test_jobs_run_with_the_pipeline_of_their_camera(cameras: int) -> None:
    names: list[Any] = [f"pipeline {i}" for i in range(cameras)]
    pipelines = CameraPipelines(names)
    seen: dict[int, Any] = {}
    jobs = {i: (lambda pipeline, i=i: seen.update({i: pipeline})) for i in range(cameras)}
    pipelines.run(jobs)
    assert seen == dict(enumerate(names))
