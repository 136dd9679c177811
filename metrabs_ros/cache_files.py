"""Files of the user's cache: written whole or not at all, by one builder at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from metrabs_ros.errors import InputError

_DRAFT = ".part"


def write_atomically(target: Path, content: bytes) -> None:
    """Raises InputError where the disk refuses; the target is then as it was."""
    write_together({target: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Writes a draft of every target in full, then renames them in this order.

    Raises InputError where the disk refuses a draft; all targets are then as they were. Whoever is stopped between
    two renames leaves new files beside old ones, which their reader must tell apart.
    """
    drafts = {target: target.with_name(f"{target.name}.{os.getpid()}{_DRAFT}") for target in contents}
    with ExitStack() as held:
        try:
            for target, draft in drafts.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(draft.open("wb", buffering=0))
                # Held until it is renamed, for abandoned_drafts, which finds none where there are no locks.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
                rest = memoryview(contents[target])
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            for target, draft in drafts.items():
                draft.replace(target)
        except OSError as error:
            for draft in drafts.values():
                # The first error is the one that is reported.
                with suppress(OSError):
                    draft.unlink(missing_ok=True)
            raise _cannot_write(target, error) from error


def abandoned_drafts(folder: Path) -> list[Path]:
    """The drafts of writers that were stopped, not those being written."""
    return [draft for draft in sorted(folder.glob(f"*{_DRAFT}")) if _is_abandoned(draft)]


@contextmanager
def locked(target: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a file that takes long to build; ``waiting(sentence)`` is called once where another has it.

    Raises InputError where the folder cannot be written, so before hours of building, not after.
    """
    path = target.with_name(f"{target.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise _cannot_write(path, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting(f"Another process is building {target.name}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_abandoned(draft: Path) -> bool:
    try:
        with draft.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"Cannot write {path}: {error.strerror or error}; make room there, or choose another folder with "
        "METRABS_ROS_CACHE."
    )
