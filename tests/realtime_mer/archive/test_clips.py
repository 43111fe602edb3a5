import av
import cv2
import numpy as np
import pytest

from realtime_mer.archive.clips import AROUND_S, EventClips, arrows
from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.results import Analysis, EventPicture, FaceState, Session, Summary
from realtime_mer.source.frame import Frame
from tests.results import event

SESSION = Session("a.mp4", False, (112, 112), 30.0, 0, "m", "CPU", ("negative",))
SUMMARY = Summary("end of source", 0, 0, 0, 0, 0.0, 0.0, 0)
# The picture is a face of half the canonical size.
MATRIX = np.array([[2.0, 0, 0], [0, 2.0, 0]])
POINTS = np.zeros((478, 2), np.float32)


def analysis(time_s, *faces, grey=100, events=(), quality=0.5) -> Analysis:
    image = np.full((112, 112, 3), grey, np.uint8)
    states = tuple(FaceState(face, POINTS, 0.0, quality=quality, matrix=MATRIX) for face in faces)
    return Analysis(Frame(round(time_s * 1000), time_s, image, 0.0), faces=states, events=events)


@pytest.fixture
def video(tmp_path) -> VideoResult:
    return VideoResult("key", tmp_path / "key", {"source": "a.mp4"})


def begun(video, faces=1) -> EventClips:
    clips = EventClips(video, faces)
    clips.begin(SESSION)
    return clips


def times_of(path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_a_clip_is_written_once_the_time_after_the_event_is_over(video):
    clips = begun(video)
    found = event(2.0, "negative", 0.8)
    for k in range(100):
        time_s = k / 30
        clips.update(analysis(time_s, 0, events=(found,) if k == 75 else ()))
        if time_s <= found.interval.offset_s + AROUND_S:
            assert video.clip(1) is None
    assert len(times_of(video.clip(1))) == pytest.approx(30 * (0.3 + 2 * AROUND_S), abs=2)


def test_each_face_has_clips_of_its_own(video):
    clips = begun(video, faces=2)
    for k in range(60):
        found = (event(1.0, "negative", 0.8, face=1), event(1.0, "negative", 0.8, face=0))
        # The first face leaves soon after the event begins.
        faces = (0, 1) if k < 36 else (1,)
        clips.update(analysis(k / 30, *faces, events=found if k == 50 else ()))
    clips.end(SUMMARY)
    assert len(times_of(video.clip(1))) > len(times_of(video.clip(2))) > 10


def test_an_event_whose_pictures_are_gone_has_no_clip(video):
    clips = begun(video)
    for k in range(30):
        clips.update(analysis(k / 30, 0))
    clips.update(analysis(9.0, 0))
    clips.update(analysis(9.03, 0, events=(event(0.5, "negative", 0.8),)))
    clips.end(SUMMARY)
    assert (video.clip(1), video.clip_info(1)) == (None, None)


def test_a_jump_of_the_time_costs_no_clip(video):
    clips = begun(video)
    for k in range(45):
        clips.update(analysis(k / 30, 0))
    clips.update(analysis(1.5, 0, events=(event(0.9, "negative", 0.8),)))
    clips.update(analysis(9.0, 0))
    clips.end(SUMMARY)
    assert video.clip(1) is not None


def test_the_last_frame_that_comes_again_at_the_end_counts_once(video):
    clips = begun(video)
    for k in range(60):
        clips.update(analysis(k / 30, 0))
    clips.update(analysis(59 / 30, 0, events=(event(1.6, "negative", 0.8),)))
    clips.end(SUMMARY)
    assert times_of(video.clip(1))[-1] == pytest.approx(59 / 30 - 33 / 30, abs=0.01)


@pytest.mark.parametrize(("faces", "most"), [(1, 650), (16, 150)])
def test_memory_does_not_grow_with_the_frame_rate_or_with_time(video, faces, most):
    clips = begun(video, faces)
    for k in range(1500):
        clips.update(analysis(k / 240, 0))
    assert len(clips._seen[0].frames) < most
    clips.update(analysis(100.0, 1))
    assert list(clips._seen) == [1], "a face that left is forgotten"


def test_a_thumbnail_is_of_the_moment_when_the_face_could_be_read_best(video):
    clips = begun(video)
    for k, (grey, quality) in enumerate([(50, 0.2), (200, 0.9), (90, 0.5), (10, 0.91)]):
        clips.update(analysis(k / 30, 0, grey=grey, quality=quality))
    assert cv2.imread(str(video.thumbnail(0))).mean() == pytest.approx(200, abs=3)


def test_arrows_are_at_most_64_and_lie_in_the_face():
    flow = np.zeros((28, 28, 2), np.float32)
    flow[:14, :, 1] = -1.5
    grey = np.zeros((224, 224), np.uint8)
    found = arrows(EventPicture(grey, grey, flow))
    assert 20 < len(found) <= 64
    assert all(0 < x < 224 and 0 < y < 224 for x, y, _, _ in found)
    assert {(dx, dy) for _, y, dx, dy in found if y < 100} == {(0.0, -1.5)}
    assert {(dx, dy) for _, y, dx, dy in found if y > 124} == {(0.0, 0.0)}
