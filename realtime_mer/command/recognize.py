"""A session as the options describe it: source, recognizer, outputs and window."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from realtime_mer.command.options import analysis_settings, check_source_options
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.log import CsvLog, JsonLinesLog
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.recording import EventRecorder
from realtime_mer.output.stats_file import StatsFile
from realtime_mer.output.terminal import Terminal
from realtime_mer.output.video_output import VideoOutput
from realtime_mer.output.window import Controls, Window
from realtime_mer.output.writable import check_distinct
from realtime_mer.results import Summary
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.session.sink import Sink
from realtime_mer.source.camera import CAMERA_RATE, CAMERA_SIZE, CameraReader, CameraRequest
from realtime_mer.source.kinds import reader_for
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import Reader

if TYPE_CHECKING:
    from realtime_mer.archive.session_results import SessionResults
    from realtime_mer.output.web import WebView

RECORDINGS = "recordings"
"""The folder for clips of events that the key r starts; `--record-events` names another."""

# False reports a minute that the keys + and - step through.
_SENSITIVITIES = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0)


class Outputs:
    """Everything that the options ask to show or write.

    Raises:
        InputError: Something cannot be written or served. Nothing has been read by then.
    """

    def __init__(self, options: argparse.Namespace, source: str | None) -> None:
        check_distinct(source, [options.log, options.csv, options.output, options.stats])
        self.terminal = Terminal()
        note = self.terminal.note
        self.overlay = Overlay()
        self.sinks: list[Sink] = []
        if options.log:
            self.sinks.append(JsonLinesLog(options.log, macros=options.log_macros, note=note))
        if options.csv:
            self.sinks.append(CsvLog(options.csv, note=note))
        if options.stats:
            self.sinks.append(StatsFile(options.stats))
        self._results: SessionResults | None = None
        if options.results is not None:
            # The archive's modules take a while to load.
            from realtime_mer.archive.session_results import SessionResults

            settings = analysis_settings(options)
            self._results = SessionResults(options.results, settings, source=source, note=note)
            self.sinks.append(self._results)
        if options.output:
            # An overlay of its own: the window's keys must not alter the recorded video.
            # Times from --fps are not those of the sound.
            sound = source if options.fps is None else None
            self.sinks.append(VideoOutput(options.output, Overlay(), sound=sound, note=note))
        self.recorder = EventRecorder(
            options.record_events or RECORDINGS, on=options.record_events is not None, note=note
        )
        self.sinks.append(self.recorder)
        self._web: WebView | None = None
        if options.serve:
            # aiohttp takes a third of a second to load.
            from realtime_mer.output.web import WebView

            self._web = WebView(options.serve, Overlay(), note=note)
            self.sinks.append(self._web)

    def close(self) -> None:
        """Frees the port if no session began; writes the tables of results after one."""
        if self._web is not None:
            self._web.close()
        if self._results is not None:
            self._results.close()


def recognize_source(options: argparse.Namespace) -> Summary:
    """Runs on the source that the options name, camera 0 if they name none.

    Raises:
        InputError: The source, an output or an option cannot be used.
    """
    quiet_opencv()
    return recognize(options, _reader(options), Outputs(options, options.source))


def _reader(options: argparse.Namespace) -> Reader:
    source = 0 if options.source is None else options.source
    size, rate = options.camera_size, options.camera_fps
    request = CameraRequest(size or CAMERA_SIZE, rate or CAMERA_RATE)
    # Nothing is opened yet.
    reader = reader_for(source, request=request)
    is_camera = isinstance(reader, CameraReader)
    check_source_options(options, reader.name, is_live=reader.live, is_camera=is_camera)
    return reader if options.fps is None else reader_for(source, options.fps)


def recognize(
    options: argparse.Namespace,
    source: str | Reader,
    outputs: Outputs,
    extra: Sequence[Sink] = (),
) -> Summary:
    """Runs on a source, to its end or until the user stops it.

    Args:
        options: What `parse` returned.
        source: Path of a video, or a reader.
        outputs: Closed at the end.
        extra: More sinks.

    Raises:
        InputError: The source, the weights or an output cannot be used.
    """
    try:
        with Recognizer(
            source,
            faces=options.faces,
            weights=options.weights or CLASSIFIER,
            spotter=options.spotter or SPOTTER,
            landmarks=options.landmarks,
            providers=options.providers,
            least_confidence=options.least_confidence,
            sensitivity=options.sensitivity,
            reconnect=not options.no_reconnect,
        ) as recognizer:
            window = None
            if not options.headless:
                controls = _controls(recognizer, outputs.recorder)
                window = Window(outputs.overlay, note=outputs.terminal.note, controls=controls)
            sinks = [*outputs.sinks, *extra, outputs.terminal]
            return run(recognizer, sinks, window, note=outputs.terminal.note)
    finally:
        outputs.close()


def _controls(recognizer: Recognizer, recorder: EventRecorder) -> Controls:
    def toggle() -> str | None:
        recorder.toggle()
        return f"each event in {recorder.folder}/" if recorder.is_on else None

    return Controls(
        change_sensitivity=functools.partial(_step_sensitivity, recognizer),
        toggle_recording=toggle,
        is_recording=lambda: recorder.is_on,
    )


def _step_sensitivity(recognizer: Recognizer, steps: int) -> str:
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
