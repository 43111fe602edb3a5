"""From the folders of data sets to a network that the program runs, by the commands."""

import csv
import json
from collections import Counter

import numpy as np
import pytest

from models.data import LABELS
from realtime_mer import cli
from realtime_mer.demo.clip import HiddenEvent
from realtime_mer.errors import InputError
from realtime_mer.recognition.classifier import Classifier
from realtime_mer.results import UNCERTAIN, Interval
from tests.sessions import frames_of, make_clip, write_video
from tests.tiny_release import write_release
from tests.tools.recognition import made_up
from tools.recognition import evaluate, export, train
from tools.recognition.datasets.labels import MACROS
from tools.recognition.prepared import read_clips, read_prepared

SEVEN = ("happiness", "disgust", "surprise", "fear", "anger", "sadness")
# Of each set: its classes, its frame rate, and of each clip the class and the action units, in the
# order of its table; then how many rows are left out, by the reason.
CHAINS = {
    "casme2": (
        ("happiness", "disgust", "repression", "surprise", "others"),
        200,
        [
            ("happiness", ["AU12"]),
            ("surprise", ["AU1", "AU2"]),
            ("disgust", ["AU4", "AU7R"]),
            ("repression", ["AU15"]),
        ],
        {"same-again": 1, "no-folder": 56},
    ),
    "smic": (LABELS, 100, [("negative", []), ("surprise", []), ("positive", [])], {"no-folder": 1}),
    "samm": (
        ("happiness", "anger", "contempt", "surprise", "others"),
        200,
        [("happiness", []), ("surprise", ["AU1", "AU2"]), ("anger", ["AU4L", "AU15R"])],
        {"no-folder": 54},
    ),
    "mmew": (
        ("happiness", "disgust", "surprise", "others"),
        90,
        [("disgust", ["AU4", "AU7"]), ("surprise", ["AU1", "AU2"])],
        {},
    ),
    "casme3-a": (
        (*SEVEN, "others"),
        30,
        [("disgust", ["AU4L", "AU7R"]), ("happiness", ["AU12"]), ("sadness", ["AU15"])],
        {"no-pictures": 1, "no-interval": 1},
    ),
    "4dme": (
        ("positive", "negative", "surprise", "repression", "others"),
        60,
        [("positive", ["AU12"]), ("negative", ["AU4"])],
        {"no-folder": 144},
    ),
    "dfme": (
        (*SEVEN, "contempt"),
        None,
        [("sadness", ["AU15"]), ("happiness", ["AU12"])],
        {},
    ),
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A micro-expression, filmed at 15 frames a second: enough to be spotted, and quick."""
    folder = tmp_path_factory.mktemp("watched")
    event = HiddenEvent(Interval(1.40, 1.57, 1.77), "surprise", ("AU1", "AU2"), 2.6)
    frames = frames_of(make_clip(folder / "30.avi", event, length_s=2.2))
    return write_video(folder / "clip.avi", frames[::2], fps=15)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", CHAINS)
def test_from_the_folders_of_a_set_to_the_program(
    name, made_up_sets, prepared_sets, watched, tmp_path, capsys
):
    """test_prepare.py checks the motions of the same clips against those that were rendered."""
    classes, fps, marked, left_out = CHAINS[name]
    shown, folder = made_up_sets[name][1], prepared_sets[name]
    columns = read_prepared(folder).columns
    assert columns["key"] == [clip.key for clip in shown]
    assert columns["fps"] == [fps] * len(shown)
    column = "own_class" if classes != LABELS else "composite"
    assert list(zip(columns[column], columns["action_units"], strict=True)) == marked
    told = {(row["clip"], row["rule"]) for row in rows_of(folder / "corrections.csv")}
    assert told == {
        (clip, rule) for clip, of in zip(columns["clip"], shown, strict=True) for rule in of.rules
    }
    assert Counter(row["reason"] for row in rows_of(folder / "left_out.csv")) == left_out

    # The deployed network once; for the others a quick one.
    model = ["--model", "causalnet-compact" if name == "casme2" else "ststnet"]
    data = ["--data", str(folder), "--set", name, "--classes", str(len(classes)), *model]
    figures, weights, again = tmp_path / "loso", tmp_path / "first.onnx", tmp_path / "again.onnx"
    assert evaluate.main([*data, "--out", str(figures), "--recipe", "epochs=1"]) == 0
    summary = json.loads((figures / "summary.json").read_text())
    assert (summary["classes"], summary["sets"]) == (list(classes), [name])
    answers = {row["clip"]: row["label"] for row in rows_of(figures / "predictions.csv")}
    assert answers == dict(zip(columns["key"], [label for label, _ in marked], strict=True))
    once = ["--epochs", "1", "--folds", "2", "--members", "1"]
    kept = ["--checkpoint", str(tmp_path / "kept.pt"), "--figures", str(figures / "summary.json")]
    assert train.main([*data, "--out", str(weights), *once, *kept]) == 0
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["labels"] == list(classes)
    subjects = len(set(columns["subject"]))
    assert card["trained_on"] == {"data": name, "clips": len(shown), "subjects": subjects}
    assert card["loso"][name] == summary[name]
    assert name in card["licence"]
    assert export.main([str(tmp_path / "kept.pt"), "--out", str(again)]) == 0
    pairs = np.array(read_prepared(folder).pairs)
    first, second = (Classifier(path, "cpu").classify(pairs) for path in (weights, again))
    assert first.shape == (len(shown), len(classes))
    np.testing.assert_allclose(first, second, atol=1e-6)

    log, table = tmp_path / "log.jsonl", tmp_path / "events.csv"
    program = [str(watched), "--headless", "--log", str(log), "--csv", str(table)]
    capsys.readouterr()
    assert cli.main([*program, "--providers", "cpu", "--weights", str(again)]) == 0
    session, *records = [json.loads(line) for line in log.read_text().splitlines()]
    assert session["labels"] == list(classes)
    (event,) = (r for r in records if r["type"] == "micro_expression")
    chances = event["probabilities"]
    assert list(chances) == list(classes)
    assert sum(chances.values()) == pytest.approx(1, abs=1e-3)
    least = card["loso"]["least_confidence"]["value"]
    most_probable = max(chances, key=chances.__getitem__)
    assert event["label"] == (most_probable if event["confidence"] >= least else UNCERTAIN)
    (row,) = rows_of(table)
    assert {label: float(row[f"p_{label}"]) for label in classes} == chances
    assert f"1 {event['label']}" in capsys.readouterr().out


def test_seven_sets_and_the_flow_release_are_one_composite(prepared_sets, tmp_path, capsys):
    (tmp_path / "release").mkdir()
    release = write_release(tmp_path / "release", subjects=3, clips=2)
    folders = [str(folder) for name, folder in prepared_sets.items() if name not in MACROS]
    data = ["--data", *folders, str(release), "--folds", "2"]
    out = tmp_path / "out"
    fast = ["--model", "ststnet", "--recipe", "epochs=1"]
    assert evaluate.main([*data, "--out", str(out), *fast]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["classes"] == list(LABELS)
    # Part C names no emotions.
    with_emotions = set(made_up.SETS) - {"casme3-c", *MACROS}
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
    [("samm", 5, 3), ("mmew", 4, 2), ("casme3-a", 7, 3), ("dfme", 7, 2), ("4dme", 5, 2)],
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
