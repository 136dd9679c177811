"""What images leave behind is used for the next ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap is Linux's")

# Three copies of an image of 6 MB at a time, 50 times, in a thread as those of the node are.
PROGRAM = """
import array, resource, sys, threading
from metrabs_ros.heap import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
image = bytes(6_000_000)

def copy():
    for _ in range(50):
        copies = [array.array("B") for _ in range(3)]
        for each in copies:
            each.frombytes(image)

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=copy)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


# 120 MB of images, freed.
FREED = """
import array
from pathlib import Path
from metrabs_ros.heap import give_freed_memory_back, keep_freed_memory

def resident_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024

keep_freed_memory()
images = [array.array("B", bytes([1]) * 6_000_000) for _ in range(20)]
del images
kept = resident_mb()
give_freed_memory_back()
print(kept - resident_mb())
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_copies_of_images_fault_their_pages_in_once() -> None:
    pages = 3 * 6_000_000 // 4096
    assert faults("given back") > 25 * pages
    assert faults("kept") < 3 * pages


def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 100
