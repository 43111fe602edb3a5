"""Figures for Prometheus, as its own tools read them."""

import dataclasses
import shutil
import subprocess
import sys

import pytest

from realtime_mer.output.web import metrics
from realtime_mer.results import (
    FrameCounts,
    SourceStatus,
    StatusChange,
    VisibilitySpan,
)
from tests.realtime_mer.output.web.viewers import (
    SESSION,
    analysis,
    event,
    get,
    serving,
)

parser = pytest.importorskip(
    "prometheus_client.parser", reason="prometheus-client is not installed (extra metrics)"
)
PROMTOOL = shutil.which("promtool")


def samples_of(text):
    """Value of each sample: (name, its labels) to number."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted(k, read, analysed, slow, **values):
    counts = FrameCounts(read, analysed, (("analysis too slow", slow), ("paused", 0)))
    return dataclasses.replace(analysis(k, **values), counts=counts)


def test_a_scrape_tells_what_happened():
    span = VisibilitySpan(0, 0.0, 8.0, (1.0, 1.0, 2.0), (8.0, 4.0, 0.0), 8.0)
    lost = StatusChange(SourceStatus.RECONNECTING, 0.3)
    with serving() as view:
        view.update(counted(1, 3, 2, 1, events=[event(), event(2.0), event(3.0, "negative")]))
        view.update(counted(2, 5, 3, 2, visibility=(span,), statuses=(lost,), sensitivity=0.5))
        status, headers, body = get(view.url + "metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    samples = samples_of(body.decode())
    own = ("camera", "0")

    def value(name, *labels):
        return samples[(f"realtime_mer_{name}", *sorted((own, *labels)))]

    assert value("frames_total") == 5
    assert value("frames_analysed_total") == 3
    assert value("frames_dropped_total", ("cause", "analysis too slow")) == 2
    assert value("events_total", ("label", "surprise")) == 2
    assert value("events_total", ("label", "negative")) == 1
    assert value("events_total", ("label", "uncertain")) == 0
    assert value("latency_seconds_count") == 2
    assert value("latency_seconds_sum") == pytest.approx(2 * 0.0123)
    assert value("latency_seconds_bucket", ("le", "0.01")) == 0
    assert value("latency_seconds_bucket", ("le", "0.015")) == 2
    assert value("latency_seconds_bucket", ("le", "+Inf")) == 2
    assert value("faces") == 1
    assert value("sensitivity") == 0.5
    assert value("readable_ratio", ("part", "upper face")) == 1
    assert value("readable_ratio", ("part", "middle face")) == 0.5
    assert value("readable_seconds_total", ("part", "lower face")) == 0
    assert value("source_state", ("state", "reconnecting")) == 1
    assert value("source_state", ("state", "running")) == 0
    assert value("source_info", ("kind", "live"), ("source", SESSION.source)) == 1
    assert samples["realtime_mer_viewers", ("kind", "page")] == 0


def test_counters_never_go_back_whatever_is_told():
    told = metrics.Metrics(SESSION)
    before = {}
    for k, counts in enumerate([(1, 1, 0), (9, 5, 3), (8, 6, 2), (9, 4, 9)]):
        told.add(counted(k, *counts))
        body, _ = told.exposition({})
        now = samples_of(body.decode())
        counters = {key for key in now if key[0].endswith(("_total", "_bucket", "_count"))}
        assert all(now[key] >= before.get(key, 0) for key in counters)
        before = now
    assert before["realtime_mer_frames_total", ("camera", "0")] == 9


def test_a_frame_that_comes_again_while_the_source_is_away_counts_once():
    told = metrics.Metrics(SESSION)
    one = analysis(1)
    for _ in range(5):
        told.add(one)
    told.add(dataclasses.replace(one, is_away=True, faces=()))
    samples = samples_of(told.exposition({})[0].decode())
    assert samples["realtime_mer_latency_seconds_count", ("camera", "0")] == 1
    assert samples["realtime_mer_faces", ("camera", "0")] == 0


def test_several_sources_have_figures_of_their_own():
    both = dataclasses.replace(SESSION, sources=(SESSION, SESSION))
    told = metrics.Metrics(both)
    told.add(counted(1, 3, 3, 0))
    told.add(dataclasses.replace(counted(1, 7, 7, 0), camera=1))
    samples = samples_of(told.exposition({})[0].decode())
    assert samples["realtime_mer_frames_total", ("camera", "0")] == 3
    assert samples["realtime_mer_frames_total", ("camera", "1")] == 7


def test_open_metrics_are_spoken_when_they_are_asked_for():
    told = metrics.Metrics(SESSION)
    body, kind = told.exposition({}, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    # A version that is none is no reason to fail.
    _, kind = told.exposition({}, "application/openmetrics-text; version=new")
    assert kind.startswith("text/plain")


def test_nothing_is_added_to_the_registry_that_a_process_shares():
    from prometheus_client import REGISTRY

    told = metrics.Metrics(SESSION)
    told.exposition({})
    names = {family.name for family in REGISTRY.collect()}
    assert not [name for name in names if name.startswith("realtime_mer")]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Prometheus's package)")
def test_promtool_finds_no_fault():
    told = metrics.Metrics(SESSION)
    told.add(counted(1, 3, 2, 1, events=[event()], sensitivity=0.5))
    body, _ = told.exposition({"page": 1, "live": 0, "frames": 0})
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=body, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_without_the_library_the_answer_is_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with serving() as view:
        view.update(analysis(1))
        status, headers, body = get(view.url + "metrics")
        assert status == 501
        assert b"pip install realtime-mer[metrics]" in body
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert get(view.url)[0] == 200


def test_a_real_session_counts_each_of_its_frames(eventful):
    told = metrics.Metrics(SESSION)
    for each in eventful:
        told.add(each)
    samples = samples_of(told.exposition({})[0].decode())
    own = ("camera", "0")
    frames = len({id(each.frame) for each in eventful})
    assert samples["realtime_mer_frames_total", own] == frames
    # Those of which the caller has taken the analysis, when the last one was made.
    assert frames - 10 <= samples["realtime_mer_frames_analysed_total", own] <= frames
    assert samples["realtime_mer_latency_seconds_count", own] == frames
    assert samples["realtime_mer_events_total", own, ("label", "surprise")] == 1
    assert samples["realtime_mer_watched_seconds_total", own] >= 0
