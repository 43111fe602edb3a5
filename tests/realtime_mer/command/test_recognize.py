"""The keys that change a running session."""

from types import SimpleNamespace

import pytest

from realtime_mer.command.recognize import _controls, _step_sensitivity
from realtime_mer.output.recording import EventRecorder
from realtime_mer.results import Mark


@pytest.mark.parametrize(
    ("start", "steps", "end"),
    [(0.5, 1, 1.0), (0.5, -1, 0.2), (0.97, 1, 2.0), (0.48, 1, 1.0), (5.0, 1, 5.0), (0.1, -1, 0.1)],
)
def test_sensitivity_moves_to_the_next_round_figure(start, steps, end):
    """A figure within 5 % of the current one is no step."""
    recognizer = SimpleNamespace(sensitivity=start)
    message = _step_sensitivity(recognizer, steps)
    assert recognizer.sensitivity == end
    assert message == f"sensitivity: {end:.2g} false reports a minute"


def test_spotter_without_a_curve_says_so():
    recognizer = SimpleNamespace(sensitivity=None)
    assert "no curve" in _step_sensitivity(recognizer, 1)
    assert recognizer.sensitivity is None


def test_recording_key_names_the_folder_that_the_option_named(tmp_path):
    recorder = EventRecorder(tmp_path / "mine")
    controls = _controls(SimpleNamespace(sensitivity=None), [recorder])
    assert controls.toggle_recording() is None
    assert controls.toggle_recording() == f"each event in {tmp_path / 'mine'}/"


def test_mark_key_marks_as_the_window_and_tells_when(tmp_path):
    recognizer = SimpleNamespace(mark=lambda by: Mark(61.5, by))
    controls = _controls(recognizer, [EventRecorder(tmp_path)])
    assert controls.mark() == "marked at 1:01.500"


@pytest.mark.parametrize(("option", "taken"), [(None, 20.0), (7.5, 7.5)])
def test_baseline_key_takes_as_long_as_the_option_said(tmp_path, option, taken):
    asked = []
    recognizer = SimpleNamespace(take_baseline=asked.append)
    controls = _controls(recognizer, [EventRecorder(tmp_path)], option)
    assert controls.take_baseline() == f"baseline: {taken:g} s of a neutral face"
    assert asked == [taken]
