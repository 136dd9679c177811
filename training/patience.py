"""How long a run goes on without learning anything."""

from __future__ import annotations

from collections.abc import Mapping

from metrabs_ros.errors import InputError


class Patience:
    """Ends after ``most`` updates in a row that had no finite loss or gradient."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bad_in_a_row = 0

    def count(self, finite: bool, step: int, losses: Mapping[str, float]) -> None:
        """One update, its step and its losses. Raises InputError where patience ends."""
        self._bad_in_a_row = 0 if finite else self._bad_in_a_row + 1
        if self._bad_in_a_row >= self._most:
            found = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
            raise InputError(
                f"{self._bad_in_a_row} updates in a row up to step {step} had no finite loss or gradient "
                f"({found}): lower the learning rate and resume from the last checkpoint."
            )
