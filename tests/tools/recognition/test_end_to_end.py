"""From the folders of data sets to a network that the program runs, by the commands."""

import csv
import json

import numpy as np
import pytest

from models.data import LABELS
from realtime_mer import cli
from realtime_mer.errors import InputError
from realtime_mer.recognition.classifier import Classifier
from tests.sessions import EVENTS, make_clip
from tests.tiny_release import write_release
from tests.tools.recognition import made_up
from tools.recognition import evaluate, export, train
from tools.recognition.prepared import read_clips, read_prepared

FIVE = ["happiness", "disgust", "repression", "surprise", "others"]


def test_casme2_with_five_classes_from_its_folder_to_the_program(prepared_sets, tmp_path):
    data = ["--data", str(prepared_sets["casme2"]), "--set", "casme2", "--classes", "5"]
    figures, weights = tmp_path / "five", tmp_path / "five.onnx"
    fast = ["--model", "causalnet-compact", "--recipe", "epochs=1"]
    assert evaluate.main([*data, "--out", str(figures), *fast]) == 0
    summary = json.loads((figures / "summary.json").read_text())
    assert (summary["classes"], summary["sets"]) == (FIVE, ["casme2"])
    with (figures / "predictions.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert {row["clip"]: row["label"] for row in answers} == {
        "sub01_EP02_01f": "happiness",
        "sub01_EP03_02": "surprise",
        "sub04_EP12_01f": "disgust",
        "sub09_ep06_02f": "repression",
    }
    once = ["--epochs", "1", "--folds", "2", "--members", "1", "--name", "causalnet-compact"]
    kept = ["--checkpoint", str(tmp_path / "five.pt")]
    more = ["--figures", str(figures / "summary.json")]
    assert train.main([*data, "--out", str(weights), *once, *kept, *more]) == 0
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["labels"] == FIVE
    assert card["trained_on"] == {"data": "casme2", "clips": 4, "subjects": 3}
    assert card["loso"]["casme2"] == summary["casme2"]
    assert "casme2" in card["licence"]
    again = tmp_path / "again.onnx"
    assert export.main([str(tmp_path / "five.pt"), "--out", str(again)]) == 0
    pairs = np.array(read_prepared(prepared_sets["casme2"]).pairs)
    first, second = (Classifier(path, "cpu").classify(pairs) for path in (weights, again))
    assert first.shape == (4, 5)
    np.testing.assert_allclose(first, second, atol=1e-6)
    log, clip = tmp_path / "log.jsonl", make_clip(tmp_path / "clip.avi", EVENTS[0], length_s=2.6)
    program = [str(clip), "--headless", "--log", str(log), "--providers", "cpu"]
    assert cli.main([*program, "--weights", str(again)]) == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    events = [r for r in records if r["type"] == "micro_expression"]
    assert events
    assert all(list(event["probabilities"]) == FIVE for event in events)


def test_seven_sets_and_the_flow_release_are_one_composite(prepared_sets, tmp_path, capsys):
    (tmp_path / "release").mkdir()
    release = write_release(tmp_path / "release", subjects=3, clips=2)
    folders = [str(folder) for folder in prepared_sets.values()]
    data = ["--data", *folders, str(release), "--folds", "2"]
    out = tmp_path / "out"
    fast = ["--model", "ststnet", "--recipe", "epochs=1"]
    assert evaluate.main([*data, "--out", str(out), *fast]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["classes"] == list(LABELS)
    # Part C names no emotions.
    with_emotions = set(made_up.SETS) - {"casme3-c"}
    assert set(summary["sets"]) == with_emotions
    with (out / "predictions.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    labels = {(row["set"], row["clip"]): row["label"] for row in answers}
    assert labels["mmew", "mmew-S05_S05-03-001"] == "surprise"
    assert labels["4dme", "4dme-7_smile"] == "positive"
    assert ("casme2", "sub04_EP12_01f") not in labels  # the composite leaves it out


@pytest.mark.parametrize(
    ("sets", "classes", "named"),
    [
        ((), 9, "no clips with 9 classes"),
        (("smic",), 5, "no clips with 5 classes of smic"),
        ((), 5, "not the same ones"),
    ],
)
def test_classes_that_do_not_fit_are_named(prepared_sets, sets, classes, named):
    with pytest.raises(InputError, match=named):
        read_clips(list(prepared_sets.values()), sets, classes)


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [("samm", 5, 3), ("mmew", 4, 1), ("casme3-a", 7, 3), ("dfme", 7, 2), ("4dme", 5, 2)],
)
def test_each_set_has_its_own_classes(prepared_sets, name, classes, count):
    clips = read_clips([prepared_sets[name]], (name,), classes)
    assert len(clips) == count
    assert len(clips.classes) == classes


def test_a_damaged_prepared_set_is_named(prepared_sets, tmp_path, capsys):
    for name in ("set.json", "clips.parquet"):
        (tmp_path / name).write_bytes((prepared_sets["mmew"] / name).read_bytes())
    np.save(tmp_path / "flow.npy", np.zeros((1, 2, 28, 28, 3), np.uint8))
    data = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert evaluate.main(data) == 2
    assert "does not fit" in capsys.readouterr().err
