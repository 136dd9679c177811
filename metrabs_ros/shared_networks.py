"""Networks that several threads use at once: what they ask for at the same time runs as one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.engine import Network

Floats = NDArray[np.float32]


@dataclass
class _Request:
    order: int
    network: Network
    batch: Floats
    result: dict[str, Floats] | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


class Meeting:
    """Where threads that work at the same time wait until each of them needs a network or is done.

    Then everything that they ask for runs, each network once, the rows in the order of the threads' numbers. Nobody
    waits for a thread that does not take part. ``calls`` counts the batches so far, ``joined`` those among them that
    were of several threads.
    """

    def __init__(self) -> None:
        self.calls = self.joined = 0
        self._changed = threading.Condition()
        self._taking_part = 0
        self._requests: list[_Request] = []
        self._mine = threading.local()

    def begin(self, count: int) -> None:
        """``count`` threads are about to take part."""
        with self._changed:
            self._taking_part += count

    @contextmanager
    def taking_part(self, order: int) -> Iterator[None]:
        """One of the threads that begin() announced, while it works."""
        self._mine.order = order
        try:
            yield
        finally:
            with self._changed:
                self._taking_part -= 1
                self._serve_if_all_wait()

    def run(self, network: Network, batch: Floats) -> dict[str, Floats]:
        """The network's outputs for this batch, alone or as a part of a larger one."""
        request = _Request(getattr(self._mine, "order", 0), network, batch)
        with self._changed:
            self._requests.append(request)
            self._serve_if_all_wait()
            self._changed.wait_for(lambda: request.is_done)
        if request.error is not None:
            raise request.error
        assert request.result is not None
        return request.result

    def _serve_if_all_wait(self) -> None:
        if not self._requests or len(self._requests) < self._taking_part:
            return
        requests, self._requests = sorted(self._requests, key=lambda request: request.order), []
        for network in dict.fromkeys(request.network for request in requests):
            of_network = [request for request in requests if request.network is network]
            self.calls += 1
            self.joined += len(of_network) > 1
            _serve(network, of_network)
        self._changed.notify_all()


class SharedNetwork:
    """A network behind a Meeting. close() leaves it to whoever opened it."""

    def __init__(self, network: Network, meeting: Meeting) -> None:
        self.backend_name = network.backend_name
        self.device = network.device
        self.input_names = network.input_names
        self.input_shape = network.input_shape
        self._network = network
        self._meeting = meeting

    def run(self, batch: Floats) -> dict[str, Floats]:
        return self._meeting.run(self._network, batch)

    def close(self) -> None:
        pass


def around(meeting: Meeting) -> Callable[[Network], Network]:
    """What puts a network behind the meeting."""
    return lambda network: SharedNetwork(network, meeting)


def _serve(network: Network, requests: Sequence[_Request]) -> None:
    """Runs the requests as one batch where the network takes any, else one by one."""
    takes_any = network.input_shape[0] == -1
    for together in [requests] if takes_any else [[request] for request in requests]:
        try:
            outputs = network.run(np.concatenate([request.batch for request in together]))
        except Exception as error:
            for request in together:
                request.error = error
            continue
        ends = np.cumsum([len(request.batch) for request in together])[:-1]
        parts = {name: np.split(tensor, ends) for name, tensor in outputs.items()}
        for i, request in enumerate(together):
            request.result = {name: split[i] for name, split in parts.items()}
