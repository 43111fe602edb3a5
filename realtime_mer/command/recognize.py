"""A session as the options describe it: source, recognizer, outputs and window."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime_mer.analysis.baseline import BASELINE_S
from realtime_mer.command.options import analysis_settings, check_source_options
from realtime_mer.command.senders import links_of
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.clock import clock
from realtime_mer.output.frame_memory import memory_of_each
from realtime_mer.output.log import CsvLog, JsonLinesLog
from realtime_mer.output.overlay import Overlay, TiledOverlay, VideoOverlay
from realtime_mer.output.per_source import PerSource
from realtime_mer.output.recording import EventRecorder
from realtime_mer.output.senders.sender import Senders
from realtime_mer.output.stats_file import StatsFile
from realtime_mer.output.terminal import Terminal
from realtime_mer.output.video_output import VideoOutput
from realtime_mer.output.window import Controls, Window
from realtime_mer.output.writable import check_distinct
from realtime_mer.results import Summary
from realtime_mer.session.group import RecognizerGroup
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.session.sink import Sink
from realtime_mer.source.camera import CAMERA_RATE, CAMERA_SIZE, CameraReader, CameraRequest
from realtime_mer.source.kinds import reader_for
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import Reader

if TYPE_CHECKING:
    from realtime_mer.archive.session_results import SessionResults
    from realtime_mer.output.web import PageControls, WebView

RECORDINGS = "recordings"
"""The folder for clips of events that the key r starts; `--record-events` names another."""

# False reports a minute that the keys + and - step through.
_SENSITIVITIES = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0)


class Outputs:
    """Everything that the options ask to show or write.

    Raises:
        InputError: Something cannot be written or served. Nothing has been read by then.
    """

    def __init__(self, options: argparse.Namespace, sources: Sequence[str]) -> None:
        """
        Args:
            options: What `parse` returned.
            sources: The sources as the user named them; none for the first camera or the demo.
        """
        several = len(sources) > 1
        # The first camera and the demo have no name.
        named: list[str | None] = [*sources] or [None]
        for source in named:
            check_distinct(source, [options.log, options.csv, options.output, options.stats])
        new_overlay = TiledOverlay if several else Overlay
        self.terminal = Terminal()
        note = self.terminal.note
        self.overlay = new_overlay()
        self.sinks: list[Sink] = []
        if options.log:
            self.sinks.append(JsonLinesLog(options.log, macros=options.log_macros, note=note))
        if options.csv:
            self.sinks.append(CsvLog(options.csv, note=note))
        senders = Senders(links_of(options), note)
        # Before the statistics, which count what was sent.
        self.sinks.append(senders)
        if options.stats:
            self.sinks.append(StatsFile(options.stats, more=senders.stats))
        self._results: list[SessionResults] = []
        if options.results is not None:
            # The archive's modules take a while to load.
            from realtime_mer.archive.session_results import SessionResults

            settings = analysis_settings(options)
            self._results = [
                SessionResults(options.results, settings, source=source, note=note)
                for source in named
            ]
            self.sinks.append(_for_each(self._results))
        if options.output:
            # An overlay of its own: the window's keys must not alter the recorded video.
            # Times from --fps are not those of the sound, and of several there is no one sound.
            sound = sources[0] if len(sources) == 1 and options.fps is None else None
            self.sinks.append(VideoOutput(options.output, new_overlay(), sound=sound, note=note))
        folder, is_on = options.record_events or RECORDINGS, options.record_events is not None
        memory = memory_of_each(len(named))
        self.recorders = [
            EventRecorder(folder, on=is_on, note=note, memory_bytes=memory) for _ in named
        ]
        self.sinks.append(_for_each(self.recorders))
        if options.virtual_camera:
            from realtime_mer.output.virtual_camera import VirtualCamera

            pictures = TiledOverlay(VideoOverlay) if several else VideoOverlay()
            self.sinks.append(VirtualCamera(pictures, note))
        self.web: WebView | None = None
        if options.serve:
            # aiohttp takes a third of a second to load.
            from realtime_mer.output.web import WebView

            self.web = WebView(
                options.serve,
                TiledOverlay(VideoOverlay) if several else VideoOverlay(),
                note=note,
                may_control=options.control,
                # Its sink comes first, so by then the session's record is in it.
                log=Path(options.log) if options.log else None,
            )
            self.sinks.append(self.web)

    def close(self) -> None:
        """Frees the port if no session began; writes the tables of results after one."""
        if self.web is not None:
            self.web.close()
        for results in self._results:
            results.close()


def _for_each(sinks: Sequence[Sink]) -> Sink:
    """The sinks of the sources as one."""
    return sinks[0] if len(sinks) == 1 else PerSource(sinks)


def recognize_source(options: argparse.Namespace) -> Summary:
    """Runs on the sources that the options name, camera 0 if they name none.

    Raises:
        InputError: A source, an output or an option cannot be used.
    """
    quiet_opencv()
    sources: list[str | int] = options.sources or [0]
    readers = _readers(options, sources)
    outputs = Outputs(options, options.sources)
    # Of several, the group asks whether two are the same.
    return recognize(options, readers if len(readers) == 1 else sources, outputs)


def _camera_request(options: argparse.Namespace) -> CameraRequest:
    return CameraRequest(options.camera_size or CAMERA_SIZE, options.camera_fps or CAMERA_RATE)


def _readers(options: argparse.Namespace, sources: Sequence[str | int]) -> list[Reader]:
    """Returns the readers of the sources, if the options fit them. Nothing is opened yet."""
    request = _camera_request(options)
    readers = [reader_for(source, request=request) for source in sources]
    # Of several, those that are no cameras are read as they are.
    has_camera = any(isinstance(reader, CameraReader) for reader in readers)
    for reader in readers:
        check_source_options(options, reader.name, is_live=reader.live, is_camera=has_camera)
    return readers if options.fps is None else [reader_for(s, options.fps) for s in sources]


def recognize(
    options: argparse.Namespace,
    sources: Sequence[str | int | Reader],
    outputs: Outputs,
    extra: Sequence[Sink] = (),
) -> Summary:
    """Runs on sources, to the end of the last one or until the user stops it.

    Args:
        options: What `parse` returned.
        sources: Each a camera number, path or address, or a reader.
        outputs: Closed at the end.
        extra: More sinks.

    Raises:
        InputError: A source, the weights or an output cannot be used.
    """
    try:
        with _recognizer(options, sources) as recognizer:
            window = None
            if not options.headless:
                controls = _controls(recognizer, outputs.recorders, options.baseline)
                window = Window(outputs.overlay, note=outputs.terminal.note, controls=controls)
            if outputs.web is not None:
                outputs.web.controls = _page_controls(recognizer)
            sinks = [*outputs.sinks, *extra, outputs.terminal]
            return run(recognizer, sinks, window, note=outputs.terminal.note)
    finally:
        outputs.close()


def _recognizer(
    options: argparse.Namespace, sources: Sequence[str | int | Reader]
) -> Recognizer | RecognizerGroup:
    analysis: dict[str, Any] = {
        "faces": options.faces,
        "weights": options.weights or CLASSIFIER,
        "spotter": options.spotter or SPOTTER,
        "landmarks": options.landmarks,
        "providers": options.providers,
        "least_confidence": options.least_confidence,
        "sensitivity": options.sensitivity,
        "baseline_s": options.baseline,
        "reconnect": not options.no_reconnect,
        "camera": _camera_request(options),
    }
    if len(sources) == 1:
        return Recognizer(sources[0], **analysis)
    return RecognizerGroup(sources, **analysis)


def _controls(
    recognizer: Recognizer | RecognizerGroup,
    recorders: Sequence[EventRecorder],
    baseline_s: float | None = None,
) -> Controls:
    def toggle() -> str | None:
        for recorder in recorders:
            recorder.toggle()
        return f"each event in {recorders[0].folder}/" if recorders[0].is_on else None

    return Controls(
        change_sensitivity=functools.partial(_step_sensitivity, recognizer),
        toggle_recording=toggle,
        is_recording=lambda: recorders[0].is_on,
        mark=lambda: f"marked at {clock(recognizer.mark(by='window').time_s)}",
        take_baseline=functools.partial(_take_baseline, recognizer, baseline_s or BASELINE_S),
    )


def _page_controls(recognizer: Recognizer | RecognizerGroup) -> PageControls:
    from realtime_mer.output.web import PageControls

    return PageControls(
        change_sensitivity=functools.partial(_step_sensitivity, recognizer),
        mark=lambda text: f"marked at {clock(recognizer.mark(text, by='page').time_s)}",
    )


def _take_baseline(recognizer: Recognizer | RecognizerGroup, length_s: float) -> str:
    recognizer.take_baseline(length_s)
    return f"baseline: {length_s:g} s of a neutral face"


def _step_sensitivity(recognizer: Recognizer | RecognizerGroup, steps: int) -> str:
    """Makes the recognizer more (1) or less (-1) sensitive; returns the message to show."""
    current = recognizer.sensitivity
    if current is None:
        return "this spotter's card has no curve"
    # A value within 5 % of the current one would be no visible step.
    if steps > 0:
        others = [s for s in _SENSITIVITIES if s > 1.05 * current]
    else:
        others = [s for s in _SENSITIVITIES if s < current / 1.05]
    if others:
        recognizer.sensitivity = min(others) if steps > 0 else max(others)
    return f"sensitivity: {recognizer.sensitivity:.2g} false reports a minute"
