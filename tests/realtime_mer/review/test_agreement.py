"""Agreement of reviewers and what they say together, against values known from elsewhere."""

import pytest

from realtime_mer.archive.reviews.agreement import (
    Consensus,
    agreements,
    cohens_kappa,
    consensus,
)
from realtime_mer.archive.reviews.decisions import Decisions, Judgement
from realtime_mer.archive.reviews.found import material


def ratings(table):
    """The two raters' words of a table {(first, second): count}."""
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    return [a for a, _ in pairs], [b for _, b in pairs]


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        # The three examples of Wikipedia's article on Cohen's kappa.
        ({("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}, 0.4),
        ({("y", "y"): 45, ("y", "n"): 15, ("n", "y"): 25, ("n", "n"): 15}, 0.1304),
        ({("y", "y"): 25, ("y", "n"): 35, ("n", "y"): 5, ("n", "n"): 35}, 0.2593),
        # Cohen (1960), table 1: three categories of 200 patients.
        (
            {(1, 1): 88, (1, 2): 14, (1, 3): 18, (2, 1): 10, (2, 2): 40, (2, 3): 10}
            | {(3, 1): 2, (3, 2): 6, (3, 3): 12},
            0.4915,
        ),
        ({("y", "y"): 3, ("n", "n"): 2}, 1.0),
        ({("y", "n"): 2, ("n", "y"): 2}, -1.0),
        # One of them says the same of all: chance gives as much.
        ({("y", "y"): 3, ("y", "n"): 2}, 0.0),
    ],
)
def test_kappa_has_known_values(table, kappa):
    assert cohens_kappa(*ratings(table)) == pytest.approx(kappa, abs=5e-5)


def test_kappa_is_undefined_where_chance_agrees_fully():
    assert cohens_kappa([], []) is None
    assert cohens_kappa(["y"] * 7, ["y"] * 7) is None
    with pytest.raises(ValueError, match="shorter"):
        cohens_kappa(["y"], [])


def word(verdict, label=None, onset_s=1.0):
    return Judgement(verdict, label, onset_s, onset_s + 0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], Consensus()),
        ([word(None)], Consensus()),
        ([word("unsure")], Consensus("unsure")),
        ([word("false"), word("unsure")], Consensus("false", votes=(0, 1))),
        ([word("true"), word("false")], Consensus("disputed", votes=(1, 1))),
        ([word("true"), word("false"), word("false")], Consensus("false", votes=(1, 2))),
        # Without a label of their own, they take the program's.
        ([word("true")], Consensus("true", "negative", 1.0, 1.5, (1, 0))),
        (
            [word("true"), word("true", "negative", 3.0), word("true", "surprise", 1.2)],
            Consensus("true", "negative", 1.2, 1.7, (3, 0)),
        ),
        (
            [word("true", onset_s=1.0), word("true", "surprise", 2.0)],
            Consensus("true", "disputed", 1.5, 2.0, (2, 0)),
        ),
    ],
)
def test_consensus_is_what_most_say_who_decided(words, said):
    assert consensus(words, "negative") == said


def test_agreement_counts_what_both_decided(results):
    found = material(results)
    verdicts = {"ana": ("true", "true", "false", "unsure"), "ben": ("true", "false", "false", None)}
    people = []
    for name, words in verdicts.items():
        person = Decisions(name, found)
        for n, (event, verdict) in enumerate(zip(found.events, words, strict=True), 1):
            if verdict is not None:
                person.apply(
                    {"type": "decision", "n": n, "video": event.video.key, "face": event.face}
                    | {"found_s": event.onset_s, "verdict": verdict, "label": None}
                    | {"onset_s": event.onset_s, "offset_s": event.offset_s, "took_s": None}
                )
        people.append(person)
    (pair,) = agreements(people, found.events)
    assert (pair.names, pair.events, pair.same) == (("ana", "ben"), 3, 2)
    assert pair.kappa == pytest.approx(0.4)
    # Only one is true to both: whether they agree about labels cannot be told.
    assert (pair.label_events, pair.label_kappa) == (1, None)
