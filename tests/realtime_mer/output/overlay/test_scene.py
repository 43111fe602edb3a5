"""What the scene keeps, and for how long."""

from realtime_mer.output.overlay import Overlay
from tests.realtime_mer.output.overlay.drawing import analysis, event, face, session


def test_stalled_source_counts_as_unseen():
    overlay = Overlay()
    overlay.begin(session())
    for k in (0, 1, 2, 92, 93):
        overlay.update(analysis(k, faces=[face()]))
    (span,) = overlay._scene.spans
    assert (span.start_s, span.end_s, span.reason) == (2 / 30, 92 / 30, "no face")


def test_same_analysis_is_drawn_and_counted_once():
    overlay = Overlay()
    overlay.begin(session())
    a = analysis(faces=[face()], events=[event(0.0)])
    overlay.update(a)
    first = overlay.picture()
    first_bytes = first.tobytes()
    overlay.update(a)
    assert overlay.picture() is first
    assert first.tobytes() == first_bytes
    assert overlay._scene.event_count == 1


def test_memory_is_bounded():
    overlay = Overlay()
    overlay.begin(session())
    for k in range(3000):
        seen = [face(identity=k // 10)]  # a new face all the time
        overlay.update(analysis(k, (64, 48), seen, [event(k / 30, face=k // 10)]))
    scene = overlay._scene
    assert len(scene.scores) <= 6 * 30 / 10 + 2
    assert sum(map(len, scene.scores.values())) <= 6 * 30 + 1
    assert len(scene.events) <= 64
    assert len(scene.spans) <= 512
    assert scene.event_count == 3000
