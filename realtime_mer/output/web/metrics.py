"""Figures of a session for Prometheus."""

from __future__ import annotations

import bisect
import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from realtime_mer import __version__
from realtime_mer.results import (
    PARTS,
    UNCERTAIN,
    Analysis,
    FrameCounts,
    Session,
    SourceStatus,
    Watched,
)

if TYPE_CHECKING:
    from prometheus_client import Metric

INSTALL = "/metrics needs prometheus-client: pip install realtime-mer[metrics]"
# Upper ends of the histogram's buckets, seconds. The chain takes 10 to 50 ms from the capture; the
# frames of a slow machine wait for a second or more.
LATENCY_BUCKETS_S = (
    *(0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5),
    *(1.0, 2.0, 5.0),
)
_STATES = ("running", "reconnecting", "frozen", "lost")


def prepare() -> None:
    """Loads prometheus-client, if it is there: before frames come, when nobody waits."""
    with contextlib.suppress(ImportError):
        import prometheus_client.exposition  # noqa: F401


class SourceFigures:
    """The figures of one source. One thread adds to them, any may read them.

    Args:
        session: What is known about it.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.counts = FrameCounts()
        self.latencies = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.latency_s = 0.0
        self.faces = 0
        self.events = Counter(dict.fromkeys((*session.labels, UNCERTAIN), 0))
        self.watched = Watched()
        self.state = "running"
        self.sensitivity: float | None = None
        self.captured_unix_s = time.time()
        self._last = -1

    def add(self, analysis: Analysis) -> None:
        """Adds an analysis. While a source is away, its last frame comes again: it counts once."""
        frame, before = analysis.frame, self.counts
        self.counts = _later(before, analysis.counts)
        self.faces = len(analysis.faces)
        self.sensitivity = analysis.sensitivity
        for event in analysis.events:
            self.events[event.label] += 1
        self.watched = self.watched.with_spans(analysis.visibility)
        for change in analysis.statuses:
            is_well = change.status is SourceStatus.RECOVERED
            self.state = "running" if is_well else change.status.value
        if frame.index > self._last:
            self._last = frame.index
            self.captured_unix_s = time.time() - (time.monotonic() - frame.captured_at)
            self.latency_s += analysis.latency_s
            self.latencies[bisect.bisect_left(LATENCY_BUCKETS_S, analysis.latency_s)] += 1


def _later(before: FrameCounts, now: FrameCounts) -> FrameCounts:
    """The counts of two moments that are read at once: counters never go back."""
    drops = Counter(dict(before.drops)) | Counter(dict(now.drops))
    names = dict.fromkeys([name for name, _ in (*before.drops, *now.drops)])
    return FrameCounts(
        max(before.read, now.read),
        max(before.analysed, now.analysed),
        tuple((name, drops[name]) for name in names),
    )


class Metrics:
    """All figures of a session.

    Args:
        session: What is known before the first frame.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.sources = [SourceFigures(each) for each in session.each]

    def add(self, analysis: Analysis) -> None:
        """Adds an analysis. Takes a few microseconds."""
        self.sources[analysis.camera].add(analysis)

    def exposition(self, viewers: Mapping[str, int], accept: str = "") -> tuple[bytes, str]:
        """The figures as Prometheus reads them, and their content type.

        Args:
            viewers: How many watch, by kind.
            accept: The request's header: Prometheus's text format, or OpenMetrics if it is asked
                for.

        Raises:
            ImportError: prometheus-client is not installed.
        """
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        # The registry that all programs of a process share has other figures, too.
        registry = CollectorRegistry()
        registry.register(_Collector(lambda: _metrics(self._session, self.sources, viewers)))
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):
            # It asks for a version that is no number.
            encode, content_type = choose_encoder("")
        return encode(registry), content_type


class _Collector:
    """What a registry collects from."""

    def __init__(self, collect: Any) -> None:  # noqa: ANN401
        self.collect = collect


def _metrics(
    session: Session, sources: Sequence[SourceFigures], viewers: Mapping[str, int]
) -> Iterator[Metric]:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    build = {"version": __version__, "model": session.model, "provider": session.provider}
    yield InfoMetricFamily("realtime_mer_build", "The program and its classifier.", build)
    by_camera = [(str(camera), source) for camera, source in enumerate(sources)]

    info = InfoMetricFamily(
        "realtime_mer_source", "A source, without credentials.", labels=["camera"]
    )
    frames = CounterMetricFamily(
        "realtime_mer_frames", "Frames that the source gave.", labels=["camera"]
    )
    analysed = CounterMetricFamily(
        "realtime_mer_frames_analysed", "Frames that were analysed.", labels=["camera"]
    )
    dropped = CounterMetricFamily(
        "realtime_mer_frames_dropped",
        "Frames that were not analysed (analysis too slow, paused) or analysed but not shown "
        "(display too slow).",
        labels=["camera", "cause"],
    )
    latency = HistogramMetricFamily(
        "realtime_mer_latency_seconds",
        "From the capture of a live source's frame to the end of its analysis; of a recording, "
        "from the start of its tracking.",
        labels=["camera"],
    )
    captured = GaugeMetricFamily(
        "realtime_mer_last_frame_timestamp_seconds",
        "When the newest analysed frame was captured.",
        labels=["camera"],
    )
    faces = GaugeMetricFamily("realtime_mer_faces", "Faces in the picture.", labels=["camera"])
    events = CounterMetricFamily(
        "realtime_mer_events", "Micro-expressions found.", labels=["camera", "label"]
    )
    watched = CounterMetricFamily(
        "realtime_mer_watched_seconds",
        "Time for which it was known what could be read of a face, summed over the faces; added "
        "once a minute at least.",
        labels=["camera"],
    )
    readable = CounterMetricFamily(
        "realtime_mer_readable_seconds",
        "Of the time watched, that in which a part of the face could be read.",
        labels=["camera", "part"],
    )
    share = GaugeMetricFamily(
        "realtime_mer_readable_ratio",
        "Share of the time watched in which a part of the face could be read.",
        labels=["camera", "part"],
    )
    state = GaugeMetricFamily(
        "realtime_mer_source_state",
        "1 for what has become of the source.",
        labels=["camera", "state"],
    )
    sensitivity = GaugeMetricFamily(
        "realtime_mer_sensitivity", "False reports a minute to expect.", labels=["camera"]
    )
    for camera, source in by_camera:
        own = [camera]
        kind = "live" if source.session.live else "recording"
        info.add_metric(own, {"source": source.session.source, "kind": kind})
        frames.add_metric(own, source.counts.read)
        analysed.add_metric(own, source.counts.analysed)
        for cause, count in source.counts.drops:
            dropped.add_metric([camera, cause], count)
        latency.add_metric(own, _buckets(source.latencies), source.latency_s)
        captured.add_metric(own, source.captured_unix_s)
        faces.add_metric(own, source.faces)
        for label, count in list(source.events.items()):
            events.add_metric([camera, label], count)
        total = source.watched
        watched.add_metric(own, total.watched_s)
        for part, seconds in zip(PARTS, total.readable_s, strict=True):
            readable.add_metric([camera, part], seconds)
            if total.watched_s:
                share.add_metric([camera, part], min(1.0, seconds / total.watched_s))
        for name in _STATES:
            state.add_metric([camera, name], float(source.state == name))
        if source.sensitivity is not None:
            sensitivity.add_metric(own, source.sensitivity)
    yield from (info, frames, analysed, dropped, latency, captured, faces, events)
    yield from (watched, readable, share, state, sensitivity)
    watching = GaugeMetricFamily(
        "realtime_mer_viewers", "Pages and programs that watch.", labels=["kind"]
    )
    for name, count in viewers.items():
        watching.add_metric([name], count)
    yield watching


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Counts of the buckets as Prometheus has them: each with all below."""
    ends = [*(str(end) for end in LATENCY_BUCKETS_S), "+Inf"]
    total = 0
    found: list[tuple[str, float]] = []
    for end, count in zip(ends, list(counts), strict=True):
        total += count
        found.append((end, float(total)))
    return found
