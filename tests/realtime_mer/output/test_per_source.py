"""Outputs of which each source has its own."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.per_source import PerSource, short_names
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.frame import Frame
from tests.sessions import Recorder

FRAME = Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8), 0.0)


def session(*names: str, live: bool = False) -> Session:
    one = [Session(name, live, (4, 4), 30, 0, "m", "CPU", ("negative",)) for name in names]
    return dataclasses.replace(one[0], source=" + ".join(names), sources=tuple(one))


def summary(**more) -> Summary:
    return Summary("end of source", 1, 1, 0, 0, 1.0, 1.0, 0, **more)


def test_each_sees_a_session_of_its_own_source():
    diary = []
    sinks = [Recorder("first", diary), Recorder("second", diary)]
    for sink in sinks:
        sink.seen = []
        sink.begin = sink.seen.append
        sink.update = sink.seen.append
    both = PerSource(sinks)
    started = session("a.avi", "b.avi")
    both.begin(started)
    told = Analysis(FRAME, camera=1, source="b.avi")
    both.update(told)
    own = summary(source="a.avi"), summary(source="b.avi")
    both.end(summary(sources=own))
    assert sinks[0].seen == [started.sources[0]]
    assert sinks[1].seen == [started.sources[1], told]
    assert tuple(sink.summary for sink in sinks) == own


def test_all_are_ended_and_what_failed_is_named():
    diary = []
    sinks = [Recorder(name, diary, end=InputError(f"{name} is full.")) for name in ("a", "b")]
    both = PerSource([*sinks, Recorder("c", diary)])
    both.begin(session("a", "b", "c"))
    with pytest.raises(InputError, match=r"^a is full\. b is full\.$"):
        both.end(summary(sources=(summary(), summary(), summary())))
    assert [line for line in diary if line.endswith("end")] == ["a end", "b end", "c end"]


def test_all_are_ended_when_ctrl_c_comes_meanwhile():
    diary = []
    both = PerSource([Recorder("a", diary, end=KeyboardInterrupt()), Recorder("b", diary)])
    both.begin(session("a", "b"))
    with pytest.raises(KeyboardInterrupt):
        both.end(summary(sources=(summary(), summary())))
    assert diary == ["a begin", "b begin", "a end", "b end"]


def test_only_those_that_were_begun_are_ended():
    diary = []
    both = PerSource([Recorder("a", diary, begin=InputError("no")), Recorder("b", diary)])
    with pytest.raises(InputError):
        both.begin(session("a", "b"))
    both.end(summary(sources=(summary(), summary())))
    assert diary == ["a begin", "a end"]


@pytest.mark.parametrize(
    ("names", "live", "short"),
    [
        (("talks/left.mp4", "talks/right.mp4"), False, ("left.mp4", "right.mp4")),
        (("a/clip.mp4", "b/clip.mp4"), False, ("a/clip.mp4", "b/clip.mp4")),
        (("frames/", "clip.mp4"), False, ("frames", "clip.mp4")),
        (
            ("http://10.0.0.2/live", "rtsp://10.0.0.2/live", "rtsp://10.0.0.2/low"),
            True,
            ("http://10.0.0.2/live", "rtsp://10.0.0.2/live", "10.0.0.2/low"),
        ),
        (("camera 0", "rtsp://10.0.0.2/live"), True, ("camera 0", "10.0.0.2/live")),
    ],
)
def test_short_names_are_as_short_as_they_may_be(names, live, short):
    assert short_names(session(*names, live=live)) == dict(zip(names, short, strict=True))


def test_a_single_source_needs_no_name():
    assert short_names(session("a.avi").sources[0]) == {}
