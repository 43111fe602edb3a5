import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data import LABELS
from models.training import Recipe
from tests.tiny_release import write_release
from tools.recognition import evaluate


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), subjects=6, clips=3)


def measure(release: Path, out: Path, *more: str) -> int:
    # STSTNet is the smallest network, and one epoch is enough since it need not learn. But a card
    # takes figures of the deployed recipe only.
    fast = ["--model", "ststnet", *([] if "--card" in more else ["--recipe", "epochs=1"])]
    return evaluate.main(["--data", str(release), "--out", str(out), *fast, *more])


def answers(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def loso(release, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("loso")
    assert measure(release, out, "--seeds", "2") == 0
    return out


def test_every_clip_is_answered_once_a_seed(loso):
    rows = answers(loso)
    assert len(rows) == 2 * 18
    assert {(row["seed"], row["clip"]) for row in rows} == {
        (str(seed), f"p{s}_clip{c}") for seed in range(2) for s in range(6) for c in range(3)
    }
    for row in rows:
        chances = {k: float(row[k]) for k in ("negative", "positive", "surprise")}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-3)
        assert row["answer"] == max(chances, key=chances.__getitem__)


def test_the_summary_is_that_of_the_answers(loso):
    summary = json.loads((loso / "summary.json").read_text())
    assert (summary["protocol"], summary["seeds"]) == ("honest", 2)
    assert summary["split"] == "leave one subject out"
    rows = answers(loso)
    right = [row["answer"] == row["label"] for row in rows]
    assert summary["composite"]["ACC"] == pytest.approx(sum(right) / len(right), abs=1e-4)
    samm = [row["answer"] == row["label"] for row in rows if row["set"] == "samm"]
    assert summary["samm"]["ACC"] == pytest.approx(sum(samm) / len(samm), abs=1e-4)
    assert cv2.imread(str(loso / "confusion.png")) is not None


def test_several_seeds_are_also_measured_together(loso):
    logits = [
        np.concatenate([np.load(loso / f"folds/{seed}-{k}.npy") for k in range(6)])
        for seed in range(2)
    ]
    labels = [row["label"] for row in answers(loso)[:18]]  # in order of subjects, as the folds
    right = [
        LABELS[i] == label for i, label in zip(np.mean(logits, 0).argmax(1), labels, strict=True)
    ]
    together = json.loads((loso / "summary.json").read_text())["ensemble"]
    assert together["members"] == 2
    assert together["composite"]["ACC"] == pytest.approx(np.mean(right), abs=1e-4)
    assert set(together) >= {"casme2", "smic", "samm", "calibration_error"}


def card_of(path: Path, name: str = "ststnet") -> Path:
    path.write_text(json.dumps({"name": name, "temperature": 1.5}))
    return path


def test_the_figures_go_into_a_card(loso, release, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "Recipe", lambda: replace(Recipe(), epochs=1))
    card = card_of(tmp_path / "w.json")
    assert measure(release, loso, "--seeds", "2", "--card", str(card)) == 0
    written = json.loads(card.read_text())
    summary = json.loads((loso / "summary.json").read_text())
    assert written["temperature"] == 1.5
    assert written["loso"]["protocol"] == "honest"
    assert written["loso"]["seeds"] == 2
    for group in ("composite", "casme2", "smic", "samm", "ensemble"):
        assert written["loso"][group] == summary[group]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ststnet", ["--folds", "2"]),
        ("ststnet", ["--test-selected"]),
        ("ststnet", ["--action-units", "1"]),
        ("htnet", []),
    ],
)
def test_other_figures_do_not_go_into_a_card(release, tmp_path, name, change, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "Recipe", lambda: replace(Recipe(), epochs=1))
    card = card_of(tmp_path / "w.json", name)
    before = card.read_text()
    out = tmp_path / "out"
    assert measure(release, out, "--card", str(card), *change) == 2
    assert card.read_text() == before
    assert "card" in capsys.readouterr().err


def test_an_augmentation_can_be_switched_off(release, tmp_path):
    changes = ["--recipe", "epochs=1", "mirror=0", "noise=0"]
    assert measure(release, tmp_path, "--folds", "2", *changes) == 0
    recipe = json.loads((tmp_path / "summary.json").read_text())["recipe"]
    assert (recipe["epochs"], recipe["mirror"], recipe["noise"]) == (1, 0, 0)
    assert recipe["jitter"] > 0


def test_a_stopped_run_continues_where_it_was(loso, release, capsys):
    before = answers(loso)
    kept, lost = loso / "folds/0-1.npy", loso / "folds/0-2.npy"
    written = kept.stat().st_mtime_ns
    lost.unlink()
    assert measure(release, loso, "--seeds", "2") == 0
    assert kept.stat().st_mtime_ns == written
    assert answers(loso) == before


def test_other_settings_need_another_folder(loso, release, capsys):
    assert measure(release, loso, "--members", "2") == 2
    assert "--out" in capsys.readouterr().err


def test_several_jobs_give_the_same_answers(loso, release, tmp_path):
    assert measure(release, tmp_path, "--jobs", "2", "--seeds", "2") == 0
    assert answers(tmp_path) == answers(loso)


def test_folds_of_subjects(release, tmp_path, capsys):
    assert measure(release, tmp_path, "--folds", "2") == 0
    assert len(list((tmp_path / "folds").iterdir())) == 2
    assert "2 folds of subjects" in json.loads((tmp_path / "summary.json").read_text())["split"]
    assert "HONEST" in capsys.readouterr().out


def test_test_selected_figures_are_labelled(release, tmp_path, capsys):
    assert measure(release, tmp_path, "--folds", "2", "--test-selected") == 0
    assert json.loads((tmp_path / "summary.json").read_text())["protocol"] == "test-selected"
    assert "No honest figure" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--folds", "1"], "--folds"),
        (["--seeds", "0"], "--seeds"),
        (["--data", "absent"], "no folder absent"),
        (["--recipe", "mirror"], "--recipe mirror"),
        (["--recipe", "luck=1"], "--recipe luck=1"),
    ],
)
def test_bad_input_ends_with_a_message(release, tmp_path, capsys, change, named):
    assert measure(release, tmp_path, *change) == 2
    assert named in capsys.readouterr().err


def test_an_unwritable_folder_ends_with_a_message(release, tmp_path, capsys):
    taken = tmp_path / "file"
    taken.write_text("")
    assert measure(release, taken / "out") == 2
    assert "--out" in capsys.readouterr().err
