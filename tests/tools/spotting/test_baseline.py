"""What a baseline brings is measured as the command says."""

import numpy as np
import pytest
from rich.console import Console

from realtime_mer.model_file import SPOTTER
from realtime_mer.results import BaselineFlaw
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.spotter import SpotterModel
from tests.signals import write_signals
from tools.spotting import baseline
from tools.spotting.baseline import Rested, Sized, main, rested, sizes_table, thresholds_table
from tools.spotting.hidden_motion import Mixture, plan, with_motions
from tools.spotting.motions import drawn_motions

EVENTS = [(3.0, 3.17, 3.36, 0.0), (6.0, 6.2, 6.4, 0.0), (9.0, 9.15, 9.3, 0.0)]


def cells(table):
    """The cells of a table, row by row."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    rows = (line.split("│")[1:-1] for line in captured.get().splitlines() if "│" in line)
    return [[cell.strip() for cell in row] for row in rows]


@pytest.fixture(scope="module")
def model():
    return SpotterModel(SPOTTER)


def test_events_of_the_first_half_are_no_part_of_the_baseline_and_do_not_count(
    tmp_path, astronaut_face, model
):
    how = {"noise_px": 0.02, "raise_px": 2.5}
    calm = rested(write_signals(tmp_path / "calm.0.npz", astronaut_face, [], **how), model)
    clip = rested(write_signals(tmp_path / "one.0.npz", astronaut_face, EVENTS, **how), model)
    assert (calm.events, len(calm.scores)) == (0, 0)
    assert clip.events == 1
    assert clip.true.sum() == 1
    assert clip.seconds == pytest.approx(400 / 30 / 2, abs=0.1)
    # An event gives log odds above 0.
    assert max(calm.high, clip.high) < -4


def test_short_clip_has_no_baseline(tmp_path, astronaut_face, model):
    absent = range(180, 400)
    file = write_signals(tmp_path / "short.0.npz", astronaut_face, absent=absent)
    assert rested(file, model) is None


def test_threshold_of_each_person_s_own_silences_whoever_is_restless_at_rest():
    """Two people: one whose rest looks like events, and is wrong twice; one who is calm."""
    restless = Rested(2.0, 30.0, 1, np.array([0.9, 0.95, 3.0]), np.array([False, False, True]))
    calm = Rested(-2.0, 30.0, 1, np.array([-0.5]), np.array([True]))
    clips = [restless, calm]
    rows = cells(thresholds_table(clips, 0.5))
    assert rows[0][0] == "0"
    assert rows[0][-2:] == ["1 of 2", "2.00"]
    # At a rate below one false report in this minute, only what is above all false ones is found.
    assert rows[0][1] == "1 of 2"
    by_half = rows[list(baseline._SHARES).index(0.5)]
    assert by_half[-2:] == ["2 of 2", "0.00"]
    assert by_half[1] == "2 of 2"


def test_sizes_are_told_apart_by_what_the_baseline_is_worth():
    good = [Sized((), 2.0, 1.8, 1.2, 1.9, 0.3)] * 3
    poor = [Sized((BaselineFlaw.SMILE,), 2.0, 1.8, 1.2, 4.0, 3.0)]
    first, second = cells(sizes_table([*good, *poor]))
    assert first[:2] == ["good", "3"]
    assert [cell.split()[0] for cell in first[2:]] == ["0.90", "0.60", "0.95", "0.30"]
    assert second[:2] == ["poor", "1"]
    assert second[-1].endswith("px")


def test_motion_after_a_baseline_is_measured_from_both(astronaut, landmark_model, monkeypatch):
    monkeypatch.setattr(baseline, "_BASELINE_S", 1.0)
    rng = np.random.default_rng(3)
    mixture = Mixture(macros=0.0, micro_px=(2.5, 2.6), start_s=(1.2, 1.25), pause_s=(9.0, 9.1))
    frames = [Frame(k, k / 30, astronaut, 0.0) for k in range(75)]
    hidden = plan(drawn_motions(4, rng), 2.4, rng, mixture)
    (sized,) = baseline._measured(
        with_motions(frames, hidden, landmark_model), hidden, landmark_model
    )
    assert BaselineFlaw.SMILE in sized.flaws
    assert 2.0 < sized.peak < 2.7
    assert sized.from_neutral == pytest.approx(sized.from_onset, rel=0.1)
    assert sized.from_late_onset < sized.from_onset
    assert sized.rest < 0.1


def test_command_needs_something_to_measure(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "give --signals" in capsys.readouterr().err
    assert main(["--signals", str(tmp_path)]) == 2
    assert "no signals of clips" in capsys.readouterr().err
