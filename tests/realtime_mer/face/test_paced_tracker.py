"""Fast sources: fewer frames are tracked, all come out, and the faces between lie between."""

import dataclasses
import itertools

import numpy as np
import pytest

from realtime_mer.face.paced_tracker import PacedTracker, SourceRate, interpolated
from realtime_mer.face.tracker import TrackedFace
from realtime_mer.source.frame import Frame

IMAGE = np.zeros((8, 8, 3), np.uint8)


def face_at(x: float, identity: int = 0, **changes) -> TrackedFace:
    """A face 100 px wide whose left end is at `x`."""
    points = np.linspace([x, 50, 0], [x + 100, 150, 20], 478).astype(np.float32)
    return dataclasses.replace(TrackedFace(identity, points, 0.0, 0.0), **changes)


class Recorded:
    """A tracker that answers from a function of time, and remembers what it was asked."""

    def __init__(self, faces) -> None:
        self._faces = faces
        self.asked: list[int] = []

    def track(self, frame: Frame) -> tuple[TrackedFace, ...]:
        self.asked.append(frame.index)
        return self._faces(frame.time_s)


def moving(time_s: float) -> tuple[TrackedFace, ...]:
    shapes = np.linspace(0, time_s, 52, dtype=np.float32)
    changes = {"blink": 0.1 * time_s, "jaw_open": 0.2 * time_s, "blendshapes": shapes}
    return (face_at(30 * time_s, **changes),)


def frames_at(fps: float, count: int) -> list[Frame]:
    return [Frame(i, i / fps, IMAGE, 0.0) for i in range(count)]


def run(paced: PacedTracker, frames) -> list:
    out = [tracked for frame in frames for tracked in paced(frame, 0.0)]
    return out + paced.flush()


@pytest.mark.parametrize(
    ("fps", "stride"), [(15, 1), (60, 1), (80, 1), (100, 2), (120, 2), (200, 3), (240, 4)]
)
def test_sources_are_tracked_about_sixty_times_a_second(fps, stride):
    tracker = Recorded(moving)
    out = run(PacedTracker(tracker), frames_at(fps, 60))
    assert [t.frame.index for t in out] == list(range(60))
    settled = [i for i in tracker.asked if 8 < i < 59]
    assert set(np.diff(settled)) == {stride}
    assert out[-1].source_fps == pytest.approx(fps)


def test_faces_between_lie_between_in_time():
    out = run(PacedTracker(Recorded(moving)), frames_at(200, 40))
    for tracked in out:
        (face,), (true,) = tracked.faces, moving(tracked.frame.time_s)
        assert face.landmarks == pytest.approx(true.landmarks, abs=1e-3)
        assert face.landmarks.dtype == np.float32
        assert (face.blink, face.jaw_open) == pytest.approx((true.blink, true.jaw_open))
        assert face.blendshapes == pytest.approx(true.blendshapes, abs=1e-5)


def test_the_last_frames_are_tracked_though_none_comes_after():
    tracker = Recorded(moving)
    paced = PacedTracker(tracker)
    out = [t for f in frames_at(200, 12) for t in paced(f, 0.0)]
    assert paced.is_waiting
    out += paced.flush()
    assert not paced.is_waiting
    assert tracker.asked[-1] == 11
    assert [t.frame.index for t in out] == list(range(12))
    assert all(t.faces for t in out)
    assert paced.flush() == []


@pytest.mark.parametrize(
    ("before", "after", "known"),
    [
        ([face_at(0)], [face_at(10)], [0]),
        ([], [face_at(0)], []),  # found just now
        ([face_at(0)], [], []),  # lost
        ([face_at(0, 1)], [face_at(1, 2)], []),  # another one in its place
        ([face_at(0, 1), face_at(300, 2)], [face_at(1, 1)], [1]),
        ([face_at(0)], [face_at(80)], []),  # no head moves so far
    ],
)
def test_only_a_face_that_is_on_both_sides_is_interpolated(before, after, known):
    assert [face.identity for face in interpolated(before, after, 0.5)] == known


def test_lost_face_is_absent_until_it_is_seen():
    tracker = Recorded(lambda time_s: moving(time_s) if time_s < 0.1 or time_s > 0.2 else ())
    out = run(PacedTracker(tracker), frames_at(200, 60))
    seen = [bool(t.faces) for t in out]
    assert sum(b != a for a, b in itertools.pairwise(seen)) == 2
    assert not any(s for s, t in zip(seen, out, strict=True) if 0.1 <= t.frame.time_s <= 0.2)


def test_before_a_hole_the_frames_that_wait_are_tracked():
    tracker = Recorded(moving)
    paced = PacedTracker(tracker)
    frames = frames_at(200, 20)
    late = [Frame(20 + i, 0.6 + i / 200, IMAGE, 0.0) for i in range(4)]
    out = run(paced, frames + late)
    assert 19 in tracker.asked
    assert [t.frame.index for t in out] == list(range(24))


def test_dropped_frames_do_not_slow_the_measured_rate():
    rate = SourceRate()
    assert rate(Frame(0, 0.0, IMAGE, 0.0)) == 0
    kept = [i for i in range(1, 40) if i % 5 not in (2, 3)]
    assert [rate(Frame(i, i / 100, IMAGE, 0.0)) for i in kept][-1] == pytest.approx(100)
    # Nor does a pause, or a clock that stands still for a moment.
    assert rate(Frame(41, 9.0, IMAGE, 0.0)) == pytest.approx(100)
    assert rate(Frame(42, 9.0, IMAGE, 0.0)) == pytest.approx(100)


def test_frames_that_wait_are_few():
    tracker = Recorded(moving)
    paced = PacedTracker(tracker, track_fps=1.0)
    run(paced, frames_at(240, 100))
    assert max(np.diff(tracker.asked)) <= 16
