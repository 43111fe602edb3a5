"""The demo clip contains what its truth says, and is complete or absent."""

import resource
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.demo import clip as demo
from realtime_mer.demo.clip import DemoTruth, make_demo_clip
from realtime_mer.demo.photo import _MARGIN
from realtime_mer.errors import InputError
from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.results import Interval


def crowd(patch: pytest.MonkeyPatch) -> None:
    """Puts everything into 4 s instead of 20, to make a clip fast."""
    patch.setattr(demo, "LENGTH_S", 4.0)
    patch.setattr(demo, "_JITTER_S", 0.05)
    patch.setattr(demo, "_EVENTS_AT_S", (0.6, 1.6, 2.6, 3.6))
    patch.setattr(demo, "_BLINKS_AT_S", (1.0, 2.0, 3.0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> tuple[Path, DemoTruth, list[float]]:
    path, done = tmp_path_factory.mktemp("demo") / "demo.avi", []
    with pytest.MonkeyPatch.context() as patch:
        crowd(patch)
        truth = make_demo_clip(path, seed=1, progress=done.append)
    return path, truth, done


def frames_of(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = video.read()
        if not ok:
            video.release()
            return frames
        frames.append(frame)


@pytest.mark.parametrize("seed", range(20))
def test_plan_has_every_label_and_keeps_events_and_blinks_apart(seed):
    truth = demo._plan(np.random.default_rng(seed))
    assert {e.label for e in truth.events} == {"negative", "positive", "surprise"}
    assert len(truth.events) == 4
    assert len(truth.blinks) == 3
    for event in truth.events:
        assert 0.25 <= event.interval.length_s <= 0.45
        assert 2.0 <= event.peak_px <= 3.0
    spans = sorted([(e.interval.onset_s, e.interval.offset_s) for e in truth.events])
    spans = sorted([*spans, *truth.blinks])
    assert spans[0][0] > 2.5  # a spotter needs a baseline first
    assert spans[-1][1] < truth.frames / truth.fps - 1
    assert all(b[0] - a[1] > 0.5 for a, b in pairwise(spans))


def test_clip_is_a_complete_video_of_the_documented_form(clip):
    path, truth, done = clip
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(30)
    video.release()
    frames = frames_of(path)
    assert len(frames) == truth.frames == 120
    assert frames[0].shape == (480, 640, 3)
    assert [p.name for p in path.parent.iterdir()] == ["demo.avi"]
    assert done == pytest.approx([(i + 1) / 120 for i in range(120)])


def test_the_face_moves_at_the_hidden_times_and_only_then(clip, astronaut_tracked):
    path, truth, _ = clip
    frames = [cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in frames_of(path)]
    x, y = (astronaut_tracked.landmarks[:, :2].mean(0) - _MARGIN).astype(int)
    # The face without its contour, where the swaying camera moves the edge to the background.
    faces = [np.ascontiguousarray(f[y - 90 : y + 80, x - 80 : x + 80]) for f in frames]
    flow = DenseFlow()
    spans = [(e.interval.onset_s, e.interval.offset_s) for e in truth.events] + [*truth.blinks]
    quiet, busy = [], []
    for i in range(2, truth.frames):
        field = flow(faces[i - 2], faces[i])
        field -= np.median(field.reshape(-1, 2), axis=0)
        strongest = np.percentile(np.linalg.norm(field, axis=-1), 99)
        inside = [a + 0.05 < (i - 1) / 30 < b - 0.05 for a, b in spans]
        outside = [(i / 30) < a or (i - 2) / 30 > b for a, b in spans]
        if all(outside):
            quiet.append(strongest)
        elif any(inside):
            busy.append(strongest)
    assert len(quiet) > 10
    assert len(busy) > 10
    assert np.median(busy) > 2 * np.percentile(quiet, 95)


def test_the_strength_of_an_expression_rises_to_its_apex_and_returns():
    interval = Interval(1.0, 1.2, 1.3)
    times = np.linspace(0.9, 1.4, 501)
    strengths = np.array([demo._strength(interval, t) for t in times])
    assert strengths[times <= 1.0].max() == 0
    assert strengths[times >= 1.3 + 1e-9].max() == pytest.approx(0, abs=1e-9)
    assert times[strengths.argmax()] == pytest.approx(1.2, abs=1e-3)
    assert strengths.max() == pytest.approx(1)
    assert np.abs(np.diff(strengths)).max() < 0.02


def test_a_clip_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.avi"):
        make_demo_clip(tmp_path / "demo.mp4")
    with pytest.raises(InputError, match="writable"):
        make_demo_clip(str(tmp_path / "absent" / "demo.avi"))


def test_a_landmark_model_that_finds_no_face_is_refused(tmp_path, monkeypatch):
    grey = np.full((480, 640, 3), 128, np.uint8)
    monkeypatch.setattr(demo, "demo_photo", lambda: grey)
    with pytest.raises(InputError, match="finds no face"):
        make_demo_clip(tmp_path / "demo.avi")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_and_leaves_nothing_behind(tmp_path, monkeypatch):
    crowd(monkeypatch)
    monkeypatch.setattr(demo, "LENGTH_S", 1.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        with pytest.raises(InputError, match="whole"):
            make_demo_clip(tmp_path / "demo.avi")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_clip_leaves_nothing_behind(tmp_path):
    def stop(part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo_clip(tmp_path / "demo.avi", progress=stop)
    assert list(tmp_path.iterdir()) == []
