"""What the system must not refuse: without it, native libraries abort in place of saying so."""

from __future__ import annotations

import sys
import threading

# Address space for the libraries, networks and threads. Measured on 2 cores: 1.0 GiB is too little,
# 1.43 GiB is enough for a small video.
_ADDRESS_SPACE_BYTES = 1_500_000 << 10
# Measured: 8 are too few, 16 are enough for all outputs.
_OPEN_FILES = 16
# Measured on 2 cores: 12 are too few, 16 are enough. Some libraries start one for each core, but
# what is refused here must not be what would have worked.
_THREADS = 16


def obstacle() -> str | None:
    """Which limit is too low, and the remedy; None if all is well."""
    if sys.platform == "win32":
        return None
    import resource

    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    if memory != resource.RLIM_INFINITY and memory < _ADDRESS_SPACE_BYTES:
        return (
            f"the limit of memory is too low ({memory >> 10} kB, `ulimit -v`): raise it to "
            f"{_ADDRESS_SPACE_BYTES >> 10} or more"
        )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < _OPEN_FILES:
        return (
            f"the limit of open files is too low ({files}, `ulimit -n`): raise it to "
            f"{_OPEN_FILES} or more"
        )
    if (started := _threads_that_start(_THREADS)) < _THREADS:
        return (
            f"the system starts no more than {started} threads, and {_THREADS} are needed: end "
            "other programs, or raise the limit (`ulimit -u`, in a container its limit of "
            "processes)"
        )
    return None


def _threads_that_start(wanted: int) -> int:
    """How many of so many threads start. Nothing else tells all limits; it takes a millisecond."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError:
        pass
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return len(threads)
