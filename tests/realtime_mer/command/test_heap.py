"""All threads take memory from one heap."""

import platform
import subprocess
import sys

import pytest

# Threads that take memory at the same time would get a heap each.
SCRIPT = """
import ctypes, sys, threading
from realtime_mer.command.heap import share_one_heap

if sys.argv[2] == "shared":
    share_one_heap()
together = threading.Barrier(4)

def take():
    together.wait()
    kept = [bytes(4096) for _ in range(1000)]
    together.wait()

threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL("libc.so.6")
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere, it does nothing")
@pytest.mark.parametrize(("how", "is_one"), [("shared", True), ("apart", False)])
def test_threads_share_one_heap(tmp_path, how, is_one):
    told = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", SCRIPT, str(told), how], check=True)
    assert (told.read_text().count("<heap nr=") == 1) == is_one
