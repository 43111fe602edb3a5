"""The spotter: its decisions with a scripted network, and the delivered one on made motion."""

import dataclasses
import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.results import Interval, RegionMotion
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.matching import overlap
from realtime_mer.spotting.motion import FACE_CELLS, REGIONS, Motion
from realtime_mer.spotting.reliability import Reliability
from realtime_mer.spotting.signals import PATTERN_SHAPE, WARM_UP_STEPS
from realtime_mer.spotting.spotter import (
    LENGTH_S,
    MACRO_DELAY_S,
    Spotter,
    SpotterModel,
)
from tests.spotters import VISIBILITY, spotter_with

NAMES = list(REGIONS)
BROWS = [i for i, name in enumerate(REGIONS) if "brow" in name or name == "glabella"]
# Brows that rise by up to a pixel, cell by cell.
RAISED = to_cells(expression(("AU1", "AU2"))).reshape(-1, 2)[FACE_CELLS]
HIDDEN = Interval(4.0, 4.17, 4.36)


@pytest.fixture(scope="module")
def model() -> SpotterModel:
    return SpotterModel(SPOTTER)


def strength(time_s: float, event: Interval) -> float:
    """Raised cosine from onset to apex and back."""
    if time_s <= event.apex_s:
        share = (time_s - event.onset_s) / (event.apex_s - event.onset_s)
    else:
        share = (event.offset_s - time_s) / (event.offset_s - event.apex_s)
    return 0.5 - 0.5 * math.cos(math.pi * min(max(share, 0.0), 1.0))


def motions(*events: Interval, raise_px: float = 2.5, length_s: float = 6.0, fps: float = 30):
    """A calm face whose brows rise at the events, as measured by a camera of `fps`.

    The noise is defined at 30 frames a second, so that every rate samples the same signal.
    """
    rng = np.random.default_rng(5)
    times = np.arange(0, length_s, 1 / 30)
    regions = rng.normal(0, 0.02, (len(times), len(REGIONS), 2))
    cells = rng.normal(0, 0.03, (len(times), len(FACE_CELLS), 2))
    for k, time_s in enumerate(times):
        for event in events:
            # Flow measures about half of a motion.
            regions[k, BROWS, 1] -= 0.5 * raise_px * strength(time_s, event)
            cells[k] += 0.5 * raise_px * strength(time_s, event) * RAISED
    head = rng.normal(0, 0.01, (len(times), 3))
    place = (300, 230) + rng.normal(0, 0.02, (len(times), 2))
    parts = [regions.reshape(len(times), -1), head, place, cells.reshape(len(times), -1)]
    signal = np.concatenate(parts, axis=1)
    for time_s in np.arange(0, times[-1] + 1e-9, 1 / fps):
        at = time_s / times[1]
        left = min(int(at), len(times) - 2)
        row = signal[left] + (at - left) * (signal[left + 1] - signal[left])
        row = row.astype(np.float32)
        count = 2 * len(REGIONS)
        yield Motion(
            time_s=float(time_s),
            regions=row[:count].reshape(-1, 2),
            cells=row[count + 5 :].reshape(-1, 2),
            trust=np.full(len(REGIONS), 8, np.float32),
            head=row[count : count + 3],
            place=row[count + 3 : count + 5],
            blink=0.05,
            jaw_open=0.01,
        )


def found_in(spotter: Spotter, series) -> list[Interval]:
    return [proposal.interval for motion in series for proposal in spotter(motion).found]


# The delivered network


def test_brow_raise_is_proposed_once_soon_after_its_end(model):
    spotter, proposals = Spotter(model), []
    for motion in motions(HIDDEN):
        proposals += [(motion.time_s, found.interval) for found in spotter(motion).found]
    ((proposed_s, interval),) = proposals
    assert overlap(interval, HIDDEN) >= 0.5
    assert 0 < proposed_s - HIDDEN.offset_s < 0.35
    assert interval.onset_s < interval.apex_s < interval.offset_s


def test_calm_face_is_left_alone(model):
    spotter = Spotter(model)
    spottings = [spotter(motion) for motion in motions()]
    assert all(s.found == () for s in spottings)
    assert np.nanmax([s.score for s in spottings]) < 1
    assert all(s.window is None for s in spottings)


def test_slow_motion_of_the_brows_is_not_proposed(model):
    assert found_in(Spotter(model), motions(Interval(2.0, 3.0, 4.5))) == []


@pytest.mark.parametrize("fps", [60, 120])
def test_proposals_do_not_depend_on_the_frame_rate(model, fps):
    (at_30,) = found_in(Spotter(model), motions(HIDDEN))
    (other,) = found_in(Spotter(model), motions(HIDDEN, fps=fps))
    for a, b in zip(dataclasses.astuple(at_30), dataclasses.astuple(other), strict=True):
        assert a == pytest.approx(b, abs=0.02)


def test_score_is_unknown_in_the_first_second(model):
    spotter = Spotter(model)
    early = Interval(0.4, 0.55, 0.75)
    for motion in motions(early, length_s=2.5):
        spotting = spotter(motion)
        if motion.time_s < 1.0:
            assert math.isnan(spotting.score)
            assert (spotting.found, spotting.window) == ((), None)
    assert math.isfinite(spotting.score)


def test_after_a_hole_in_the_frames_no_second_of_warm_up_is_needed(model):
    spotter = Spotter(model)
    hole = (3.0, 3.5)
    series = [m for m in motions(HIDDEN) if not hole[0] <= m.time_s < hole[1]]
    found = found_in(spotter, [m for m in series if m.time_s < hole[0]])
    spotter.resume()
    found += found_in(spotter, [m for m in series if m.time_s >= hole[1]])
    (interval,) = found
    assert overlap(interval, HIDDEN) >= 0.5


def test_window_of_a_motion_under_way_is_shown(model):
    spotter = Spotter(model)
    windows = {m.time_s: spotter(m).window for m in motions(HIDDEN)}
    after = [w for t, w in windows.items() if HIDDEN.offset_s < t < HIDDEN.offset_s + 0.2]
    assert any(w is not None and overlap(w, HIDDEN) >= 0.5 for w in after)
    assert all(w is None for t, w in windows.items() if t < HIDDEN.onset_s)


def test_repeated_and_late_frames_are_ignored(model):
    steady = list(motions(HIDDEN))
    shaken = [m for motion in steady for m in (motion, motion)]
    shaken[60:60] = steady[10:20]
    assert found_in(Spotter(model), shaken) == found_in(Spotter(model), steady)


def test_spotters_of_two_faces_do_not_affect_each_other(model):
    one, other = Spotter(model), Spotter(model)
    found = []
    for active, calm in zip(motions(HIDDEN), motions(), strict=True):
        found += (proposal.interval for proposal in one(active).found)
        assert other(calm).found == ()
    assert found == found_in(Spotter(model), motions(HIDDEN))


# What a proposal tells


def moved(**displacements) -> tuple[RegionMotion, ...]:
    """The regions of a proposal in a face whose regions move by (x, y) px, names with "_"."""
    event, script = Interval(1.65, 1.8, 1.95), Script([0.0] * 30 + [0.9, 0.0], length=0.3)
    series = []
    for motion in motions(event):
        regions = np.zeros_like(motion.regions)
        for name, (x, y) in displacements.items():
            regions[NAMES.index(name.replace("_", " "))] = x, y
        regions *= strength(motion.time_s, event)
        series.append(dataclasses.replace(motion, regions=regions + 7))
    spotter = Spotter(script)
    (proposal,) = (found for motion in series for found in spotter(motion).found)
    return proposal.regions


def test_brows_that_rise_are_the_regions_of_the_proposal(model):
    spotter = Spotter(model)
    (proposal,) = (found for motion in motions(HIDDEN) for found in spotter(motion).found)
    assert {region.name for region in proposal.regions} == {NAMES[i] for i in BROWS}
    assert all(region.direction_deg == pytest.approx(90, abs=10) for region in proposal.regions)
    sizes = [region.displacement_px for region in proposal.regions]
    assert sizes == sorted(sizes, reverse=True)
    # `motions` moves the regions by half of 2.5 px.
    assert max(sizes) == pytest.approx(1.25, abs=0.15)
    assert proposal.score > 0.8
    assert proposal.evidence.end > 2  # log odds
    assert proposal.evidence.restlessness < 1


@pytest.mark.parametrize(
    ("to", "degrees"), [((1, 0), 0), ((0, -1), 90), ((-1, 0), 180), ((0, 1), 270), ((1, -1), 45)]
)
def test_directions_count_from_the_picture_s_right_upwards(to, degrees):
    (region,) = moved(chin=to)
    assert (region.name, region.direction_deg) == ("chin", pytest.approx(degrees, abs=0.1))


def test_regions_that_hardly_moved_are_not_told():
    regions = moved(chin=(2, 0), cheek_left=(0.9, 0), upper_lip=(0.7, 0), eye_left=(3, 0))
    assert [region.name for region in regions] == ["chin", "cheek left"]
    # At the script's apex, the motion has come to 0.6 of this.
    regions = moved(chin=(0.3, 0), cheek_left=(0.2, 0))
    assert [region.name for region in regions] == ["chin"]
    assert moved(chin=(0.1, 0)) == ()


# Decisions, with a scripted network


class Script:
    """A network whose probabilities follow lists, step by step from the end of warm-up."""

    threshold = 0.5
    reliability = Reliability()
    patterns = np.zeros(PATTERN_SHAPE, np.float32)

    def __init__(self, ends, since=0.1, length=0.3, apex=0.5, macros=(), insides=()) -> None:
        self.ends, self.rest = list(ends), (since, length, apex)
        self.macros, self.insides = list(macros), list(insides)
        self.steps = 1 - WARM_UP_STEPS

    def start(self) -> int:
        return 0

    def __call__(self, signals: np.ndarray, state: int) -> tuple[np.ndarray, int]:
        # The state is the one returned by the step before.
        assert state == self.steps + WARM_UP_STEPS - 1
        end, inside, macro = (
            values[self.steps] if 0 <= self.steps < len(values) else 0.0
            for values in (self.ends, self.insides, self.macros)
        )
        self.steps += 1
        return np.array([end, inside, *self.rest, macro], np.float32), state + 1


def restless(length_s: float):
    """A face whose skin always moves: an interval at any time has a plausible amplitude."""
    ends = np.arange(0, length_s, 0.2)
    return motions(*(Interval(t, t + 0.1, t + 0.2) for t in ends), raise_px=5, length_s=length_s)


@pytest.mark.parametrize(("weight", "count"), [(0.0, 1), (-0.1, 1), (-0.5, 0)])
def test_on_a_restless_face_the_network_must_be_surer(weight, count):
    script = Script([*[0.0] * 60, 0.6, 0.0])  # log odds 0.41
    script.reliability = Reliability((1.0, 0.0, 0.0, weight, 0.0))
    spotter = Spotter(script)
    found = [proposal for motion in restless(4.0) for proposal in spotter(motion).found]
    assert spotter.restlessness > 1.3
    assert len(found) == count
    for proposal in found:
        odds = math.log(0.6 / 0.4) + weight * proposal.evidence.restlessness
        assert proposal.score == pytest.approx(1 / (1 + math.exp(-odds)))


@pytest.mark.parametrize(("insides", "count"), [(0.1, 0), (0.9, 1)])
def test_an_end_that_was_long_under_way_counts_more(insides, count):
    script = Script([*[0.0] * 60, 0.6, 0.0], insides=[*[insides] * 60, 0.1, 0.1])
    script.reliability = Reliability((0.3, 0.5, 0.0, 0.0, 0.0))
    spotter = Spotter(script)
    found = [proposal for motion in restless(4.0) for proposal in spotter(motion).found]
    assert len(found) == count


def test_a_peak_that_the_network_hardly_believes_is_nothing():
    for end, count in ((0.05, 0), (0.15, 1)):
        script = Script([*[0.0] * 60, end, 0.0], insides=[*[0.9] * 60, 0.1, 0.1])
        script.reliability = Reliability((0.0, 1.0, 0.0, 0.0, 0.0))
        spotter = Spotter(script)
        found = [proposal for motion in restless(4.0) for proposal in spotter(motion).found]
        assert len(found) == count


def test_one_motion_does_not_make_a_face_lively(model):
    spotter = Spotter(model)
    for motion in motions(HIDDEN):
        spotter(motion)
        assert spotter.restlessness < 0.9


@pytest.mark.parametrize(("inside", "count"), [(0.3, 1), (0.7, 0)])
def test_event_that_is_over_when_the_video_ends_is_told(inside, count):
    """Its proposal waits for the probability of an end to fall."""
    script = Script([*[0.0] * 30, 0.6, 0.8, 0.9], insides=[inside] * 33)
    spotter = Spotter(script)
    for motion in restless(3.0):
        assert spotter(motion).found == ()
        if script.steps == 33:
            break
    assert len(spotter.finish()) == count
    assert spotter.finish() == []


def test_event_that_is_told_is_not_told_again_at_the_end():
    script = Script([*[0.0] * 30, 0.6, 0.9, 0.8], length=0.2)
    spotter, found = Spotter(script), []
    for motion in restless(3.0):
        found += spotter(motion).found
        if script.steps == 33:
            break
    assert len(found) == 1
    assert spotter.finish() == []


@pytest.mark.parametrize(("step", "proposals"), [(2, 0), (12, 0), (17, 1), (25, 1)])
def test_what_began_in_a_hole_or_just_after_it_is_not_proposed(step, proposals):
    """The head is elsewhere after the hole, which is no motion of the skin."""
    script = Script([])
    spotter = Spotter(script)
    series = list(restless(4.0))
    before = [m for m in series if m.time_s < 1.8]
    after = [dataclasses.replace(m, cells=m.cells + 20) for m in series if m.time_s >= 2.0]
    assert found_in(spotter, before) == []
    spotter.resume()
    begun = script.steps
    # Until some steps after the hole, the face is calm.
    script.ends = [0.0] * (begun + step) + [0.9]
    assert spotter(after[0]).window is None
    assert script.steps <= begun + 1  # no steps in the hole
    assert len(found_in(spotter, after[1:])) == proposals


def test_what_was_under_way_before_a_hole_ends_with_it():
    script = Script([0.0] * 20 + [0.9] * 200, macros=[0.9] * 40)
    spotter = Spotter(script)
    series = list(restless(5.0))
    for motion in series[:60]:
        last = spotter(motion)
    assert last.window is not None
    spotter.resume()
    assert spotter.finish() == []
    script.ends = []
    later = [spotter(motion) for motion in series[66:]]
    assert later[0].window is None
    assert [spotting.macros for spotting in later if spotting.macros] == []


def decide(script: Script) -> list[Interval]:
    return found_in(Spotter(script), restless(3.0))


@pytest.mark.parametrize(
    ("ends", "proposals"),
    [
        ([0.1, 0.9, 0.1], 1),
        ([0.1, 0.49, 0.1], 0),  # below the threshold
        ([0.1, 0.5, 0.1], 1),  # at the threshold
        ([0.1, 0.6, 0.9, 0.9, 0.9, 0.6, 0.1], 1),  # a plateau is one peak
        ([0.1, 0.9, 0.6, 0.9, 0.6, 0.1], 1),  # two peaks of one motion
        ([0.1, 0.9, 0.1, *[0.0] * 12, 0.1, 0.9, 0.1], 2),  # two motions
        ([0.9, 0.1], 1),  # the first step after the warm-up
        ([0.1, 0.2, 0.6, 0.8], 1),  # then 0
        ([], 0),
    ],
)
def test_peak_of_the_end_probability_is_proposed_once(ends, proposals):
    assert len(decide(Script(ends))) == proposals


def test_the_interval_at_the_peak_is_proposed_one_step_later():
    script = Script([0.1, 0.6, 0.7, 0.9, 0.8, 0.1])
    spotter = Spotter(script)
    for motion in restless(3.0):
        script.rest = (0.01 * script.steps, 0.3, 0.5)
        if found := spotter(motion).found:
            break
    assert script.steps == 5  # the step after the peak, the fourth
    interval = found[0].interval
    assert len(found) == 1
    # Steps lie half a step after the frames; at the fourth, since = 0.03.
    assert interval.offset_s == pytest.approx((30 - 1 + 3 + 0.5) / 30 - 0.03, abs=1e-3)


@pytest.mark.parametrize(
    ("insides", "ended"),
    [
        ([0.9, 0.9, 0.1], [2]),
        ([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1], [6]),  # the first peak is an apex
        ([0.9] * 9, []),
    ],
)
def test_a_motion_still_under_way_is_not_proposed(insides, ended):
    ends = [0.0, 0.9, 0.1, 0.0, 0.0, 0.9, 0.1, 0.0]
    script = Script(ends, insides=insides)
    spotter, proposed_at = Spotter(script), []
    for motion in restless(3.0):
        found = spotter(motion).found
        proposed_at += [script.steps - 1] * len(found)
    assert proposed_at == ended


def test_proposals_do_not_overlap():
    found = decide(Script([0.1, 0.9] * 20, length=0.2))
    assert len(found) >= 3
    assert all(a.offset_s <= b.onset_s + 1 / 30 for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("length", "proposals"), [(LENGTH_S[1] + 0.02, 0), (LENGTH_S[1] - 0.02, 1), (0.05, 1)]
)
def test_motions_longer_than_a_micro_expression_are_not_proposed(length, proposals):
    assert len(decide(Script([0.1, 0.9, 0.1], length=length))) == proposals


@pytest.mark.parametrize("length", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize("apex", [0.0, 0.3, 1.0])
def test_onset_apex_and_offset_are_in_order_for_any_outputs(length, apex):
    for interval in decide(Script([0.1, 0.9, 0.1], length=length, apex=apex)):
        assert interval.onset_s <= interval.apex_s <= interval.offset_s


@pytest.mark.parametrize(("raise_px", "proposals"), [(0.5, 0), (1.0, 1), (2.5, 1), (16.0, 0)])
def test_too_small_or_too_large_motions_are_not_proposed(raise_px, proposals):
    # The script gives an offset 0.1 s before the 61st step: the brows are back by then.
    event = Interval(1.65, 1.8, 1.95)
    script = Script([0.0] * 30 + [0.9, 0.0], length=0.3)
    assert len(found_in(Spotter(script), motions(event, raise_px=raise_px))) == proposals


def proposals_in(one, other) -> int:
    """How many micro-expressions are proposed in two motions at once, near the 61st step."""
    pairs = zip(one, other, strict=True)
    both = [dataclasses.replace(a, cells=a.cells + b.cells) for a, b in pairs]
    script = Script([0.0] * 30 + [0.9, 0.0], length=0.3)
    return len(found_in(Spotter(script), both))


@pytest.mark.parametrize(
    ("before_px", "ended_s", "proposals"),
    [
        (6.0, 1.55, 1),  # larger, but within the limit
        (14.0, 1.55, 0),
        (14.0, 1.2, 1),  # the face has come to rest since
    ],
)
def test_a_motion_after_a_much_larger_one_is_not_proposed(before_px, ended_s, proposals):
    """As when the mouth closes and settles between two words."""
    small = motions(Interval(1.58, 1.73, 1.88), raise_px=2.5)
    large = motions(Interval(ended_s - 0.3, ended_s - 0.2, ended_s), raise_px=before_px)
    assert proposals_in(small, large) == proposals


@pytest.mark.parametrize(("before_px", "proposals"), [(0.0, 0), (5.0, 0), (18.0, 1)])
def test_the_upper_limit_does_not_apply_to_a_face_in_motion(before_px, proposals):
    """A micro-expression may lie on top of speech."""
    large = motions(Interval(1.65, 1.8, 1.95), raise_px=16.0)
    before = motions(Interval(1.3, 1.45, 1.6), raise_px=before_px)
    assert proposals_in(large, before) == proposals


def test_score_is_one_at_the_threshold():
    script = Script([0.0, 0.25, 0.5, 1.0])
    spotter = Spotter(script)
    scores = [spotter(m).score for m in motions(length_s=1.3)]
    known = [s for s in scores if math.isfinite(s)]
    assert known[:4] == pytest.approx([0.0, 0.5, 1.0, 2.0], abs=1e-5)  # log odds are clamped


def macros_in(macros) -> list[tuple[float, float]]:
    series = motions(length_s=9.0)
    spotter = Spotter(Script([], macros=macros))
    return [ends for motion in series for ends in spotter(motion).macros]


def test_macro_expression_is_reported_once_when_it_is_over():
    ((onset_s, offset_s),) = macros_in([0.1] * 20 + [0.7] * 60 + [0.1])
    # 30 steps of warm-up and half a step, as for micro-expressions; half a second of delay.
    assert onset_s == pytest.approx((30 - 1 + 20 + 0.5) / 30 - MACRO_DELAY_S, abs=1e-3)
    assert offset_s - onset_s == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    ("macros", "count"),
    [
        ([0.7] * 14 + [0.1], 0),  # shorter than half a second
        ([0.7] * 16 + [0.1], 1),
        ([0.7] * 140 + [0.1], 0),  # a mood
        ([0.55] * 60, 0),  # below the upper probability
        ([0.7] * 20 + [0.5] * 3 + [0.7] * 20 + [0.1], 1),  # a dip above the lower one
        ([0.7] * 20 + [0.1] * 9 + [0.7] * 20 + [0.1], 2),
        ([0.7] * 300, 0),  # still under way
    ],
)
def test_macro_expressions_have_a_length_and_a_beginning_and_an_end(macros, count):
    assert len(macros_in(macros)) == count


def test_delivered_network_distinguishes_macro_from_micro_expressions(model):
    def counts(event: Interval, raise_px: float) -> tuple[int, int]:
        spotter, found, macros = Spotter(model), 0, 0
        for motion in motions(event, raise_px=raise_px, length_s=9.0):
            spotting = spotter(motion)
            found += len(spotting.found)
            macros += len(spotting.macros)
        return found, macros

    assert counts(Interval(3.0, 3.9, 5.0), 6.0) == (0, 1)
    # The training ends at 4 px; a larger motion is not proposed, however short.
    assert counts(Interval(4.0, 4.2, 4.4), 4.0) == (1, 0)
    assert counts(Interval(4.0, 4.2, 4.4), 6.0) == (0, 0)


# Weights


def test_threshold_is_the_cards_unless_another_is_given():
    card = json.loads(SPOTTER.with_suffix(".json").read_text())
    assert SpotterModel(SPOTTER).threshold == card["threshold"]
    assert SpotterModel(SPOTTER, threshold=0.25).threshold == 0.25
    assert SpotterModel(SPOTTER).name == card["name"]


def test_weights_may_be_given_as_text():
    assert SpotterModel(str(SPOTTER)).name == SpotterModel(SPOTTER).name


@pytest.mark.parametrize("path_type", [str, Path])
def test_card_of_a_classifier_is_refused(path_type):
    with pytest.raises(InputError, match=r"causalnet\.json is not the card of a spotter: restore"):
        SpotterModel(path_type(CLASSIFIER))


@pytest.mark.parametrize("threshold", ["high", None, [0.5]])
def test_card_without_a_number_for_a_threshold_is_refused(tmp_path, threshold):
    shutil.copy(SPOTTER, tmp_path / "net.onnx")
    card = json.loads(SPOTTER.with_suffix(".json").read_text())
    (tmp_path / "net.json").write_text(json.dumps({**card, "threshold": threshold}))
    with pytest.raises(InputError, match="not the card of a spotter"):
        SpotterModel(tmp_path / "net.onnx")


# The operating curve


def model_with(tmp_path, **changes) -> SpotterModel:
    """The delivered network with changes to its card; None removes an entry."""
    return SpotterModel(spotter_with(tmp_path, **changes))


CURVE = [
    {"threshold": 0.3, "recall": 0.6, "false_per_minute": 4.0, "F1": 0.6},
    {"threshold": 0.5, "recall": 0.5, "false_per_minute": 1.0, "F1": 0.6},
    {"threshold": 0.9, "recall": 0.4, "false_per_minute": 0.01, "F1": 0.5},
]


@pytest.mark.parametrize(
    ("false_per_minute", "threshold"),
    [
        (4.0, 0.3),
        (1.0, 0.5),
        (2.0, 0.4),  # half way in the logarithm
        (0.1, 0.7),
        (60.0, 0.3),  # beyond the end of the curve
        (1e-9, 0.9),
    ],
)
def test_threshold_follows_the_curve(tmp_path, false_per_minute, threshold):
    model = model_with(tmp_path, operating_curve=CURVE)
    assert model.has_curve
    assert model.threshold_at(false_per_minute) == pytest.approx(threshold)
    expected = min(max(false_per_minute, 0.01), 4.0)
    assert model.expected_false_per_minute(threshold) == pytest.approx(expected)


def test_curve_may_end_at_no_false_reports(tmp_path):
    curve = [*CURVE, {"threshold": 0.95, "false_per_minute": 0.0}]
    model = model_with(tmp_path, operating_curve=curve)
    assert model.threshold_at(1e-6) == pytest.approx(0.95)


@pytest.mark.parametrize("false_per_minute", [0.0, -1.0, math.nan, math.inf])
def test_rate_of_false_reports_must_be_a_positive_number(model, false_per_minute):
    with pytest.raises(ValueError, match="must be above 0"):
        model.threshold_at(false_per_minute)


def test_card_without_a_curve_has_a_fixed_threshold(tmp_path):
    model = model_with(tmp_path, operating_curve=None)
    assert not model.has_curve
    with pytest.raises(ValueError, match="no operating curve"):
        model.threshold_at(1.0)
    with pytest.raises(ValueError, match="no operating curve"):
        model.expected_false_per_minute(0.5)


@pytest.mark.parametrize(
    "curve",
    [
        CURVE[::-1],
        [{"threshold": 0.3}],
        [{"threshold": "low", "false_per_minute": 1.0}],
        [{"threshold": 0.3, "false_per_minute": -1.0}],
        "steep",
    ],
    ids=["falling", "half", "word", "negative", "no list"],
)
def test_card_with_a_broken_curve_is_refused(tmp_path, curve):
    with pytest.raises(InputError, match="not the card of a spotter"):
        model_with(tmp_path, operating_curve=curve)


# The limits of detection


def test_model_of_the_limits_is_the_cards(tmp_path):
    assert model_with(tmp_path, visibility=None).visibility is None
    visibility = model_with(tmp_path, visibility=VISIBILITY).visibility
    assert visibility is not None
    assert visibility.range_px == (0.3, 8.0)


@pytest.mark.parametrize(
    "entry",
    [{}, [1], "clear", {**VISIBILITY, "slope": [1.0]}, {**VISIBILITY, "offset": ["a", 1, 2]}],
    ids=["empty", "list", "word", "short", "no number"],
)
def test_card_with_a_broken_model_of_the_limits_is_refused(tmp_path, entry):
    with pytest.raises(InputError, match="not the card of a spotter"):
        model_with(tmp_path, visibility=entry)


def test_changed_threshold_applies_from_the_next_frame_on(tmp_path):
    model = model_with(tmp_path)
    spotter, scores = Spotter(model), []
    for motion in motions(HIDDEN):
        # A lower threshold once the motion is over: the score is relative to it.
        model.threshold = 0.95 if motion.time_s < 4.3 else 0.25
        scores.append((motion.time_s, spotter(motion).score))
    strict = max(score for time_s, score in scores if 1.1 < time_s < 4.3)
    assert strict < 1
    assert max(score for time_s, score in scores if time_s >= 4.3) > 1 / 0.4


@pytest.mark.parametrize(("raise_px", "proposals"), [(2.5, 1), (6.0, 1), (12.0, 0)])
def test_on_a_speaking_face_a_motion_may_be_larger_but_not_of_any_size(raise_px, proposals):
    words = motions(Interval(1.25, 1.4, 1.55), raise_px=6.0)
    event = motions(Interval(1.6, 1.75, 1.9), raise_px=raise_px)
    assert proposals_in(words, event) == proposals
