"""The demo clip holds what its truth says, and found is compared with hidden as it should be."""

import resource
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.demo import clip as demo
from realtime_mer.demo.action_units import expression
from realtime_mer.demo.clip import DemoTruth, HiddenEvent, make_demo_clip
from realtime_mer.demo.score import compare
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import LAYOUT, crop, five_points, similarity
from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.results import Interval, MicroExpression
from realtime_mer.spotting.matching import overlap


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return demo.demo_photo()


@pytest.fixture(scope="module")
def landmarks(photo) -> np.ndarray:
    return demo.detect_face_mesh(photo, find_landmark_model(download=False))[:, :2]


def crowd(patch: pytest.MonkeyPatch) -> None:
    """Everything in 4 s instead of 20, so that a clip is made fast."""
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
def test_plan_hides_every_label_apart_from_blinks(seed):
    truth = demo._plan(np.random.default_rng(seed))
    assert {e.label for e in truth.events} == {"negative", "positive", "surprise"}
    assert len(truth.events) == 4
    assert len(truth.blinks) == 3
    for event in truth.events:
        assert 0.25 <= event.interval.length_s <= 0.45
        assert 2.0 <= event.peak_px <= 3.0
    spans = sorted([(e.interval.onset_s, e.interval.offset_s) for e in truth.events])
    spans = sorted([*spans, *truth.blinks])
    assert spans[0][0] > 2.5  # a spotter has to learn what nothing looks like
    assert spans[-1][1] < truth.frames / truth.fps - 1
    assert all(b[0] - a[1] > 0.5 for a, b in pairwise(spans))


def test_clip_is_a_whole_video_of_the_promised_form(clip):
    path, truth, done = clip
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(30)
    video.release()
    frames = frames_of(path)
    assert len(frames) == truth.frames == 120
    assert frames[0].shape == (480, 640, 3)
    assert [p.name for p in path.parent.iterdir()] == ["demo.avi"]
    assert done == pytest.approx([(i + 1) / 120 for i in range(120)])


def test_the_face_is_large_and_in_the_middle(landmarks, photo):
    width = np.ptp(landmarks[:, 0])
    assert 190 < width < 230
    np.testing.assert_allclose(landmarks.mean(0), [photo.shape[1] / 2, photo.shape[0] / 2], atol=25)


def test_frames_of_the_clip_move_at_the_hidden_times_and_only_there(clip, landmarks):
    path, truth, _ = clip
    frames = [cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in frames_of(path)]
    x, y = (landmarks.mean(0) - demo._MARGIN).astype(int)
    # Whole face without its contour, where the swaying camera moves the background's edge.
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


@pytest.mark.parametrize("names", [("AU1", "AU2"), ("AU4",), ("AU6", "AU12"), ("AU15",)])
def test_optical_flow_finds_the_hidden_field_again(photo, landmarks, names):
    face = demo.PhotoFace(photo, landmarks)
    hidden = expression(names, np.random.default_rng(5), 2.5)
    camera = demo.SwayingCamera(np.random.default_rng(5))
    matrix = similarity(five_points(landmarks).astype(float), LAYOUT.astype(float))
    before = camera.picture(photo, None, 0.0)
    after = camera.picture(photo, face.backwards(face.field(hidden)), 0.0)
    # Both pictures are of one moment of the camera, so one matrix serves both.
    to_photo = np.vstack([_camera_matrix(camera), [0, 0, 1]])
    whole = matrix @ to_photo
    found = DenseFlow()(crop(before, whole), crop(after, whole))
    cosine = (found * hidden).sum() / np.linalg.norm(found) / np.linalg.norm(hidden)
    assert cosine > 0.95
    ratio = np.percentile(np.linalg.norm(found, axis=-1), 99) / 2.5
    assert 0.75 < ratio < 1.1  # DIS smooths small regions


def _camera_matrix(camera: demo.SwayingCamera) -> np.ndarray:
    """Frame to photo at time 0, found from a picture of coordinates."""
    rows, columns = np.mgrid[0 : 480 + 64, 0 : 640 + 64].astype(np.float32)
    seen = camera.picture(np.dstack([columns, rows]), None, 0.0)
    place = np.array([[100, 100], [500, 100], [100, 400]], np.float32)
    target = np.array([seen[int(y), int(x)] for x, y in place], np.float32)
    return cv2.getAffineTransform(place, target)


def test_backwards_undoes_the_motion(photo, landmarks):
    face = demo.PhotoFace(photo, landmarks)
    field = face.field(expression(("AU6", "AU12"), peak_px=3.0))
    back = face.backwards(field)
    came_from = face._grid - back
    forward = cv2.remap(field, came_from, None, cv2.INTER_LINEAR)
    assert np.abs(came_from + forward - face._grid).max() < 0.02


def test_a_blink_closes_the_eyes_and_touches_nothing_else(photo, landmarks):
    face = demo.PhotoFace(photo, landmarks)
    np.testing.assert_array_equal(face.blink(photo, 0.0), photo)
    closed = face.blink(photo, 1.0)
    changed = np.abs(closed.astype(int) - photo).max(-1) > 12
    rows, columns = np.nonzero(changed)
    for lids in demo._LIDS:
        eye = landmarks[[i for lid in lids for i in lid]]
        x, y = eye.mean(0).astype(int)
        assert changed[y, x]
        # The dark pupil and the white give way to skin and lashes: the lid lightens the pupil.
        assert closed[y - 2, x].astype(int).sum() > photo[y - 2, x].astype(int).sum()
    eyes = landmarks[[i for lids in demo._LIDS for lid in lids for i in lid]]
    assert rows.min() > eyes[:, 1].min() - 20
    assert rows.max() < eyes[:, 1].max() + 5
    assert columns.min() > eyes[:, 0].min() - 3
    assert columns.max() < eyes[:, 0].max() + 3


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
        make_demo_clip(tmp_path / "absent" / "demo.avi")


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


def hidden(onset: float, offset: float, label: str = "positive") -> HiddenEvent:
    return HiddenEvent(Interval(onset, (onset + offset) / 2, offset), label, ("AU12",), 2.0)


def found(onset: float, offset: float, label: str = "positive") -> MicroExpression:
    others = {"negative": 0.1, "positive": 0.1, "surprise": 0.1} | {label: 0.8}
    return MicroExpression(0, Interval(onset, (onset + offset) / 2, offset), others, 2.0, offset)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ((0, 1), (0, 1), 1.0),
        ((0, 1), (0.5, 1.5), 1 / 3),
        ((0, 2), (0.5, 1.5), 0.5),
        ((0, 1), (1, 2), 0.0),
        ((0, 1), (5, 6), 0.0),
        ((1, 1), (1, 1), 0.0),  # two moments have no length to share
    ],
)
def test_overlap(first, second, value):
    a, b = (Interval(start, start, end) for start, end in (first, second))
    assert overlap(a, b) == pytest.approx(value)
    assert overlap(b, a) == pytest.approx(value)


def test_compare_pairs_one_to_one_and_shows_misses_and_false_reports():
    truth = DemoTruth((hidden(1, 2), hidden(4, 5, "negative"), hidden(7, 8)), (), 30.0, 300)
    close, better = found(1.2, 2.2), found(1.1, 2.0)
    wrong = found(4, 5)
    far = found(7.6, 8.6)  # overlaps by a quarter
    rows = compare(truth, [close, wrong, far, better])
    assert [(r.hidden, r.found) for r in rows] == [
        (truth.events[0], better),
        (None, close),
        (truth.events[1], wrong),
        (truth.events[2], None),
        (None, far),
    ]
    assert [r.label_is_right for r in rows] == [True, False, False, False, False]
    assert rows[0].overlap == pytest.approx(0.9)


def test_compare_with_nothing_found_and_nothing_hidden():
    truth = DemoTruth((hidden(1, 2),), (), 30.0, 300)
    assert [r.found for r in compare(truth, [])] == [None]
    assert compare(DemoTruth((), (), 30.0, 300), []) == []
