"""What the process frees goes back to the system."""

import platform
import subprocess
import sys
import textwrap

import pytest

# Every hundredth of many pieces stays, so that the heap is full of holes.
SCRIPT = """
import sys
from realtime_mer.command import heap
from realtime_mer.stats import memory_mb

heap.share_one_heap()
sink = heap.FreeMemory()
sink.begin(None)
pieces = [bytes(4096) for _ in range(30_000)]
pieces = pieces[::100]
held = memory_mb()
sink.update(None)
waited = memory_mb()
heap._EVERY_S = 0.0
sink.update(None)
print(held - waited, held - memory_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere, it does nothing")
def test_memory_full_of_holes_is_returned_when_it_is_time():
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, check=True
    )
    too_early, returned = map(float, ran.stdout.split())
    assert abs(too_early) < 5
    assert returned > 80
