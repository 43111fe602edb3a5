"""What the memory keeps, and what it says of frames that it let go."""

import threading

import numpy as np
import pytest

from realtime_mer.output import frame_memory
from realtime_mer.output.clip_file import Encoder, most_bytes
from realtime_mer.output.frame_memory import FrameMemory
from realtime_mer.source.frame import Frame

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def filled(frames, wanted=(), room=1000, waiting_s=1000.0):
    """A memory that was handed frames of 0 s, 1 s, ...; clips want those with these numbers."""
    memory = FrameMemory(
        threading.Condition(),
        lambda kept: kept.number in wanted,
        waiting_s,
        room * most_bytes(NOISE),
    )
    for k in range(frames):
        memory.add(Frame(k, float(k), NOISE, 0.0))
    return memory


def there(memory):
    return [kept.number for kept in memory if kept.lost is None]


def test_frames_that_no_clip_needs_go_first_the_oldest_before_the_others():
    assert there(filled(6, wanted={0, 2}, room=4)) == [0, 2, 4, 5]


def test_if_clips_need_all_the_newest_frame_goes_and_the_memory_is_crowded():
    memory = filled(6, wanted=range(6), room=4)
    assert there(memory) == [0, 1, 2, 3]
    assert memory.newest.lost == "no room in memory"
    assert memory.is_crowded


def test_compressed_frame_that_no_clip_needs_may_leave_less_room_than_a_picture_takes():
    memory = filled(2, wanted={1, 2, 3}, room=2)
    memory._put(memory.from_number(0), Encoder()(NOISE))  # as the thread does it
    memory.limit_bytes += memory.from_number(0).size
    memory.add(Frame(2, 2.0, NOISE, 0.0))
    assert there(memory) == [0, 1, 2]
    assert memory.is_crowded
    memory.add(Frame(3, 3.0, NOISE, 0.0))
    assert memory.newest.lost == "no room in memory"


def test_old_frames_go_unless_a_clip_needs_them():
    assert there(filled(6, waiting_s=2.0)) == [3, 4, 5]
    assert there(filled(6, wanted={1, 2}, waiting_s=2.0)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("number", "found"),
    [(0, 9), (9, 9), (12, 12), (20, None)],  # of frames 0 to 8 nothing is known any more
)
def test_frame_is_found_by_its_number_though_older_ones_are_forgotten(number, found):
    memory = filled(20, waiting_s=2.0)
    kept = memory.from_number(number)
    assert (kept and kept.number) == found


def test_what_was_let_go_is_known_for_a_while_then_forgotten():
    memory = filled(20, waiting_s=2.0)
    assert [kept.number for kept in memory] == list(range(9, 20))
    assert memory.since(0.0).lost == "the event was reported too late"


def test_what_is_known_of_frames_is_bounded(monkeypatch):
    monkeypatch.setattr(frame_memory, "_MAX_KEPT", 5)
    memory = filled(20, wanted=range(20))
    assert [kept.number for kept in memory] == [15, 16, 17, 18, 19]
    assert memory.since(0.0).skipped == "no room in memory"


def test_thread_ends_when_it_has_compressed_what_clips_need():
    memory = filled(5, wanted={1, 3})
    thread = memory.start()
    with memory._lock:
        memory.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert [kept.number for kept in memory if kept.packet] == [1, 3]
