"""Where crops are made: measured in turn, then kept."""

from __future__ import annotations

import logging

import pytest

from metrabs_ros.warp_choice import LEAST_PIXELS, MEASURED, WARM_UP, Case, WarpChoice


def settled(gpu_ms: list[float], cpu_ms: list[float]) -> tuple[Case, list[bool]]:
    """A case that was measured, and the ways it asked for."""
    case, ways = Case("Crops"), []
    times = {True: iter(gpu_ms), False: iter(cpu_ms)}
    for _ in range(len(gpu_ms) + len(cpu_ms)):
        ways.append(case.is_gpu_next)
        case.took(ways[-1], next(times[ways[-1]]) / 1e3)
    return case, ways


@pytest.mark.parametrize(("gpu_ms", "is_gpu"), [(1.0, True), (3.0, False)])
def test_both_ways_in_turn_and_then_the_faster_one(
    gpu_ms: float, is_gpu: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        case, ways = settled([900, 900, gpu_ms, gpu_ms, 500], [0.1, 0.1, 2, 2, 2])
    assert ways == [True, False] * (WARM_UP + MEASURED)
    place = "GPU" if is_gpu else "CPU"
    assert caplog.messages == [
        f"Crops are made on the {place}: with the network they took {gpu_ms:.1f} ms on the GPU, 2.0 ms on the CPU."
    ]
    for _ in range(5):
        assert case.is_gpu_next is is_gpu
        case.took(is_gpu, 99)


def test_where_the_gpu_cannot_the_cpus_frames_settle_nothing() -> None:
    case = Case("Crops")
    for _ in range(20):
        assert case.is_gpu_next
        case.took(False, 1)


def test_small_images_stay_on_the_cpu() -> None:
    case = WarpChoice().case((LEAST_PIXELS // 1000, 999), 3)
    for _ in range(20):
        assert not case.is_gpu_next
        case.took(False, 1)


def test_a_case_is_an_image_size_and_a_number_of_crops_up_to_a_power_of_two() -> None:
    choice, size = WarpChoice(), (1920, 1080)
    assert choice.case(size, 3) is choice.case(size, 4)
    assert choice.case(size, 5) is choice.case(size, 8)
    others = [choice.case(size, 1), choice.case(size, 2), choice.case(size, 4), choice.case(size, 5)]
    assert len({id(case) for case in [*others, choice.case((1080, 1920), 1)]}) == 5
