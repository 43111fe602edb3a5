"""Channels between real threads: order, bounds, ends, errors and closing at any moment."""

import threading
import time

import pytest

from realtime_mer.session.channel import Channel, Ended
from realtime_mer.session.stage import Stage


def in_thread(function, *arguments) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def wait_for(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def is_waiting(thread: threading.Thread) -> bool:
    """The thread gets nowhere by itself."""
    thread.join(0.05)
    return thread.is_alive()


def test_everything_comes_out_in_order_however_fast_either_side_is():
    channel, came = Channel(3), []

    def write():
        for number in range(200):
            assert channel.put(number)
        channel.end()

    writer = in_thread(write)
    for number in channel:
        came.append(number)
        if number % 50 == 0:
            time.sleep(0.01)
    writer.join(5)
    assert came == list(range(200))
    assert channel.merged == 0
    with pytest.raises(Ended):
        channel.get()


def test_writer_waits_while_it_is_full():
    channel = Channel(2)
    channel.put(1)
    channel.put(2)
    writer = in_thread(channel.put, 3)
    assert is_waiting(writer)
    assert channel.get() == 1
    writer.join(5)
    assert [channel.get(), channel.get()] == [2, 3]


def test_channel_that_merges_never_waits_and_loses_nothing():
    channel = Channel(2, merge=lambda a, b: a + b)
    for letter in "abcde":
        assert channel.put(letter)
    channel.end()
    assert list(channel) == ["a", "bcde"]
    assert channel.merged == 3


def test_error_of_the_writer_comes_after_what_was_written_and_once():
    channel = Channel(2)
    channel.put("good")
    channel.end(OSError("tape torn"))
    channel.end(ValueError("too late"))
    assert channel.get() == "good"
    with pytest.raises(OSError, match="tape torn"):
        channel.get()
    with pytest.raises(Ended):
        channel.get()


def test_reader_that_waits_is_woken_by_the_end():
    channel, came = Channel(1), []
    reader = in_thread(lambda: came.extend(channel))
    assert is_waiting(reader)
    channel.end()
    reader.join(1)
    assert not reader.is_alive()
    assert came == []


def test_closing_lets_go_what_waits_and_wakes_both_sides():
    channel, answers = Channel(1), []
    channel.put("waits")
    writer = in_thread(lambda: answers.append(channel.put("never")))
    assert is_waiting(writer)
    channel.close()
    writer.join(1)
    assert answers == [False]
    assert channel.put("after") is False
    with pytest.raises(Ended):
        channel.get()


def test_writer_of_an_opened_channel_does_not_wait_and_all_is_kept():
    channel = Channel(1)
    channel.put(0)
    writer = in_thread(channel.put, 1)
    assert is_waiting(writer)
    channel.open_up()
    writer.join(1)
    assert channel.put(2)
    channel.end()
    assert list(channel) == [0, 1, 2]


def test_time_in_the_channel_is_told():
    waits = []
    channel = Channel(1, waited=waits.append)
    channel.put("a")
    time.sleep(0.02)
    channel.get()
    assert 0.02 <= waits[0] < 1


def test_channel_that_can_hold_nothing_is_refused():
    with pytest.raises(ValueError, match="1 item or more"):
        Channel(0)


# Stages


def test_stage_ends_what_it_fills_and_closes_what_it_empties():
    source, target = Channel(2), Channel(2)

    def double():
        for number in source:
            target.put(2 * number)

    stage = Stage("double", double, target, source)
    assert stage.join(1)  # not started: nothing to wait for
    stage.start()
    source.put(1)
    source.put(2)
    source.end()
    assert list(target) == [2, 4]
    assert stage.join(1)
    assert source.put(3) is False


def test_stage_that_fails_hands_its_error_on_and_stops_its_neighbour():
    source, target = Channel(1), Channel(1)

    def fail():
        source.get()
        raise RuntimeError("no more")

    stage = Stage("fail", fail, target, source)
    stage.start()
    writer = in_thread(lambda: [source.put(i) for i in range(9)])
    with pytest.raises(RuntimeError, match="no more"):
        target.get()
    writer.join(1)
    assert not writer.is_alive()
    assert stage.join(1)


def test_error_passes_through_a_row_of_stages():
    first, second, third = Channel(1), Channel(1), Channel(1)

    def pass_on(source, target):
        for item in source:
            target.put(item)

    stages = [
        Stage("a", lambda: pass_on(first, second), second, first),
        Stage("b", lambda: pass_on(second, third), third, second),
    ]
    for stage in stages:
        stage.start()
    first.put("whole")
    first.end(OSError("torn"))
    assert third.get() == "whole"
    with pytest.raises(OSError, match="torn"):
        third.get()
    wait_for(lambda: all(stage.join(0) for stage in stages))


def test_reader_with_a_time_limit_gets_none_when_nothing_comes():
    channel = Channel(2)
    assert channel.get(timeout_s=0.01) is None
    channel.put("a")
    assert [channel.get(0.01), channel.get(0.01)] == ["a", None]
    channel.end()
    with pytest.raises(Ended):
        channel.get(0.01)
