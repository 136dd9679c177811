"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

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
