"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metrabs_ros.engine import open_engine


@pytest.fixture(autouse=True, scope="session")
def unmeasured_auto() -> Iterator[None]:
    """auto is the first runtime here: what other work leaves of the machine must not decide what a test computes.

    Nodes in processes of their own are told theirs (real_node); test_auto_backend measures.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrabs_ros.pipeline.open_fastest", open_engine)
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty: what this machine's user has fetched, built or measured is not to be found."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("METRABS_ROS_CACHE", str(folder))
    return folder


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS_DOMAIN_ID of the test's own."""
    from ros_support import free_domain

    with free_domain() as free:
        yield free
