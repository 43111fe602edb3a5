"""The curve on a card is that of the weights in the runtime, on clips they do not know."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.model_file import SPOTTER
from realtime_mer.spotting.reliability import Reliability
from realtime_mer.spotting.spotter import Spotter, SpotterModel
from tests.signals import write_signals
from tests.spotters import VISIBILITY
from tools.spotting import calibration
from tools.spotting.calibration import calibrate, card_points, check_held_out
from tools.spotting.clip_signals import motion_streams
from tools.spotting.judging import Judged, judge

EVENTS = [(3.0, 3.17, 3.36, 0.0), (6.0, 6.2, 6.4, 0.0), (9.0, 9.15, 9.3, 0.0)]


@pytest.fixture
def weights(tmp_path) -> Path:
    """The delivered spotter, whose card may be rewritten."""
    for suffix in (".onnx", ".json"):
        shutil.copy(SPOTTER.with_suffix(suffix), tmp_path / f"net{suffix}")
    return tmp_path / "net.onnx"


def test_the_curve_threshold_and_clips_go_on_the_card(
    tmp_path, weights, astronaut_face, monkeypatch
):
    monkeypatch.setattr(calibration, "THRESHOLDS", (0.2, 0.5, 0.9))
    before = json.loads(weights.with_suffix(".json").read_text())
    held_out = [
        write_signals(
            tmp_path / "held" / f"someone.{take}.npz",
            astronaut_face,
            events=EVENTS,
            noise_px=0.03,
            seed=take,
            raise_px=2.5,
        )
        for take in (0, 1)
    ]
    points = calibrate(weights, held_out, false_per_minute=1.0)
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["operating_curve"] == points
    assert [p["threshold"] for p in points] == list(calibration.THRESHOLDS)
    lenient = points[0]
    assert (lenient["recall"], lenient["false_per_minute"], lenient["F1"]) == (1.0, 0.0, 1.0)
    assert card["threshold"] == SpotterModel(weights).threshold == lenient["threshold"]
    assert card["held_out"] == ["someone"]
    assert "0.4 minutes of 2 held-out clips with 6 hidden" in card["operating_curve_of"]
    kept = ("name", "sha256", "parameters", "trained_on", "excluded_subjects", "licence")
    assert {key: card[key] for key in kept} == {key: before[key] for key in kept}


def test_a_card_of_an_older_version_is_measured_anew(tmp_path, weights, astronaut_face):
    card = json.loads(weights.with_suffix(".json").read_text())
    card["reliability"] = {"lively_rise": 2.6, "calibration": None}
    weights.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"measure it anew with tools/spotting/calibrate\.py"):
        SpotterModel(weights)
    file = write_signals(tmp_path / "someone.0.npz", astronaut_face, noise_px=0.03)
    calibrate(weights, [file], 1.0)
    assert not SpotterModel(weights).reliability.is_measured  # too few reports


def test_what_the_size_check_refuses_is_no_report(tmp_path, weights, astronaut_face):
    """Brows that rise by 6 px in 0.4 s look like a micro-expression to the network alone."""
    file = write_signals(
        tmp_path / "large.0.npz",
        astronaut_face,
        events=[(onset, onset + 0.2, onset + 0.4, 1.0) for onset in (3.0, 6.0, 9.0)],
        noise_px=0.03,
        raise_px=6.0,
    )
    model = SpotterModel(weights, threshold=0.3)
    (stream,) = motion_streams(file)
    spotter = Spotter(model)
    scores = [spotter(motion).score for motion in stream]
    assert sum(a < 1 <= b for a, b in pairwise(scores)) >= 3  # the network is sure of each
    (found,) = judge([file], weights, [(0.3, Reliability())])
    assert len(found.true) == 0


def test_clips_that_the_weights_were_trained_on_are_refused(tmp_path, weights, astronaut_face):
    before = weights.with_suffix(".json").read_bytes()
    known = write_signals(tmp_path / "face_001.5.npz", astronaut_face)
    with pytest.raises(InputError, match="held out and trained on alike: face_001"):
        calibrate(weights, [known], 1.0)
    assert weights.with_suffix(".json").read_bytes() == before


def test_clips_without_a_face_are_refused(tmp_path, weights, astronaut_face):
    file = write_signals(tmp_path / "nobody.0.npz", astronaut_face, absent=range(400))
    with pytest.raises(InputError, match="no face is followed"):
        calibrate(weights, [file], 1.0)


def test_all_names_in_both_are_listed_and_others_may_share_a_beginning():
    held_out = [Path(f"{name}.{take}.npz") for name in ("a.1", "b", "c") for take in (0, 1)]
    check_held_out(held_out, ["a.2", "a", "d"])
    with pytest.raises(InputError, match=r"alike: a\.1, c\. On"):
        check_held_out(held_out, ["c", "a.1", "d"])


def judged(true, false, calm=True):
    """So many reports of a minute with two events, on a face that is calm or lively."""
    return Judged(
        np.array(["someone"] * (true + false), str),
        np.tile((5.0, -1.0, 0.3, 0.0 if calm else 2.0), (true + false, 1)),
        np.arange(true + false) < true,
        60.0 * calm,
        60.0 * (not calm),
        2,
    )


def test_false_reports_fall_along_the_curve_even_where_the_counts_do_not():
    points = card_points([judged(1, n) for n in (1, 0, 2, 0)], (0.2, 0.4, 0.6, 0.8))
    assert [p["false_per_minute"] for p in points] == [2.0, 2.0, 2.0, 0.0]
    assert [p["recall"] for p in points] == [0.5] * 4


@pytest.mark.parametrize(
    ("false", "limit", "threshold"),
    [
        ((4, 2, 0), 5.0, 0.2),
        ((4, 2, 0), 2.5, 0.4),
        ((4, 2, 0), 1.0, 0.6),
        ((0, 2, 0), 1.0, 0.6),  # a stricter one does not fit
    ],
)
def test_the_threshold_is_the_lowest_within_the_limit(
    tmp_path, weights, astronaut_face, monkeypatch, false, limit, threshold
):
    thresholds = (0.2, 0.4, 0.6)
    monkeypatch.setattr(calibration, "THRESHOLDS", thresholds)
    of = dict(zip(thresholds, false, strict=True))

    def judge(files, weights, settings=((0.1, None),), jobs=1):
        return [judged(1, of.get(at, 0), calm=False) for at, _ in settings]

    monkeypatch.setattr(calibration, "judge", judge)
    file = write_signals(tmp_path / "someone.0.npz", astronaut_face, noise_px=0.03)
    calibrate(weights, [file], limit)
    card = json.loads(weights.with_suffix(".json").read_text())
    assert SpotterModel(weights).threshold == card["threshold"] == threshold
    assert card["threshold_chosen"].startswith("the lowest with at most 0.1")
    assert card["reliability_of"]["at_threshold"]["found"] == 1


def test_on_calm_faces_less_may_be_false(tmp_path, weights, astronaut_face, monkeypatch):
    monkeypatch.setattr(calibration, "THRESHOLDS", (0.2, 0.4, 0.6))

    def judge(files, weights, settings=((0.1, None),), jobs=1):
        return [judged(1, int(at < 0.5)) for at, _ in settings]

    monkeypatch.setattr(calibration, "judge", judge)
    file = write_signals(tmp_path / "someone.0.npz", astronaut_face, noise_px=0.03)
    calibrate(weights, [file], 2.0)
    assert SpotterModel(weights).threshold == 0.6


def test_a_card_that_promises_too_much_says_so(tmp_path, weights, astronaut_face, monkeypatch):
    monkeypatch.setattr(calibration, "THRESHOLDS", (0.2, 0.4))
    monkeypatch.setattr(calibration, "judge", lambda f, w, s=(0,), jobs=1: [judged(0, 9)] * len(s))
    file = write_signals(tmp_path / "someone.0.npz", astronaut_face, noise_px=0.03)
    calibrate(weights, [file], 1.0)
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["threshold"] == 0.4
    assert card["threshold_chosen"].startswith("the highest: none is")


def test_limits_of_another_threshold_go(tmp_path, weights, astronaut_face, monkeypatch):
    card = json.loads(weights.with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps({**card, "visibility": VISIBILITY}))
    monkeypatch.setattr(calibration, "THRESHOLDS", (0.2, 0.3))
    file = write_signals(tmp_path / "someone.0.npz", astronaut_face, noise_px=0.03)
    calibrate(weights, [file], 1.0)
    assert SpotterModel(weights).visibility is None
    # Measured again with the same outcome, they stay.
    card = json.loads(weights.with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps({**card, "visibility": VISIBILITY}))
    calibrate(weights, [file], 1.0)
    assert SpotterModel(weights).visibility is not None
