"""The campaign: what it counts, what it keeps, how it ends."""

import json

import pytest

from tests.fuzz import kept, targets
from tests.fuzz.worker import Finding
from tools import fuzz


class Picky:
    """A worker that cannot stand a character."""

    most_mb = 1.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def attempt(self, target, value):
        if "@" in value[0]:
            raise Finding(f"{target}: an at sign")
        return "fine"


def test_a_campaign_tells_what_it_tried(capsys):
    assert fuzz.main(["--minutes", "0.02", "--seed", "1", "--only", "landmarks", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    target = result["targets"]["landmarks"]
    assert result["inputs"] == target["inputs"] == sum(target["outcomes"].values()) > 0
    assert (result["failed"], result["native_percent"], result["seed"]) == (0, 0.0, 1)
    assert set(target["outcomes"]) == {"refused"}


def test_the_smallest_failing_input_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "Worker", Picky)
    arguments = ["--minutes", "0.05", "--seed", "1", "--only", "redaction"]
    assert fuzz.main([*arguments, "--keep", str(tmp_path)]) == 1
    (path,) = kept.kept(tmp_path)
    target, (text, _) = kept.read(path)
    assert target == "redaction"
    assert "@" in text
    assert len(text) < 20
    out = capsys.readouterr()
    assert "redaction: an at sign" in out.err
    assert str(path) in out.err


def test_the_same_seed_tries_the_same_inputs(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Picky, "attempt", lambda self, target, value: seen[-1].append(value) or "x")
    for _ in range(2):
        seen.append([])
        fuzz.turn(Picky(), "truth", fuzz.Tally(), 20, 5, tmp_path)
    assert seen[0] == seen[1]
    assert len(seen[0]) >= 10


@pytest.mark.parametrize("wrong", [["--only", "nothing"], ["--minutes", "0"]])
def test_wrong_arguments_are_refused(wrong, capsys):
    assert fuzz.main(wrong) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_target_has_inputs():
    assert set(fuzz.inputs()) == set(targets.TARGETS)
    assert set(targets.NATIVE) | set(fuzz.SLOW) <= set(targets.TARGETS)
