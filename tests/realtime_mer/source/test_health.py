"""The health of a source, on made-up pictures at made-up times."""

import itertools

import cv2
import numpy as np
import pytest

from realtime_mer.source.health import Outage, Outages, SourceHealth

SIZE = (160, 120)
NOISE = np.random.default_rng(0)


def picture(mean: float = 110.0, spread: float = 30.0) -> np.ndarray:
    grain = NOISE.normal(mean, spread, (SIZE[1], SIZE[0], 3))
    return np.clip(grain, 0, 255).astype(np.uint8)


class Watched:
    """A source under watch, with a clock of its own."""

    def __init__(self, live: bool = True, declared_fps: float = 30.0) -> None:
        self.notes: list[str] = []
        self.outages = Outages()
        self.health = SourceHealth("camera 0", live, self.notes.append, self.outages)
        self.declared_fps = declared_fps
        self.time_s = 0.0

    def show(self, seconds, image=picture, fps=30.0):
        """Frames for so long; the alerts that were seen on the way, in their order."""
        seen = []
        for _ in range(round(seconds * fps)):
            frame = image() if callable(image) else image
            self.health.update(frame, self.time_s, self.declared_fps)
            self.time_s += 1 / fps
            seen += [a for a in self.health.alerts if a not in seen]
        return seen


def test_all_is_well_with_a_good_source():
    source = Watched()
    assert source.show(4) == []
    assert source.notes == []
    assert source.outages.take() == ()
    assert source.health.fps == pytest.approx(30)


# Frozen pictures


def test_frozen_picture_is_noticed_said_once_and_recorded():
    source = Watched()
    source.show(2)
    first_s = source.time_s
    still = picture()
    assert source.show(0.9, still) == []
    assert source.show(1, still) == ["picture frozen"]
    assert source.outages.take() == ()  # it is not over
    source.show(0.1)
    assert source.health.alerts == ()
    source.show(3, still)
    source.show(1)
    first, second = source.outages.take()
    assert first == Outage(pytest.approx(first_s), pytest.approx(first_s + 1.9), "picture frozen")
    assert second.end_s - second.start_s == pytest.approx(3)
    assert source.outages.take() == ()
    (note,) = source.notes
    assert note.startswith("camera 0 sends the same picture")


def test_duplicates_of_a_webcam_are_not_frozen():
    source = Watched()
    for _ in range(20):
        source.show(0.2, picture())
    assert source.notes == []
    assert source.outages.take() == ()


def test_small_motion_in_a_still_picture_is_motion():
    background = np.full((1080, 1920, 3), 120, np.uint8)
    at = itertools.count(900)

    def moving_mouth():
        image = background.copy()
        cv2.circle(image, (next(at), 500), 10, (40, 40, 90), -1)
        return image

    assert Watched().show(2, moving_mouth, fps=10) == []


def test_frozen_picture_is_recorded_when_the_source_is_lost_or_ends():
    source = Watched()
    source.show(2, picture())
    source.health.restart()
    assert source.health.alerts == ()
    source.show(2, picture())
    source.health.end(30.0)
    assert [o.reason for o in source.outages.take()] == ["picture frozen"] * 2


def test_outages_that_go_on_end_with_the_session_once_each():
    source = Watched()
    source.show(2, picture())
    source.outages.close(Outage(1.9, 5.0, "source lost"))
    # The thread of the source may still be at work.
    source.show(2, picture())
    source.show(1)
    source.health.end(30.0)
    source.outages.close(Outage(1.9, 6.0, "source lost"))
    frozen, lost = source.outages.take()
    assert frozen == Outage(0.0, pytest.approx(59 / 30), "picture frozen")
    assert lost == Outage(1.9, 5.0, "source lost")


# Light


def test_black_picture_has_a_name_of_its_own():
    source = Watched()
    source.show(1)
    covered = source.show(3, lambda: picture(8, 2))
    assert covered == ["black picture"]
    assert source.show(2) == ["black picture"]  # for a moment
    assert source.health.alerts == ()
    (note,) = source.notes
    assert "cover" in note


def test_dark_picture_is_noticed_and_says_what_to_do():
    source = Watched()
    assert source.show(4, lambda: picture(25, 10)) == ["too dark"]
    source.show(4, lambda: picture(80, 30))
    assert source.health.alerts == ()
    source.show(4, lambda: picture(25, 10))
    assert source.health.alerts == ("too dark",)
    (note,) = source.notes
    assert "light" in note


def test_dark_at_the_start_while_a_camera_adapts_is_normal():
    source = Watched()
    source.show(1.5, lambda: picture(25, 10))
    assert source.show(3) == []
    assert source.notes == []


def test_face_before_a_dark_wall_is_not_dark():
    def portrait():
        image = picture(12, 4)
        image[40:70, 60:85] = picture(140, 25)[40:70, 60:85]  # 4 % of the picture
        return image

    assert Watched().show(4, portrait) == []


@pytest.mark.parametrize(("level", "spread"), [(45, 8), (20, 2)])
def test_alert_does_not_flicker_at_its_threshold(level, spread):
    source = Watched()
    changes, before = 0, ()
    for k in range(6):
        for _ in range(30):
            source.show(0.1, lambda k=k: picture(level + 3 * (-1) ** (k + 1), spread), fps=30)
            changes += source.health.alerts != before
            before = source.health.alerts
    assert changes == 1


# Rate


def test_slow_source_is_noted_once_and_alerted_while_it_is_slow():
    source = Watched()
    assert source.show(4, fps=18) == ["18 fps: below 25"]
    source.show(5, fps=30)
    assert source.health.alerts == ()
    source.show(4, fps=18)
    (note,) = source.notes
    for word in ("gives 18 fps", "declares 30", "1/25 to 1/2 s", "light", "MJPG"):
        assert word in note


@pytest.mark.parametrize("fps", [23.976, 24.0, 24.98, 25.0, 29.97, 60.0])
def test_usual_rates_are_no_trouble(fps):
    source = Watched(declared_fps=fps)
    assert source.show(4, fps=fps) == []
    assert source.notes == []


def test_wrong_rate_is_noted():
    source = Watched(declared_fps=60)
    assert source.show(6, fps=30) == []
    (note,) = source.notes
    assert "gives 30 fps and declares 60" in note


def test_unknown_rate_is_not_wrong():
    source = Watched(declared_fps=0)
    source.show(4)
    assert source.notes == []


def test_rate_is_robust_against_pairs_and_hiccups():
    source = Watched()
    for k in range(120):
        # Two frames at once every second period, and one hiccup of 0.3 s.
        time_s = (k // 2) * 2 / 30 + 0.001 * (k % 2) + 0.3 * (k > 80)
        source.health.update(picture(), time_s, 30.0)
        if k > 20:
            assert source.health.fps == pytest.approx(30, rel=0.1)
    assert source.notes == []


def test_recording_is_judged_by_its_times_alone():
    source = Watched(live=False, declared_fps=12)
    assert source.show(4, picture(5, 1), fps=12) == ["12 fps: below 25"]
    (note,) = source.notes
    assert "gives 12 fps. " in note
    assert "record at 25 fps" in note


def test_short_recording_is_judged_at_its_end():
    source = Watched(live=False, declared_fps=15)
    source.show(0.6, fps=15)
    assert source.notes == []
    source.health.end(15.0)
    (note,) = source.notes
    assert "gives 15 fps" in note


def test_lost_source_is_measured_afresh():
    source = Watched()
    source.show(3, fps=30)
    source.health.restart()
    assert source.health.fps == 0
    source.time_s += 60
    source.show(3, fps=60)
    assert source.health.fps == pytest.approx(60)


def test_many_outages_do_not_grow_for_ever():
    outages = Outages()
    for k in range(5000):
        outages.add(Outage(k, k + 0.5, "source lost"))
    taken = outages.take()
    assert len(taken) <= 1000
    assert taken[-1].start_s == 4999


@pytest.mark.parametrize("live", [True, False])
def test_a_silence_between_two_frames_is_not_the_rate(live):
    watched = Watched(live)
    watched.show(5)
    watched.time_s += 6
    assert watched.show(5) == []
    assert watched.notes == []
    assert watched.health.fps == pytest.approx(30, rel=0.05)
