"""Capture: what any source becomes, on readers made of arithmetic and over real sockets."""

import itertools
import math
import socket
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source import capture as capture_module
from realtime_mer.source.capture import Capture, State
from realtime_mer.source.health import Outage
from realtime_mer.source.reader import Grab
from tests.realtime_mer.source.sources import (
    PacedReader,
    ScriptedReader,
    StreamServer,
    give,
    picture,
    scripted,
    take,
    wait_for,
    waiting,
    write_video,
)


def test_frames_cannot_be_changed(tmp_path):
    with Capture(write_video(tmp_path / "clip.avi")) as capture:
        frame = capture.read()
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0, 0] = 0
    with pytest.raises(AttributeError):
        frame.index = 5


def test_slow_consumer_of_a_live_source_gets_the_newest_frame():
    with Capture(PacedReader(period_s=0.005)) as capture:
        seen = []
        for frame in itertools.islice(capture, 5):
            seen.append(frame)
            time.sleep(0.2)  # more than frames may wait
            # What comes next was captured while we slept, at its very end.
        age = time.monotonic() - capture.read().captured_at
    gaps = np.diff([f.index for f in seen])
    assert (gaps > 3).all()
    assert age < 0.1
    assert capture.frames_dropped > 20
    assert capture.frames_read == 6 + capture.frames_dropped


def test_hiccup_of_the_consumer_loses_no_frame():
    with scripted() as (reader, capture):
        # 130 ms at 30 fps, and at 60.
        give(reader, capture, *(k / 30 for k in range(1, 5)))
        assert waiting(capture) == [1, 2, 3, 4]
        give(reader, capture, *(1 + k / 60 for k in range(8)))
        assert waiting(capture) == list(range(5, 13))
        assert capture.frames_dropped == 0


def test_frames_that_have_grown_old_give_way_to_the_newest():
    with scripted() as (reader, capture):
        give(reader, capture, 1.0, 1.05, 1.1, 1.2)
        assert waiting(capture) == [4]
        assert capture.frames_dropped == 3


def test_waiting_frames_are_bounded_in_number():
    with scripted() as (reader, capture):
        give(reader, capture, *(k / 1000 for k in range(1, 1000)))
        assert len(capture._frames) <= 8
        assert len(waiting(capture)) + capture.frames_dropped == 999


def test_consumer_that_stays_behind_gets_the_newest_at_even_distances():
    with scripted() as (reader, capture):
        give(reader, capture, *(k / 30 for k in range(1, 9)))
        for k in range(9, 30, 3):
            # Three frames come while it is busy, and the newest of them is what it gets.
            give(reader, capture, k / 30, (k + 1) / 30, (k + 2) / 30)
            assert capture.read(timeout_s=0).index == k + 2
        # Once it waits for the source, frames may wait for it again.
        assert capture.read(timeout_s=0) is None
        give(reader, capture, 1.0, 1.03, 1.06)
        assert len(waiting(capture)) == 3


def test_live_times_always_rise():
    with scripted() as (reader, capture):
        give(reader, capture, 0.03, 0.03, 0.02, 0.06)
        times = [capture.read().time_s for _ in range(4)]
    assert np.diff([0, *times]).min() > 0
    assert times[-1] == pytest.approx(0.06)


def test_alerts_hold_as_long_as_what_is_wrong(monkeypatch):
    monkeypatch.setattr(capture_module, "_SILENT_S", 0.05)
    with scripted() as (reader, capture):
        still = np.full((48, 64, 3), 120, np.uint8)
        for k in range(1, 50):
            reader.script.put(Grab(still, None, reader.zero + k / 30))
        wait_for(lambda: capture.frames_read == 50)
        capture._arrived_at = time.monotonic() + 60  # not silent
        assert capture.alerts == ("picture frozen",)
        give(reader, capture, 2.0)
        (outage,) = capture.take_outages()
        assert outage.end_s == pytest.approx(2.0)
        wait_for(lambda: capture.alerts == ("no picture",))
    assert capture.alerts == ()
    assert capture.over


@pytest.mark.parametrize("ending", ["closed", "ended", "broken"])
def test_frozen_picture_is_an_outage_up_to_the_end_once(ending):
    class Breaking(ScriptedReader):
        def read(self):
            if isinstance(given := super().read(), BaseException):
                raise given
            return given

    reader = Breaking()
    reader.give(0)
    still = np.full((48, 64, 3), 120, np.uint8)
    for k in range(1, 50):
        reader.script.put(Grab(still, None, reader.zero + k / 30))
    with Capture(reader) as capture:
        wait_for(lambda: capture.frames_read == 50)
        if ending == "closed":
            capture.close()
            reader.script.put(Grab(still, None, reader.zero + 50 / 30))
        elif ending == "ended":
            reader.script.put(None)
            wait_for(lambda: capture.state is State.ENDED)
        else:
            reader.script.put(InputError("torn. Mend it."))
            wait_for(lambda: capture.state is State.FAILED)
    wait_for(lambda: not capture._thread.is_alive())
    (outage,) = capture.take_outages()
    assert outage == Outage(pytest.approx(1 / 30), pytest.approx(49 / 30), "picture frozen")


def test_live_times_are_those_of_capture():
    with Capture(PacedReader(period_s=0.02)) as capture:
        frames = list(itertools.islice(capture, 10))
    assert frames[0].time_s == 0
    for a, b in itertools.pairwise(frames):
        assert b.time_s - a.time_s == pytest.approx(b.captured_at - a.captured_at)
    assert frames[-1].time_s >= 9 * 0.02


def test_recorded_source_waits_for_its_consumer():
    reader = PacedReader(period_s=0, count=40, live=False)
    with Capture(reader) as capture:
        time.sleep(0.1)
        assert capture.frames_read < 10  # bounded
        assert [f.index for f in capture] == list(range(40))
    assert capture.frames_dropped == 0


def test_read_returns_in_time_without_a_frame():
    with Capture(PacedReader(period_s=0.3)) as capture:
        capture.read()
        started = time.monotonic()
        assert capture.read(timeout_s=0.05) is None
        assert time.monotonic() - started < 0.2
        assert capture.state is State.RUNNING


@pytest.mark.parametrize("live", [True, False])
def test_close_stops_a_thread_whose_consumer_has_gone(live):
    reader = PacedReader(period_s=0.001, live=live)
    capture = Capture(reader)
    capture.open()
    capture.read()
    time.sleep(0.05)  # the recorded one now waits for room
    started = time.monotonic()
    capture.close()
    capture.close()
    assert time.monotonic() - started < 0.5
    assert reader.closed.is_set()
    assert capture.state is State.CLOSED
    assert capture.read() is None


def test_source_is_given_back_on_errors_of_the_consumer():
    reader = PacedReader()
    with pytest.raises(KeyboardInterrupt), Capture(reader) as capture:
        raise next(KeyboardInterrupt() for _ in capture)
    assert reader.closed.wait(1)


def test_reader_that_never_returns_ends_as_stalled_and_does_not_hold_close():
    class Stuck(PacedReader):
        def read(self):
            grab = super().read()
            if grab.image[0, 0, 0] == 3:
                time.sleep(30)
            return grab

    started = time.monotonic()
    with Capture(Stuck(), stall_timeout_s=0.2) as capture:
        assert len(list(capture)) == 3
        assert capture.state is State.STALLED
        assert "0.2 s" in capture.notes[0]
    assert time.monotonic() - started < 4


def test_error_in_the_thread_reaches_the_consumer():
    class Broken(PacedReader):
        def read(self):
            if next(self.left) == 2:
                raise OSError("sensor on fire")
            return Grab(picture(1), None, time.monotonic())

    with pytest.raises(OSError, match="on fire"), Capture(Broken(live=False)) as capture:
        list(capture)


def test_pictures_of_another_size_are_scaled_to_the_first():
    class Zooming(PacedReader):
        def read(self):
            grab = super().read()
            return grab and grab._replace(image=np.zeros((48 + self.count(), 64, 3), np.uint8))

        def count(self, _c=itertools.count()):  # noqa: B008
            return min(next(_c), 1)

    with Capture(Zooming(period_s=0, count=5, live=False)) as capture:
        assert {f.image.shape for f in capture} == {(48, 64, 3)}
        (note,) = capture.notes
    assert "64 x 48 to 64 x 49" in note


def test_stream_that_ends_ends(server):
    with Capture(f"{server.url}/finish", reconnect=False) as capture:
        assert len(list(capture)) >= 5
        assert (capture.state, capture.notes) == (State.ENDED, ())
        assert capture.over


def test_stalled_stream_ends_in_bounded_time(server):
    with Capture(f"{server.url}/stall", stall_timeout_s=0.5, reconnect=False) as capture:
        started = time.monotonic()
        assert len(list(capture)) >= 5
        assert time.monotonic() - started < 3
        assert capture.state is State.STALLED
        assert "hunter2" not in capture.notes[0]
    assert capture.take_outages() == ()  # as long as a hiccup


def test_silence_before_the_end_is_an_outage(server, monkeypatch):
    monkeypatch.setattr(capture_module, "_SILENT_S", 0.4)
    with Capture(f"{server.url}/stall", stall_timeout_s=0.8, reconnect=False) as capture:
        *_, last = capture
    (outage,) = capture.take_outages()
    assert (outage.start_s, outage.reason) == (last.time_s, "source lost")
    assert 0.5 < outage.end_s - outage.start_s < 3
    # It was not lost yet when it was closed.
    with Capture(f"{server.url}/stall") as capture:
        while (frame := capture.read(timeout_s=0.6)) is not None:
            last = frame
    (outage,) = capture.take_outages()
    assert (outage.start_s, outage.reason) == (last.time_s, "no frames")
    assert 0.5 < outage.end_s - outage.start_s < 3


def test_stream_that_is_cut_goes_on_when_its_server_is_back(server):
    with Capture(f"{server.url}/live?token=s3cr3t") as capture:
        before = take(capture, 3)
        server.stop()
        while capture.state is State.RUNNING:
            before += filter(None, [capture.read(timeout_s=0.02)])
        before += filter(None, [capture.read(timeout_s=0)])
        assert capture.state is State.RECONNECTING
        assert capture.alerts == ("reconnecting",)
        assert not capture.over
        again = StreamServer(server.server_port)
        after = take(capture, 3)
        assert (capture.state, capture.alerts) == (State.RUNNING, ())
    again.stop()
    frames = before + after
    assert [f.index for f in frames] == list(range(len(frames)))
    for a, b in itertools.pairwise(frames):
        assert b.time_s - a.time_s == pytest.approx(b.captured_at - a.captured_at)
    assert after[0].time_s - before[-1].time_s > 0.4  # the first pause
    (outage,) = capture.take_outages()
    assert outage == Outage(before[-1].time_s, after[0].time_s, "source lost")
    lost, back = capture.notes
    assert "is lost at" in lost
    assert "is back after" in back
    for secret in ("admin", "hunter2", "s3cr3t"):
        assert secret not in lost + back


def test_stalled_stream_is_opened_again(server):
    with Capture(f"{server.url}/stall", stall_timeout_s=0.3) as capture:
        frames = take(capture, 30)
        assert capture.state is State.RUNNING
    assert np.diff([f.time_s for f in frames]).max() > 0.7
    assert len(capture.take_outages()) >= 1


def test_stream_that_does_not_come_back_ends_after_a_while(server):
    with Capture(f"{server.url}/live", patience_s=1.0) as capture:
        (last,) = take(capture, 1)
        server.stop()
        for last in capture:  # noqa: B007
            pass
        assert capture.state is State.ENDED
        assert capture.over
    (outage,) = capture.take_outages()
    assert outage.start_s == last.time_s
    assert outage.end_s >= outage.start_s + 1.0
    assert "did not come back within 1" in capture.notes[-1]


def test_close_while_a_source_is_away_is_quick_and_records_the_outage(server):
    with Capture(f"{server.url}/live") as capture:
        take(capture, 2)
        server.stop()
        wait_for(lambda: capture.state is State.RECONNECTING)
        started = time.monotonic()
        capture.close()
        assert time.monotonic() - started < 1.0
        assert capture.state is State.CLOSED
    assert [o.reason for o in capture.take_outages()] == ["source lost"]


def test_close_does_not_wait_for_a_server_that_accepts_and_is_silent(server):
    with Capture(f"{server.url}/live") as capture:
        take(capture, 2)
        server.stop()
        with socket.create_server(("127.0.0.1", server.server_port)) as silent:
            peer, _ = silent.accept()  # the capture is inside its opening now
            started = time.monotonic()
            capture.close()
            assert time.monotonic() - started < 1.0
            peer.close()


def test_source_that_comes_and_goes_is_not_noted_for_ever():
    class Flapping(PacedReader):
        patience_s = math.inf

        def read(self):
            grab = super().read()
            return grab if grab.image[0, 0, 0] % 3 != 2 else None

    reader = Flapping(period_s=0.001)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture_module, "_REOPEN_S", (0.001, 0.002))
        with Capture(reader) as capture:
            wait_for(lambda: len(capture.take_outages()) > 0 and capture.frames_read > 60)
            assert 5 < len(capture.notes) < 15


def test_reader_that_breaks_while_it_is_lost_is_opened_again():
    class Unreliable(PacedReader):
        patience_s = math.inf
        troubles = iter([InputError("no. Mend it."), OSError("bus"), cv2.error("driver")])

        def open(self):
            if capture.frames_read and (trouble := next(self.troubles, None)):
                raise trouble

        def read(self):
            grab = super().read()
            if grab.image[0, 0, 0] == 5:
                raise OSError("unplugged")
            return grab

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture_module, "_REOPEN_S", (0.001, 0.002))
        capture = Capture(Unreliable(period_s=0.001))
        with capture:
            wait_for(lambda: capture.frames_read > 20)
        assert next(Unreliable.troubles, None) is None


def test_reopening_prints_nothing(server):
    code = (
        "import sys\n"
        "from realtime_mer.source.capture import Capture\n"
        "with Capture(sys.argv[1]) as capture:\n"
        "    print('running', flush=True)\n"
        "    while not capture.take_outages(): capture.read(0.05)\n"
        "print(*capture.notes, sep='\\n')\n"
    )
    command = [sys.executable, "-c", code, f"{server.url}/live?token=s3cr3t"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "running\n"
        server.stop()
        time.sleep(0.7)  # one attempt is refused
        again = StreamServer(server.server_port)
        out, err = process.communicate(timeout=30)
        again.stop()
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 2
    for secret in ("admin", "hunter2", "s3cr3t"):
        assert secret not in out


def test_program_ends_at_once_and_cleanly_while_a_stream_stalls(server):
    code = (
        "import sys, time\n"
        "from realtime_mer.source.capture import Capture\n"
        "with Capture(sys.argv[1]) as capture:\n"
        "    for frame in capture:\n"
        "        if frame.index == 10: break\n"
        "    time.sleep(0.5); started = time.monotonic()\n"
        "print(time.monotonic() - started < 1.5)\n"
    )
    command = [sys.executable, "-c", code, f"{server.url}/stall"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


# Losses and returns, on a reader whose calls take as long as the test says


class Unsteady(PacedReader):
    """A live source: each stay gives three frames and ends.

    Each entry of `returns` says how long opening it again takes, and then its first read.
    """

    def __init__(self, *returns: tuple[float, float]) -> None:
        super().__init__(period_s=0.005)
        self.returns = iter(returns)
        self.opened = 0
        self.first_read_s = 0.0
        self.never = threading.Event()

    def open(self):
        self.opened += 1
        self.given = 0
        if self.opened > 1:
            open_s, self.first_read_s = next(self.returns, (math.inf, 0.0))
            self.wait(open_s)

    def read(self):
        if self.given == 0:
            self.wait(self.first_read_s)
        self.given += 1
        return super().read() if self.given <= 3 else None

    def wait(self, seconds):
        self.never.wait(None if seconds == math.inf else seconds)


@pytest.fixture
def in_a_hurry(monkeypatch):
    """Short pauses and an opening timeout of 0.2 s, so that patience is not a matter of minutes."""
    monkeypatch.setattr(capture_module, "_REOPEN_S", (0.01, 0.02))
    monkeypatch.setattr(capture_module, "OPEN_TIMEOUT_S", 0.2)


def status_names(capture):
    return [change.status.value for change in capture.take_statuses()]


@pytest.mark.parametrize(
    ("open_s", "read_s"), [(1.8, 0.0), (0.0, 1.8), (1.0, 1.0)], ids=["open", "first read", "both"]
)
def test_source_that_takes_long_to_come_back_is_not_given_up(in_a_hurry, open_s, read_s):
    # Longer than the timeouts of opening and reading together, far less than the patience.
    reader = Unsteady((open_s, read_s))
    with Capture(reader, stall_timeout_s=0.1, patience_s=60.0) as capture:
        frames = list(itertools.islice(capture, 6))
        reader.never.set()
    assert [f.index for f in frames] == list(range(6))
    assert frames[3].time_s - frames[2].time_s > 1.5
    assert capture.notes[1].startswith("paced is back after ")


@pytest.mark.parametrize("patience_s", [0.3, math.inf])
def test_native_read_that_hangs_for_ever_is_given_up(in_a_hurry, patience_s):
    class Hanging(Unsteady):
        def read(self):
            if self.given == 3:
                self.never.wait()
            return super().read()

    reader = Hanging()
    with Capture(reader, stall_timeout_s=0.1, patience_s=patience_s) as capture:
        assert len(list(capture)) == 3
        assert capture.state is State.STALLED
        assert capture.over
        reader.never.set()
    assert reader.opened == 1
    assert status_names(capture) == ["reconnecting", "lost"]


def test_hung_read_takes_no_longer_than_the_patience_allows(monkeypatch):
    class Hanging(Unsteady):
        def read(self):
            if self.given == 3:
                self.never.wait()
            return super().read()

    # An opening timeout that would outlast the patience by far.
    monkeypatch.setattr(capture_module, "OPEN_TIMEOUT_S", 20.0)
    reader = Hanging()
    with Capture(reader, stall_timeout_s=0.1, patience_s=0.2) as capture:
        assert len(list(capture)) == 3
        reader.never.set()
    (outage,) = capture.take_outages()
    assert 0.2 < outage.end_s - outage.start_s < 10


@pytest.mark.parametrize("where", ["open", "first read"])
def test_patience_ends_an_attempt_that_hangs(in_a_hurry, where):
    reader = Unsteady((math.inf, 0.0) if where == "open" else (0.0, math.inf))
    with Capture(reader, stall_timeout_s=0.1, patience_s=0.5) as capture:
        frames = list(capture)
        assert capture.over
        reader.never.set()
    assert len(frames) == 3
    (outage,) = capture.take_outages()
    assert 0.5 <= outage.end_s - outage.start_s < 10
    assert "did not come back within" in capture.notes[-1]


def test_hung_read_that_returns_goes_on():
    reader = ScriptedReader()
    reader.give(0)
    with Capture(reader, stall_timeout_s=0.1, patience_s=60.0) as capture:
        capture.read()
        while capture.state is State.RUNNING:
            capture.read(timeout_s=0.1)
        assert capture.alerts == ("reconnecting",)
        reader.give(2)
        assert capture.read().time_s == pytest.approx(2)
        assert capture.state is State.RUNNING
        assert status_names(capture) == ["reconnecting", "recovered"]
        (outage,) = capture.take_outages()
        reader.script.put(None)
    assert outage == Outage(0.0, pytest.approx(2), "source lost")


def test_source_closed_while_it_is_lost_is_not_opened_again(monkeypatch):
    monkeypatch.setattr(capture_module, "_REOPEN_S", (0.5, 0.5))
    reader = Unsteady((0.0, 0.0))
    with Capture(reader, patience_s=60.0) as capture:
        wait_for(lambda: capture.state is State.RECONNECTING)
        wait_for(reader.closed.is_set)
        capture.close()
        wait_for(lambda: not capture._thread.is_alive())
    assert reader.opened == 1


# Status


def test_loss_and_return_are_status_changes_with_their_times(in_a_hurry):
    reader = Unsteady((0.0, 0.0))
    with Capture(reader, patience_s=60.0) as capture:
        frames = list(itertools.islice(capture, 6))
        wait_for(lambda: capture.state is State.RECONNECTING)
        lost, back, lost_again = capture.take_statuses()
        reader.never.set()
    assert (lost.status.value, lost.time_s) == ("reconnecting", frames[2].time_s)
    assert (back.status.value, back.time_s) == ("recovered", frames[3].time_s)
    assert lost_again.time_s == frames[5].time_s


def test_loss_for_good_has_the_time_of_giving_up(in_a_hurry):
    with Capture(Unsteady(), stall_timeout_s=0.1, patience_s=0.3) as capture:
        *_, last = capture
        reconnecting, lost = capture.take_statuses()
        assert capture.take_statuses() == ()
        capture._reader.never.set()
    assert (reconnecting.status.value, reconnecting.time_s) == ("reconnecting", last.time_s)
    assert lost.status.value == "lost"
    (outage,) = capture.take_outages()
    assert lost.time_s == pytest.approx(outage.end_s, abs=0.1)


def test_source_that_stalls_and_is_not_opened_again_is_lost():
    class Silent(Unsteady):
        def read(self):
            if self.given == 3:
                time.sleep(0.1)
            return super().read()

    with Capture(Silent(), stall_timeout_s=0.1, reconnect=False) as capture:
        *_, last = capture
        (lost,) = capture.take_statuses()
    assert lost.status.value == "lost"
    assert lost.time_s >= last.time_s + 0.09


def still(reader, *times):
    image = np.full((48, 64, 3), 120, np.uint8)
    for time_s in times:
        reader.script.put(Grab(image, None, reader.zero + time_s))


def test_frozen_picture_and_its_end_are_status_changes():
    with scripted() as (reader, capture):
        still(reader, *(k / 10 for k in range(1, 15)))
        wait_for(lambda: capture.frames_read == 15)
        (frozen,) = capture.take_statuses()
        give(reader, capture, 1.5, 1.6)
        (recovered,) = capture.take_statuses()
    assert frozen.status.value == "frozen"
    assert frozen.time_s == pytest.approx(1.2)  # the first that is more than 1 s after 0.1
    assert (recovered.status.value, recovered.time_s) == ("recovered", pytest.approx(1.5))


def test_frozen_source_that_is_lost_recovers_once(in_a_hurry):
    reader = ScriptedReader()
    reader.give(0)
    with Capture(reader, patience_s=60.0) as capture:
        still(reader, *(k / 10 for k in range(1, 15)))
        wait_for(lambda: capture.frames_read == 15)
        reader.script.put(None)
        wait_for(lambda: capture.state is State.RECONNECTING)
        # It comes back as frozen as it went.
        still(reader, *(2 + k / 10 for k in range(15)))
        wait_for(lambda: capture.frames_read == 30)
        assert status_names(capture) == ["frozen", "reconnecting", "recovered", "frozen"]
        reader.script.put(None)


def test_frozen_source_that_hangs_is_not_taken_for_recovered_twice():
    reader = ScriptedReader()
    reader.give(0)
    with Capture(reader, stall_timeout_s=0.1, patience_s=60.0) as capture:
        still(reader, *(k / 10 for k in range(1, 15)))
        wait_for(lambda: capture.frames_read == 15)
        while capture.state is State.RUNNING:
            capture.read(timeout_s=0.1)
        # The read that hung brings another picture.
        reader.give(4)
        wait_for(lambda: capture.frames_read == 16)
        assert status_names(capture) == ["frozen", "reconnecting", "recovered"]
        reader.script.put(None)


def test_recordings_have_no_status():
    class Still(PacedReader):
        def read(self):
            grab = super().read()
            return grab and grab._replace(image=picture(9), position_s=None)

    with Capture(Still(period_s=0, count=100, live=False)) as capture:
        assert len(list(capture)) == 100
        assert capture.take_statuses() == ()


def test_changes_that_nobody_takes_do_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(capture_module, "_REOPEN_S", (0.0, 0.0))
    reader = Unsteady(*[(0.0, 0.0)] * 300)
    reader.period_s = 0.0
    with Capture(reader, patience_s=60.0) as capture:
        wait_for(lambda: capture.frames_read == 3 * 301)
        changes = capture.take_statuses()
        reader.never.set()
    assert len(changes) == 100
    for before, after in itertools.pairwise(changes):
        assert before.status is not after.status
        assert before.time_s < after.time_s


# The clock's origin


@pytest.mark.parametrize("age_s", [0.0, 0.3])
def test_origin_is_the_moment_at_which_frame_0_was_captured(age_s):
    class Starting(ScriptedReader):
        def open(self):
            time.sleep(0.3)  # a camera takes a while; its clock does not run yet

        def read(self):
            time.sleep(0.02)
            image = np.random.default_rng().integers(0, 255, (48, 64, 3), np.uint8)
            return Grab(image, None, time.monotonic() - age_s)

    capture = Capture(Starting())
    assert capture.origin is None
    with capture:
        first, *_, sixth = itertools.islice(capture, 6)
        origin = capture.origin
    assert (first.index, first.time_s) == (0, 0.0)
    assert origin.monotonic_s == first.captured_at
    assert origin.monotonic(sixth.time_s) == pytest.approx(sixth.captured_at)
    # Both clocks name one moment.
    apart_s = time.time() - time.monotonic()
    assert origin.unix_s - origin.monotonic_s == pytest.approx(apart_s, abs=0.1)
    assert origin.wall_clock(0.0).timestamp() == pytest.approx(origin.unix_s, abs=1e-5)


def test_origin_stays_when_a_recording_is_closed_before_it_is_read():
    with Capture(PacedReader(period_s=0.3, live=False)) as capture:
        origin = capture.origin
        capture.close()  # inside the second read
        wait_for(lambda: not capture._thread.is_alive())
    assert capture.frames_read == 0
    assert capture.origin is origin


def test_origin_stays_when_a_source_comes_back(in_a_hurry):
    reader = Unsteady((0.0, 0.0))
    with Capture(reader, patience_s=60.0) as capture:
        take(capture, 3)
        origin = capture.origin
        take(capture, 3)
        assert capture.origin is origin
        reader.never.set()


# What a source may be


@pytest.mark.parametrize("number", [np.int64(7), np.uint8(7), np.int32(7), np.array(7), "7", 7])
def test_any_integer_is_a_camera_number(number):
    capture = Capture(number)
    assert capture.source == "camera 7"
    assert capture.live


def test_path_may_be_a_numpy_string(tmp_path):
    path = write_video(tmp_path / "clip.avi", frames=3)
    with Capture(np.str_(path)) as capture:
        assert len(list(capture)) == 3


@pytest.mark.parametrize("source", [None, 1.5, b"clip.avi", [0]])
def test_other_things_are_refused_by_their_type(source):
    with pytest.raises(TypeError, match=f"a camera number, a path.*{type(source).__name__}"):
        Capture(source)
