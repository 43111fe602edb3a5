"""Histograms against exact figures, and the object that --stats writes."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.stats_file import StatsFile
from realtime_mer.results import Summary
from realtime_mer.stats import Histogram, Stats, peak_memory_mb


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("scale_s", [20e-6, 8e-3, 2.0])
def test_quantiles_are_within_their_bin(scale_s, q):
    times = scale_s * np.random.default_rng(1).lognormal(0, 0.5, 5000)
    histogram = Histogram()
    for t in times:
        histogram.add(t)
    assert histogram.quantile(q) == pytest.approx(np.quantile(times, q), rel=0.05)
    assert histogram.mean == pytest.approx(times.mean())


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_durations_beyond_the_bins_are_kept(seconds):
    histogram = Histogram()
    histogram.add(seconds)
    assert histogram.count == 1
    assert histogram.quantile(0.5) == seconds


def test_empty_histogram_is_zero():
    names = ("count", "mean", "median", "p95", "p99", "max")
    assert Histogram().as_dict() == {**dict.fromkeys(names, 0), "bins": []}


def test_bins_hold_every_duration_below_their_upper_end():
    times = 8e-3 * np.random.default_rng(2).lognormal(0, 0.5, 500)
    histogram = Histogram()
    for t in times:
        histogram.add(t)
    bins = histogram.bins()
    assert sum(count for _, count in bins) == 500
    assert all(count > 0 for _, count in bins)
    uppers = [upper for upper, _ in bins]
    assert uppers == sorted(uppers)
    below = 0
    for upper, count in bins:
        below += count
        # The ends are written with four digits.
        assert below == pytest.approx((1000 * times < upper).sum(), abs=1)
    # About 20 to a decade, all of one ratio.
    assert uppers[1] / uppers[0] == pytest.approx(10 ** (1 / 24), rel=0.02)
    for far in (1e-9, 1e9):
        histogram.add(far)
    assert sum(count for _, count in histogram.bins()) == 502


def test_drops_are_told_by_cause_and_memory_now_and_at_its_peak():
    report = Stats().as_dict(12, 3, {"analysis too slow": 3, "display too slow": 1})
    assert report["drops"] == {"analysis too slow": 3, "display too slow": 1}
    assert 10 < report["memory_mb"] <= report["peak_memory_mb"]
    assert Stats().as_dict(0, 0)["drops"] == {}


def test_memory_does_not_grow_with_frames():
    stats = Stats()
    for _ in range(2000):
        stats.record("track", 0.008)
        stats.frame_done(0.01)
    assert len(stats._recent) <= 256
    assert len(stats._stages["track"]._bins) == len(Histogram()._bins)


def test_report_has_stages_latency_and_counts():
    stats = Stats()
    for ms in range(1, 101):
        stats.record("track", ms / 1000)
        stats.frame_done(2 * ms / 1000)
    with stats.stage("classify"):
        time.sleep(0.02)
    report = json.loads(json.dumps(stats.as_dict(frames_read=103, frames_dropped=3)))
    assert (report["frames_read"], report["frames_analysed"], report["frames_dropped"]) == (
        103,
        100,
        3,
    )
    assert report["stages_ms"]["track"]["median"] == pytest.approx(50, rel=0.05)
    assert report["stages_ms"]["track"]["p95"] == pytest.approx(95, rel=0.05)
    assert report["end_to_end_ms"]["p99"] == pytest.approx(198, rel=0.05)
    assert 20 <= report["stages_ms"]["classify"]["max"] < 200
    assert list(report["stages_ms"]) == ["track", "classify"]


def test_clock_starts_with_the_first_record():
    stats = Stats()
    time.sleep(0.1)  # models are loaded
    assert stats.wall_s == 0
    stats.record("capture wait", 0.05)
    assert stats.wall_s == pytest.approx(0.05, abs=0.03)
    assert stats.as_dict(0, 0)["fps"] == 0


def test_fps_is_that_of_the_last_second():
    stats = Stats()
    assert stats.fps == 0
    for _ in range(15):
        stats.frame_done(0)
        time.sleep(0.01)
    assert 50 < stats.fps < 101


def test_stage_that_fails_is_timed_too():
    stats = Stats()
    with pytest.raises(KeyError), stats.stage("track"):
        raise KeyError
    assert stats.as_dict(0, 0)["stages_ms"]["track"]["count"] == 1


def test_threads_lose_no_record():
    stats = Stats()

    def work():
        for _ in range(2000):
            stats.record("track", 0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stats.as_dict(0, 0)["stages_ms"]["track"]["count"] == 8000


def test_peak_memory_is_of_this_process_and_of_its_past():
    # The parent (this test run) is larger than the child before its allocation.
    code = (
        "from realtime_mer.stats import peak_memory_mb as peak\n"
        "before = peak(); block = bytearray(b'x') * (64 << 20); del block; print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 60 < float(done.stdout) < 80
    assert peak_memory_mb() > 10


def summary(stats):
    return Summary("end of source", 1, 1, 0, 1, 1.0, 1.0, 0, stats)


def test_file_holds_the_summarys_object(tmp_path):
    path = tmp_path / "stats.json"
    StatsFile(path).end(summary({"fps": 30.0}))
    assert json.loads(path.read_text()) == {"fps": 30.0}


def test_older_file_stays_until_the_session_ends(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "stats.json"
    path.write_text("older")
    file = StatsFile(path)
    assert path.read_text() == "older"
    path.rename(tmp_path / "stats.json")
    folder.rmdir()
    with pytest.raises(InputError, match=r"stats\.json cannot be written: No such file"):
        file.end(summary({"fps": 30.0}))


def test_unwritable_file_is_refused_before_work(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        StatsFile(tmp_path / "no" / "stats.json")
