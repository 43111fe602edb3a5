"""Figures of several networks together are those of the mean of their logits."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from models.data import LABELS
from tools.recognition import together
from tools.recognition.together import bounds, loss, read_answers, uf1

TRUE = [0, 1, 2, 0, 1, 2]


def write_run(folder: Path, chances: list, protocol: str = "honest", clips: str = "c") -> Path:
    """Results with a row of chances for each seed and clip; the clips are of three subjects."""
    folder.mkdir()
    summary = {"model": folder.name, "protocol": protocol, "classes": LABELS}
    (folder / "summary.json").write_text(json.dumps(summary))
    with (folder / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["seed", "set", "subject", "clip", "label", "answer", *LABELS])
        for seed, answers in enumerate(chances):
            for i, p in enumerate(answers):
                answer = LABELS[int(np.argmax(p))]
                rows.writerow(
                    [seed, "samm", f"p{i // 2}", f"{clips}{i}", LABELS[TRUE[i]], answer, *p]
                )
    return folder


def sure_of(answers: list[int], sure: float = 0.8) -> list[list[float]]:
    rest = (1 - sure) / 2
    return [[sure if k == answer else rest for k in range(3)] for answer in answers]


def test_the_surer_network_decides(tmp_path, capsys):
    """One errs in the first clip, the other in the last; each is less sure where it errs."""
    first = [*sure_of([1], 0.5), *sure_of(TRUE[1:])]
    second = [*sure_of(TRUE[:-1]), *sure_of([0], 0.5)]
    runs = [write_run(tmp_path / "one", [first]), write_run(tmp_path / "two", [second, second])]
    members = [read_answers(run) for run in runs]
    both = together.together(members, [1, 1])
    everything = np.arange(6)
    assert [uf1(m, everything) < 1 for m in (*members, both)] == [True, True, False]
    assert together.together(members, [9, 1]).logits.argmax(1)[0] == 1
    assert loss(both, everything) < loss(members[0], everything)
    assert together.main([*map(str, runs)]) == 0
    assert "UF1, together less one" in capsys.readouterr().out


def test_the_bounds_are_of_samples_of_subjects(tmp_path):
    """The second is right where the first errs: for one subject of three."""
    first = read_answers(write_run(tmp_path / "one", [sure_of([1, 0, *TRUE[2:]])]))
    second = read_answers(write_run(tmp_path / "two", [sure_of(TRUE)]))
    low, high = bounds(loss, first, second)
    of_one_subject = loss(second, np.arange(2)) - loss(first, np.arange(2))
    assert high == pytest.approx(0, abs=1e-9)  # samples without that subject
    assert low == pytest.approx(of_one_subject, abs=1e-9)  # samples of that subject alone
    assert bounds(loss, first, first) == (0, 0)


@pytest.mark.parametrize(
    ("change", "more", "named"),
    [
        ({"protocol": "test-selected"}, [], "honest"),
        ({"clips": "d"}, [], "different clips"),
        ({}, ["--shares", "1"], "--shares"),
        ({}, ["--shares", "1", "0"], "--shares"),
    ],
)
def test_what_does_not_go_together_ends_with_a_message(tmp_path, capsys, change, more, named):
    one = write_run(tmp_path / "one", [sure_of(TRUE)])
    two = write_run(tmp_path / "two", [sure_of(TRUE)], **change)
    assert together.main([str(one), str(two), *more]) == 2
    assert named in capsys.readouterr().err


def test_a_folder_without_results_is_named(tmp_path, capsys):
    assert together.main([str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err
    one = write_run(tmp_path / "one", [sure_of(TRUE)])
    (one / "predictions.csv").write_text("seed,clip\n0,c0\n")
    assert together.main([str(one)]) == 2
    assert "predictions.csv" in capsys.readouterr().err
