"""The cards of the last events."""

import cv2
import numpy as np
import pytest

from realtime_mer.output.overlay import DIM, LABEL_COLOURS, EventCards, Layout, Overlay
from realtime_mer.results import EventPicture
from tests.realtime_mer.output.overlay.drawing import (
    LABELS,
    analysis,
    drawn,
    event,
    face,
    session,
    with_picture,
)


def test_cards_show_the_newest_first_and_as_many_as_fit():
    labels = ["negative", "positive", "surprise", "negative", "positive"]
    frames = [analysis(10 * k, events=[event(k / 3, label)]) for k, label in enumerate(labels)]
    picture = drawn(*frames, elements=[EventCards()])
    bar = Layout.of(640, 480).events.of(picture)[:, 1]
    colours = [LABEL_COLOURS[LABELS.index(label)] for label in reversed(labels)]
    rows = [np.flatnonzero((bar == c).all(-1)) for c in colours[:3]]
    assert all(len(r) > 30 for r in rows)
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()


def test_probability_is_the_length_of_its_bar():
    picture = drawn(analysis(events=[event(0.0, "surprise")]), elements=[EventCards()])
    card = Layout.of(640, 480).events.of(picture)[:80, 150:]
    longest = {
        name: int((card == colour).all(-1).sum(1).max())
        for name, colour in zip(LABELS, LABEL_COLOURS, strict=False)
    }
    assert longest["surprise"] == pytest.approx(8 * longest["negative"], rel=0.2)
    assert longest["negative"] == pytest.approx(longest["positive"], abs=1)


CROP = 68  # units


def crops(picture):
    """Onset and apex on the newest card."""
    card = Layout.of(640, 480).events.of(picture)[18:]
    return card[24 : 24 + CROP, 11 : 11 + CROP], card[24 : 24 + CROP, 83 : 83 + CROP]


def test_card_shows_onset_and_apex_with_the_motion_as_arrows(smile):
    picture = drawn(analysis(events=[with_picture(smile)]), elements=[EventCards()])
    onset, apex = crops(picture)
    wanted = cv2.resize(smile.onset, (CROP, CROP), interpolation=cv2.INTER_AREA)
    assert (onset == wanted[..., None]).all()
    arrows = np.ptp(apex.astype(int), axis=2) > 40
    assert arrows.sum() > 30
    assert arrows[CROP // 2 :].sum() > 3 * arrows[: CROP // 2].sum(), "a smile moves the lower half"
    still = EventPicture(smile.onset, smile.onset, np.zeros_like(smile.flow))
    _, quiet = crops(drawn(analysis(events=[with_picture(still)]), elements=[EventCards()]))
    assert np.ptp(quiet.astype(int), axis=2).max() == 0


def test_mirror_turns_the_card_s_pictures_too(smile):
    a = analysis(events=[with_picture(smile)])
    plain, turned = (drawn(a, elements=[EventCards()], mirrored=m) for m in (False, True))
    for was, now in zip(crops(plain), crops(turned), strict=True):
        assert np.abs(cv2.flip(now, 1).astype(int) - was).mean() < 8
        assert np.abs(now.astype(int) - was).mean() > 8


def test_arrows_lie_on_the_mirrored_side(smile):
    flow = smile.flow.copy()
    flow[:, :16] = 0  # the left half stays as it is
    half = EventPicture(smile.onset, smile.apex, flow)
    a = analysis(events=[with_picture(half)])
    for mirrored in (False, True):
        _, apex = crops(drawn(a, elements=[EventCards()], mirrored=mirrored))
        xs = np.nonzero(np.ptp(apex.astype(int), axis=2) > 40)[1]
        assert len(xs) > 15
        assert ((xs < CROP / 2) == mirrored).all()


def test_only_the_newest_card_shows_pictures(smile):
    events = [with_picture(smile, k / 3, LABELS[k]) for k in range(2)]
    frames = [analysis(10 * k, events=[e]) for k, e in enumerate(events)]
    bar = Layout.of(640, 480).events.of(drawn(*frames, elements=[EventCards()]))[:, 1]
    new, old = ((bar == LABEL_COLOURS[k]).all(-1).sum() for k in (1, 0))
    assert (new, old) == (113, 55)


def test_uncertain_event_is_grey():
    unsure = with_picture(None)
    unsure.probabilities["uncertain"] = 0.9
    picture = drawn(analysis(faces=[face()], events=[unsure]))
    events = Layout.of(640, 480).events.of(picture)
    assert (events[20:60, 1] == DIM).all()


def test_face_is_named_as_soon_as_there_are_several(smile):
    overlay = Overlay([EventCards()])
    overlay.begin(session())
    overlay.update(analysis(0, faces=[face()], events=[with_picture(smile)]))
    alone = Layout.of(640, 480).events.of(overlay.picture()).copy()
    overlay.update(analysis(1, faces=[face(), face(identity=1)]))
    assert (Layout.of(640, 480).events.of(overlay.picture()) != alone).any()
