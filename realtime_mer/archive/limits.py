"""What a worker may take: how long, how long in silence, and how much memory."""

from __future__ import annotations

import os
import time

from realtime_mer.archive.worker import Worker

SILENT_S = 120.0
"""A worker that tells no progress for so long hangs. Chosen by judgement: a frame takes 15 to 100
ms, and loading the libraries some seconds."""

# Time that a video may take at most. Chosen by judgement: 20 times what a frame usually takes, and
# a start for short ones. Headers lie: no codec makes frames of fewer bytes than the first number,
# and where a header tells nothing, a video has at least the second number of bytes a frame, that is
# 20 kB a second.
_START_S = 300.0
_FRAME_S = 0.5
_LEAST_FRAME_BYTES = 64
_USUAL_FRAME_BYTES = 640
# What a worker may hold: its part of this part of the memory, or at least that many bytes. Chosen
# by judgement: measured once, a worker takes 0.4 GB at 1280 x 720, and 1.4 GB at 3840 x 2160.
_MEMORY_PART = 0.8
_LEAST_MEMORY_BYTES = 2 << 30


def time_limit_s(size: int, frames: int | None) -> float:
    """How long the analysis of a video may take.

    Args:
        size: Bytes of the file.
        frames: How many frames its header tells; None if it does not.
    """
    most = size / _LEAST_FRAME_BYTES
    count = min(frames, most) if frames else size / _USUAL_FRAME_BYTES
    return _START_S + _FRAME_S * count


def most_memory(jobs: int) -> int | None:
    """Bytes that one of so many workers may hold; None where the memory's size is not known."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return max(_LEAST_MEMORY_BYTES, int(_MEMORY_PART * total / jobs))


def enforce(worker: Worker, size: int, memory_bytes: int | None) -> None:
    """Ends a worker that hangs, takes too long or takes too much memory.

    Args:
        worker: It is at work.
        size: Bytes of its video.
        memory_bytes: What it may hold; None for no limit.
    """
    where = f"{worker.time_s:.1f} s into the video"
    limit_s = time_limit_s(size, worker.frames)
    if time.monotonic() - worker.heard_at > SILENT_S:
        worker.kill(f"nothing happened for {SILENT_S:.0f} s, {where}")
    elif worker.seconds > limit_s:
        worker.kill(f"it took longer than {limit_s / 60:.0f} min and had come {where}")
    elif memory_bytes and worker.memory_mb * (1 << 20) > memory_bytes:
        worker.kill(f"it took more than {memory_bytes / (1 << 30):.1f} GiB of memory, {where}")
