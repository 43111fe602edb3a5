"""Pretraining on macro-expressions: what enters, and that no tested person's does."""

import json
import shutil

import numpy as np
import pytest

from tools.recognition import evaluate, train
from tools.recognition.export import load_checkpoint
from tools.recognition.prepared import read_prepared


@pytest.fixture
def changed(prepared_sets, tmp_path):
    """Copies MMEW's macro-expressions, with other motions of one person."""

    def change(subject):
        out = tmp_path / f"other-{subject}"
        out.mkdir()
        for name in ("clips.parquet", "flow.npy", "set.json"):
            shutil.copy(prepared_sets["mmew-macro"] / name, out / name)
        theirs = np.array(read_prepared(out).columns["subject"]) == subject
        assert theirs.any()
        pairs = np.load(out / "flow.npy")
        pairs[theirs] = 255 - pairs[theirs]
        np.save(out / "flow.npy", pairs)
        return out

    return change


def logits(prepared_sets, out, *more):
    """Of the first left-out subject, S03, and of the second, S05."""
    data = ["--data", str(prepared_sets["mmew"]), "--model", "ststnet", "--recipe", "epochs=1"]
    assert evaluate.main([*data, "--out", str(out), *map(str, more)]) == 0
    return [np.load(out / f"folds/0-{k}.npy") for k in range(2)]


def test_macro_expressions_of_a_tested_person_never_enter(prepared_sets, changed, tmp_path):
    plain = logits(prepared_sets, tmp_path / "plain")
    macros = prepared_sets["mmew-macro"]
    first = logits(prepared_sets, tmp_path / "first", "--pretrain", macros)
    other = logits(prepared_sets, tmp_path / "other", "--pretrain", changed("mmew-S03"))
    assert (first[0] != plain[0]).any()  # those of the others do
    assert (first[0] == other[0]).all()
    assert (first[1] != other[1]).any()
    summary = json.loads((tmp_path / "first/summary.json").read_text())
    assert summary["pretrained_on"].startswith("mmew-macro ")
    assert summary["sets"] == ["mmew"]


def test_macro_expressions_of_a_left_out_person_never_enter_the_weights(
    prepared_sets, changed, tmp_path
):
    def weights(name, macros):
        data = ["--data", str(prepared_sets["mmew"]), str(prepared_sets["samm"])]
        once = ["--model", "ststnet", "--epochs", "1", "--folds", "2"]
        kept = tmp_path / f"{name}.pt"
        out = ["--checkpoint", str(kept), "--exclude-subjects", "mmew-S03"]
        assert train.main([*data, *once, *out, "--pretrain", str(macros)]) == 0
        checkpoint = load_checkpoint(kept)
        return checkpoint["states"][0], checkpoint["card"]

    first, card = weights("first", prepared_sets["mmew-macro"])
    same, _ = weights("same", changed("mmew-S03"))
    other, _ = weights("other", changed("mmew-S05"))
    assert all((first[name] == same[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    assert card["trained_on"]["pretrained_on"].startswith("mmew-macro ")
    assert "mmew-macro" in card["licence"]


@pytest.mark.parametrize(
    ("data", "more", "named"),
    [
        ("mmew-macro", [], "give it in --pretrain"),
        ("mmew", ["--pretrain", "samm"], "clips of samm"),
        ("mmew", ["--pretrain", "mmew-macro", "--model", "bi-woof-svm"], "leave out --pretrain"),
    ],
)
def test_what_cannot_be_pretrained_on_is_named(prepared_sets, tmp_path, capsys, data, more, named):
    more = [str(prepared_sets.get(word, word)) for word in more]
    given = ["--data", str(prepared_sets[data]), "--out", str(tmp_path / "out")]
    assert evaluate.main([*given, *more]) == 2
    assert named in " ".join(capsys.readouterr().err.split())


def test_weights_need_people_on_both_sides(prepared_sets, tmp_path, capsys):
    data = ["--data", str(prepared_sets["mmew"]), "--exclude-subjects", "mmew-S03"]
    assert train.main([*data, "--out", str(tmp_path / "w.onnx")]) == 2
    assert "one subject" in capsys.readouterr().err
