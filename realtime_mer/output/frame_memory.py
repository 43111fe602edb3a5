"""The frames of the last seconds, in bounded memory: raw at first, then compressed without loss.

A frame that is let go leaves a note of what became of it, so that a clip can say what it lacks.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from realtime_mer.output.clip_file import Encoder, most_bytes
from realtime_mer.source.frame import Frame

MEMORY_BYTES = 1_000_000_000
"""Memory for frames, used only if needed: the 3.5 s that must wait take 100 MB at 640 x 480 and
30 fps, 250 MB at 1920 x 1080 (400 MB with much noise)."""

# Part of the machine's memory that frames may take, chosen by judgement.
_MEMORY_SHARE = 0.25
# Pictures beyond this are compressed before a clip needs them. At 640 x 480 and 30 fps the frames
# that must wait take less: nothing is compressed in vain.
_RAW_BYTES = 128_000_000
# What became of a frame is known for so long.
_HISTORY_S = 10.0
# Frames of which something is known, while the disk hangs: 20 MB.
_MAX_KEPT = 100_000

# Why a frame is not there.
_NO_MEMORY = "no room in memory"
_TOO_OLD = "the event was reported too late"
_SKIPPED = "analysis, display or pause skipped it"


@dataclass(slots=True, eq=False)
class KeptFrame:
    """A frame in memory, or what became of it.

    Attributes:
        number: Counts the frames that were handed over, without holes.
        index, time_s: Of the frame in its source.
        shape: Of its picture.
        image: The picture, until it is compressed.
        packet: The compressed picture.
        lost: Why there is neither.
        skipped: Why frames are absent before it, if their indices are.
    """

    number: int
    index: int
    time_s: float
    shape: tuple[int, ...]
    image: np.ndarray | None
    packet: bytes | None = None
    lost: str | None = None
    skipped: str = _SKIPPED

    @property
    def size(self) -> int:
        """Bytes that it takes; of a picture, those that its packet may take."""
        if self.image is not None:
            return most_bytes(self.image)
        return len(self.packet) if self.packet is not None else 0


class FrameMemory:
    """Frames until no clip can need them any more, each of them once however many clips need it.

    Which frames may go depends on the clips, so one lock guards both: the caller's. Every method
    and property expects that the caller holds it. Only the thread "compressing", which is the
    memory's own, takes the lock itself, and lets go of it while it compresses.

    Args:
        lock: The lock. It is notified when a picture has been compressed, and must be notified
            when a clip is planned: its frames are compressed first.
        is_wanted: Whether a clip needs the frame. Called with the lock held.
        waiting_s: A frame that no clip needs is let go when it is older than this.
        limit_bytes: Memory for frames, at most; never more than a quarter of the machine's.
    """

    def __init__(
        self,
        lock: threading.Condition,
        is_wanted: Callable[[KeptFrame], bool],
        waiting_s: float,
        limit_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.limit_bytes = min(limit_bytes, _memory_share())
        # Counts the pictures that the thread has dealt with, so that one sees that it goes on.
        self.compressed = 0
        # Bytes of all frames, and of those that are not compressed.
        self.bytes = self.raw_bytes = 0
        self._lock = lock
        self._is_wanted = is_wanted
        self._waiting_s = waiting_s
        self._numbers = itertools.count()
        # What is known of the last frames; of these, by number, those with data; and, with some
        # that have lost theirs, those with images. All in the order in which they came.
        self._kept: deque[KeptFrame] = deque()
        self._held: OrderedDict[int, KeptFrame] = OrderedDict()
        self._raw: deque[KeptFrame] = deque()
        # What a frame like the newest may take.
        self._frame_bytes = 0
        self._ending = False

    def __len__(self) -> int:
        """Number of frames of which something is known."""
        return len(self._kept)

    def __iter__(self) -> Iterator[KeptFrame]:
        return iter(self._kept)

    @property
    def newest(self) -> KeptFrame | None:
        return self._kept[-1] if self._kept else None

    def since(self, time_s: float) -> KeptFrame | None:
        """The first known frame at this time or later."""
        return next((kept for kept in self._kept if kept.time_s >= time_s), None)

    def from_number(self, number: int) -> KeptFrame | None:
        """The first known frame with this number or a later one."""
        place = max(0, number - self._kept[0].number) if self._kept else 0
        return self._kept[place] if place < len(self._kept) else None

    def add(self, frame: Frame, skipped: str = _SKIPPED) -> None:
        """Takes a frame into memory, but never at the cost of one that a clip needs.

        Args:
            skipped: Why frames are absent before it, if their indices are.
        """
        image = frame.image
        kept = KeptFrame(
            next(self._numbers), frame.index, frame.time_s, image.shape, image, skipped=skipped
        )
        self._frame_bytes = kept.size
        self._kept.append(kept)
        self._held[kept.number] = kept
        self._raw.append(kept)
        self.bytes += kept.size
        self.raw_bytes += kept.size
        while self._is_outdated(oldest := next(iter(self._held.values())), self._waiting_s):
            self._lose(oldest, _TOO_OLD)
        while self.bytes > self.limit_bytes:
            unwanted = next((k for k in self._unwanted() if k is not kept), None)
            # If clips need them all, lose the newest: the clip keeps the event itself.
            self._lose(unwanted or kept, _NO_MEMORY)
        while self._kept[0].lost and self._is_outdated(self._kept[0], _HISTORY_S):
            self._kept.popleft()
        if len(self._kept) > _MAX_KEPT:
            self._lose(self._kept.popleft(), _NO_MEMORY)
            self._kept[0].skipped = _NO_MEMORY

    @property
    def is_crowded(self) -> bool:
        """Whether to wait with the next frame: it may not fit, or pictures wait for the thread."""
        if self.raw_bytes > _RAW_BYTES:
            return True
        needed = self.bytes + self._frame_bytes - self.limit_bytes
        # A frame that no clip needs makes room, but a compressed one less than a picture takes.
        unwanted = self._unwanted()
        while needed > 0 and (kept := next(unwanted, None)) is not None:
            needed -= kept.size
        return needed > 0

    def forget_unwanted(self, reason: str) -> None:
        """Lets go of all frames that no clip needs now."""
        for kept in list(self._unwanted()):
            self._lose(kept, reason)

    def _is_outdated(self, kept: KeptFrame, age_s: float) -> bool:
        """Whether it is older than that and no clip needs it. The newest frame never is."""
        return kept.time_s < self._kept[-1].time_s - age_s and not self._is_wanted(kept)

    def _unwanted(self) -> Iterator[KeptFrame]:
        """Frames with data that no clip needs, the oldest first."""
        return (kept for kept in self._held.values() if not self._is_wanted(kept))

    def _lose(self, kept: KeptFrame, reason: str) -> None:
        if kept.lost is None:
            self.bytes -= kept.size
            self.raw_bytes -= kept.size if kept.image is not None else 0
            kept.image, kept.packet, kept.lost = None, None, reason
            del self._held[kept.number]

    # The thread

    def start(self) -> threading.Thread:
        """Starts the thread that compresses; returns it."""
        self._ending = False
        thread = threading.Thread(target=self._compress, name="compressing", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Lets the thread end when it has compressed what clips need."""
        self._ending = True
        self._lock.notify_all()

    def _compress(self) -> None:
        """The work of the thread. Takes the lock itself."""
        encode = Encoder()
        while (job := self._next_image()) is not None:
            kept, image = job
            packet, lost = None, ""
            try:
                packet = encode(image)
            except Exception as error:
                lost = f"not compressed: {getattr(error, 'strerror', None) or error or 'no memory'}"
            del image, job
            with self._lock:
                # Meanwhile the frame may have been let go.
                if kept.image is not None:
                    if packet is None:
                        self._lose(kept, lost)
                    else:
                        self._put(kept, packet)
                self.compressed += 1
                self._lock.notify_all()

    def _next_image(self) -> tuple[KeptFrame, np.ndarray] | None:
        """Waits for the next picture to compress; None at the end. Takes the lock itself."""
        with self._lock:
            while True:
                while self._raw and self._raw[0].image is None:
                    self._raw.popleft()
                kept = next(
                    (k for k in self._raw if k.image is not None and self._is_wanted(k)), None
                )
                if kept is None and self.raw_bytes > _RAW_BYTES:
                    kept = self._raw[0]
                if kept is not None and kept.image is not None:
                    return kept, kept.image
                if self._ending:
                    return None
                self._lock.wait()

    def _put(self, kept: KeptFrame, packet: bytes) -> None:
        """Replaces a picture by what it was compressed to."""
        self.raw_bytes -= kept.size
        self.bytes -= kept.size
        kept.image, kept.packet = None, packet
        self.bytes += kept.size


def memory_of_each(count: int) -> int:
    """What each of so many memories may take, so that together they take no more than one."""
    return min(MEMORY_BYTES, _memory_share()) // count


def _memory_share() -> int:
    """A part of the machine's memory, in bytes."""
    try:
        pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows does not tell
        return MEMORY_BYTES
    return int(_MEMORY_SHARE * pages * page) if pages > 0 and page > 0 else MEMORY_BYTES
