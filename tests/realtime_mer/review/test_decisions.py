"""The files of the reviewers: what counts, what is taken back, and what survives."""

import errno
import json
import os

import pytest

from realtime_mer.archive.reviews.decisions import DecisionsFile, Judgement, read_all
from realtime_mer.archive.reviews.found import material
from realtime_mer.errors import InputError
from tests.realtime_mer.review.conftest import rewrite

TRUE = Judgement("true", "positive", 1.2, 1.5, 3.0)
FALSE = Judgement("false", None, 1.2, 1.5, 2.0)


@pytest.fixture
def found(results):
    return material(results)


def opened(results, found, name="ana"):
    return DecisionsFile(results.reviews, name, found)


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_last_decision_counts_and_undo_takes_one_back_at_a_time(results, found):
    event, other = found.events[:2]
    with opened(results, found) as file:
        file.decide(event, TRUE)
        file.decide(other, FALSE)
        file.decide(event, FALSE)
        assert file.decisions.of(event.id) == FALSE
        assert file.undo() == event.id
        assert file.decisions.of(event.id) == TRUE
        assert file.undo() == other.id
        assert file.decisions.of(other.id) is None
        assert file.undo() == event.id
        assert file.undo() is None
        path = file.path
    lines = lines_of(path)
    # Nothing is ever removed from the file.
    assert [line["type"] for line in lines] == ["decision"] * 3 + ["undo"] * 3
    assert [line["n"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.get("undoes") for line in lines[3:]] == [3, 2, 1]


def test_a_review_goes_on_where_it_was(results, found):
    with opened(results, found) as file:
        file.decide(found.events[0], TRUE)
        file.decide(found.events[1], FALSE)
        file.undo()
        added = file.add(found.events[0], TRUE)
    with opened(results, found) as file:
        assert file.decisions.of(found.events[0].id) == TRUE
        assert file.decisions.of(found.events[1].id) is None
        assert [a.id for a in file.decisions.added] == [added.id]
        file.decide(file.decisions.added[0], FALSE)
        assert file.decisions.of(added.id) == FALSE
        # Undone after all, its number is not given again: the file's readers know it.
        assert [file.undo(), file.undo()] == [added.id, added.id]
        assert file.decisions.added == []
        assert file.add(found.events[0], TRUE).number == 2


@pytest.mark.parametrize(
    "torn", [b"{", b'{"type": "decision", "n": 2, "at', b"\0\0\0", b'{"a": 1}']
)
def test_a_torn_last_line_is_taken_off(results, found, torn):
    with opened(results, found) as file:
        file.decide(found.events[0], TRUE)
        path = file.path
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    # Others read what is whole while the file is being written.
    (ana,) = read_all(results.reviews, found, without=results.reviews / "ben.jsonl")
    assert ana.of(found.events[0].id) == TRUE
    with opened(results, found) as file:
        assert path.read_bytes() == whole
        file.decide(found.events[1], FALSE)
        assert file.decisions.lost == 0
    assert [line["n"] for line in lines_of(path)] == [1, 2]


def test_lines_that_cannot_be_understood_are_left_alone_and_told(results, found):
    with opened(results, found) as file:
        file.decide(found.events[0], TRUE)
        path = file.path
    odd = [
        *("no JSON", "[]", '{"type": "decision"}', '{"type": "undo", "undoes": 7}'),
        '{"type": "decision", "n": 6, "video": "gone-00000000", "face": 0, "found_s": 1,'
        ' "verdict": "true", "label": null, "onset_s": 1, "offset_s": 2, "took_s": null}',
        '{"type": "decision", "n": 7, "video": "a", "face": 1e999, "found_s": 1,'
        ' "verdict": "true", "label": null, "onset_s": 1, "offset_s": 2, "took_s": null}',
        '{"type": "song"}',
    ]
    path.write_text(path.read_text() + "\n".join(odd) + "\n")
    before = path.read_bytes()
    with opened(results, found) as file:
        assert file.decisions.lost == len(odd)
        assert file.decisions.of(found.events[0].id) == TRUE
        file.decide(found.events[1], FALSE)
        # The decision about what is gone is the one before: it is taken back, not another.
        assert file.undo() == found.events[1].id
        assert file.undo() not in (None, found.events[0].id)
        assert file.undo() == found.events[0].id
    assert path.read_bytes().startswith(before)


def test_one_reviewer_has_one_page(results, found):
    with opened(results, found):
        with pytest.raises(InputError, match="ana is reviewing this folder already"):
            opened(results, found)
        opened(results, found, "ben").close()
    opened(results, found).close()


def test_time_of_a_verdict_that_was_taken_back_does_not_count(results, found):
    with opened(results, found) as file:
        file.decide(found.events[0], TRUE)
        file.decide(found.events[1], FALSE)
        file.decide(found.events[1], Judgement("false", None, 1.3, 1.5))
        assert file.decisions.looks == [3.0, 2.0]
        file.undo()
        assert file.decisions.looks == [3.0, 2.0]
        file.undo()
        assert file.decisions.looks == [3.0]


def test_a_reviewer_is_not_another_one_where_case_does_not_matter(results, found):
    with opened(results, found, "Ana") as file:
        file.decide(found.events[0], TRUE)
        # Such file systems list the file by the name that it was made with.
        (results.reviews / "ana.jsonl").symlink_to(file.path)
        opened(results, found, "ben").close()
        assert [who.reviewer for who in read_all(results.reviews, found, without=file.path)] == [
            "ben"
        ]


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "../ana", "a b", "-x", "x" * 41, "a\n", "consensus"]
)
def test_names_that_are_no_file_names_are_refused(results, found, name):
    with pytest.raises(InputError, match="cannot be a reviewer's name"):
        opened(results, found, name)
    assert not results.reviews.exists()


def test_decisions_follow_their_events_when_an_archive_numbers_them_anew(results, found):
    third = found.events[2]
    with opened(results, found) as file:
        file.decide(found.events[0], FALSE)
        file.decide(third, TRUE)
    (video, _) = results.done()
    rewrite(video, [r for r in video.records() if r.get("onset_s") not in (1.2, 3.0)])
    fewer = material(results)
    with opened(results, fewer) as file:
        assert fewer.events[0].number == 1
        assert fewer.events[0].onset_s == third.onset_s
        assert file.decisions.of(fewer.events[0].id) == TRUE
        assert file.decisions.lost == 1


def test_a_decision_that_the_disk_does_not_take_does_not_count(results, found, monkeypatch):
    write = os.write

    def cut_short(fd, data):
        if len(data) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:-50])

    with opened(results, found) as file:
        file.decide(found.events[0], TRUE)
        whole = file.path.read_bytes()
        with monkeypatch.context() as context:
            context.setattr(os, "write", cut_short)
            with pytest.raises(InputError, match="No space left"):
                file.decide(found.events[0], FALSE)
        assert file.path.read_bytes() == whole
        assert file.decisions.of(found.events[0].id) == TRUE
        file.decide(found.events[0], FALSE)
    assert [line["n"] for line in lines_of(file.path)] == [1, 2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verdict": "perhaps"}, "verdict"),
        ({"label": "joy"}, "label"),
        ({"onset_s": None}, "seconds"),
        ({"onset_s": True}, "seconds"),
        ({"onset_s": -1}, "seconds"),
        ({"onset_s": float("nan")}, "seconds"),
        ({"onset_s": 1.5}, "ends after it begins"),
        # The same to the millisecond, as the file has it.
        ({"onset_s": 1.4997}, "ends after it begins"),
        ({"offset_s": 99.0}, "10 s"),
        ({"took_s": "long"}, "seconds"),
    ],
)
def test_a_judgement_that_makes_no_sense_is_refused(change, reason):
    good = {"verdict": "true", "label": None, "onset_s": 1.2, "offset_s": 1.5, "took_s": None}
    labels = ("negative", "positive")
    assert Judgement.parse(good, labels) == Judgement("true", None, 1.2, 1.5)
    with pytest.raises(ValueError, match=reason):
        Judgement.parse(good | change, labels)
