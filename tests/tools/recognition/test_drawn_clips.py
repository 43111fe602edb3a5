"""Drawn expressions on photos: what is drawn is what the runtime's flow finds."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data import ACTION_UNITS, LABELS
from realtime_mer.demo.action_units import UNITS, expression
from realtime_mer.errors import InputError
from realtime_mer.face.tracker import detect_face_mesh
from tests.tiny_release import write_release
from tools.recognition import drawn_clips as module
from tools.recognition import evaluate, naming, nearest_clips, train
from tools.recognition.drawn_clips import (
    CLEAR,
    FURTHER,
    DrawnClips,
    drawn_clips,
    main,
    read_drawn_clips,
    write_drawn_clips,
)
from tools.recognition.export import NETWORK
from tools.recognition.face_kit import FaceKit

# Rows and columns of brows and corners of the mouth in flow images, of an upright face.
BROWS = (slice(5, 9), slice(6, 25))
CORNERS = (slice(20, 24), slice(8, 23))


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut) -> Path:
    """A folder with one photo of a face and one without."""
    folder = tmp_path_factory.mktemp("photos")
    cv2.imwrite(str(folder / "face.png"), astronaut)
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 200, 3), 128, np.uint8))
    return folder


@pytest.fixture(scope="module")
def drawn(photos, tmp_path_factory) -> Path:
    """A file of six clips, two of each class."""
    few = {label: several[:1] for label, several in CLEAR.items()}
    out = tmp_path_factory.mktemp("drawn") / "drawn.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CLEAR", few)
        assert main(["--photos", str(photos), "--out", str(out)]) == 0
    return out


def test_every_combination_is_drawn_and_tested_for_one_class_only():
    learned, tested = (
        [units for several in of.values() for units in several] for of in (CLEAR, FURTHER)
    )
    assert len({frozenset(units) for units in learned + tested}) == len(learned) + len(tested)
    assert {unit for units in learned + tested for unit in units} <= set(UNITS)
    assert set(CLEAR) == set(FURTHER) == set(LABELS)


def test_clips_say_what_they_show(drawn):
    clips = read_drawn_clips(drawn)
    assert clips.pairs.shape == (6, 2, 28, 28, 3)
    assert [LABELS[label] for label in clips.labels] == [label for label in LABELS for _ in "ab"]
    assert list(clips.units) == ["AU4"] * 2 + ["AU12"] * 2 + ["AU1+AU2"] * 2
    assert set(clips.photos) == {"face.png"}
    assert np.abs(clips.turns).max() <= 20
    assert len(np.unique(clips.turns)) == 6


def test_the_same_seed_makes_the_same_clips(photos, drawn, tmp_path, monkeypatch):
    one = {"negative": CLEAR["negative"][:1], "positive": (), "surprise": ()}
    monkeypatch.setattr(module, "CLEAR", one)
    again = tmp_path / "again.npz"
    assert main(["--photos", str(photos), "--out", str(again), "--takes", "1"]) == 0
    np.testing.assert_array_equal(
        read_drawn_clips(again).pairs[0], read_drawn_clips(drawn).pairs[0]
    )


@pytest.mark.parametrize("turn", [-20.0, 0.0, 20.0])
def test_the_flow_shows_the_motion_also_on_a_turned_head(astronaut, landmark_model, turn):
    mesh = detect_face_mesh(astronaut, landmark_model)
    rng = np.random.default_rng(0)
    sitter = module.Sitter(astronaut, mesh, rng)
    pair = sitter.pair(expression(("AU1", "AU2"), rng), 3.0, turn, rng).astype(float)
    rise, fall = pair[..., 1]
    middle = np.median(rise)
    assert rise[BROWS].mean() < middle - 40  # upwards
    assert abs(rise[CORNERS].mean() - middle) < 25
    assert fall[BROWS].mean() > np.median(fall) + 20


def test_beside_drawn_clips_the_others_keep_their_action_units(drawn):
    units = np.ones((6, len(ACTION_UNITS)), np.int8)
    real = replace(read_drawn_clips(drawn).clips(), sets=np.full(6, "casme2"), units=units)
    together, _ = evaluate.with_drawn(real, drawn, NETWORK)
    assert list(together.drawn) == [False] * 6 + [True] * 6
    assert (together.units[:6] == 1).all()
    assert (together.units[6:] == -1).all()


def test_files_that_hold_no_drawn_clips_are_refused(drawn, tmp_path):
    other = tmp_path / "other.npz"
    for path in (tmp_path / "missing.npz", tmp_path, Path(__file__)):
        with pytest.raises(InputError):
            read_drawn_clips(path)
    np.savez(other, pairs=np.zeros(3))
    with pytest.raises(InputError, match="no drawn clips"):
        read_drawn_clips(other)
    with np.load(drawn) as file:
        np.savez(other, **{**file, "labels": file["labels"] + 7})
    with pytest.raises(InputError, match="negative"):
        read_drawn_clips(other)


def test_photos_without_a_face_are_refused(photos, tmp_path, capsys):
    (tmp_path / "wall.png").write_bytes((photos / "wall.png").read_bytes())
    assert main(["--photos", str(tmp_path), "--out", str(tmp_path / "x.npz")]) == 2
    assert "no photo shows a face" in capsys.readouterr().err


# Learning from drawn clips


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), subjects=3, clips=3)


def test_drawn_clips_train_and_are_never_answered(release, drawn, tmp_path):
    fast = ["--model", "ststnet", "--recipe", "epochs=3", "batch=3", "drawn_batch=2"]
    each = {}
    for name, more in (("with", ["--drawn", str(drawn)]), ("without", [])):
        out = tmp_path / name
        assert evaluate.main(["--data", str(release), "--out", str(out), *fast, *more]) == 0
        each[name] = (out / "predictions.csv").read_text().splitlines()
        summary = json.loads((out / "summary.json").read_text())
        assert summary["sets"] == ["casme2", "smic", "samm"]
        assert ("drawn" in summary) == (name == "with")
    assert len(each["with"]) == len(each["without"]) == 1 + 9
    assert each["with"] != each["without"]


def test_a_run_with_other_drawn_clips_is_not_continued(release, drawn, tmp_path, capsys):
    fast = ["--model", "ststnet", "--recipe", "epochs=1", "--drawn", str(drawn)]
    command = ["--data", str(release), "--out", str(tmp_path / "out"), *fast]
    assert evaluate.main(command) == 0
    clips = read_drawn_clips(drawn)
    clips.pairs[0, 0, 0, 0, 0] ^= 1
    write_drawn_clips(drawn.with_name("other.npz"), clips)
    command[-1] = str(drawn.with_name("other.npz"))
    assert evaluate.main(command) == 2
    assert "other settings" in capsys.readouterr().err


def test_the_card_tells_of_drawn_clips(release, drawn, tmp_path, capsys):
    out = tmp_path / "drawn.onnx"
    fast = ["--epochs", "1", "--folds", "2", "--members", "1", "--drawn", str(drawn)]
    fast += ["--checkpoint", str(tmp_path / "drawn.pt")]
    assert train.main(["--data", str(release), "--out", str(out), *fast]) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["trained_on"]["clips"] == 9
    assert card["trained_on"]["drawn"]["clips"] == 6
    assert card["trained_on"]["drawn"]["photos"] == 1
    assert naming.main([str(drawn), "--weights", str(out)]) == 0
    # Which of the 9 clips are nearest to the drawn ones, as a table.
    of = ["--data", str(release), "--checkpoint", str(tmp_path / "drawn.pt")]
    assert nearest_clips.main([str(drawn), *of]) == 0
    shown = capsys.readouterr().out
    assert "AU1+AU2" in shown
    assert "casme2, surprise" in shown


def test_nearest_clips_are_those_in_the_same_direction_from_the_mean():
    trained = np.array([[3.0, 0.1], [0.0, 2.0], [-3.0, -2.1]])
    drawn = np.array([[0.1, 1.0], [9.0, 0.0]])
    assert nearest_clips.nearest(drawn, trained, 1).tolist() == [[1], [0]]


def test_figures_of_other_drawn_clips_do_not_go_into_a_card(tmp_path):
    group = {"UF1": 0.7, "UAR": 0.7, "ACC": 0.7}
    summary = {
        **{"model": "ststnet", "protocol": "honest", "split": "leave one subject out"},
        **dict.fromkeys(("composite", "casme2", "smic", "samm", "spread"), group),
        **{"seeds": 1, "calibration_error": 0.1, "classes": list(LABELS), "drawn": "abc"},
    }
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"name": "ststnet", "trained_on": {"drawn": {"sha256": "def"}}}))
    with pytest.raises(InputError, match="other drawn clips"):
        evaluate.write_into_card(card, summary)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match="other drawn clips"):
        train.figures_of(tmp_path / "summary.json", "ststnet")
    card.write_text(json.dumps({"name": "ststnet", "trained_on": {"drawn": {"sha256": "abc"}}}))
    evaluate.write_into_card(card, summary)
    assert json.loads(card.read_text())["loso"]["composite"] == group


# How drawn clips are named


def test_naming_counts_right_answers_by_units_and_by_class():
    labels = np.array([0, 0, 1, 1, 1, 1])
    clips = DrawnClips(
        pairs=np.zeros((6, 2, 28, 28, 3), np.uint8),
        labels=labels,
        units=np.array(["AU4", "AU4", "AU12", "AU12", "AU6+AU12", "AU6+AU12"]),
        photos=np.array(["a"] * 6),
        turns=np.array([0, -10, 19, 1, 2, 3], np.float32),
        peaks=np.full(6, 2.0, np.float32),
    )
    answers = np.array([0, 0, 1, 1, 0, 1])
    summary = naming.summarize(clips, np.eye(3)[answers])
    assert summary["classes"] == {"negative": 1.0, "positive": 0.75}
    assert summary["accuracy"] == 0.875
    rows = {(row["label"], row["group"]): row for row in summary["rows"]}
    assert rows["positive", "AU6+AU12"]["accuracy"] == 0.5
    assert rows["positive", "AU6+AU12"]["negative"] == 1
    assert rows["", "7 to 14 degrees"]["clips"] == 1


# The face kit


def write_kit(folder: Path) -> None:
    """A flat face of as many vertices as the kit's; a smile lifts the corners of its mouth."""
    shapes = folder / "FaceXModel"
    shapes.mkdir()
    x, y = np.meshgrid(np.linspace(-80, 80, 70), np.linspace(-100, 100, 96))
    still = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])[:6706]
    # Multi-PIE's landmarks that are needed: (x, y), y up, of a face whose eyes are 95 apart.
    marks = {36: (-60, 30), 39: (-35, 30), 42: (35, 30), 45: (60, 30), 30: (-2, -20)}
    marks |= {48: (-40, -57), 54: (40, -57), 19: (-45, 60), 24: (45, 60)}
    marks |= {31: (-15, -22), 35: (15, -22), 57: (0, -75)}
    nearest = [int(np.hypot(*(still[:, :2] - marks.get(i, (0, 0))).T).argmin()) for i in range(68)]
    (shapes / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": nearest}))
    moved = {"generic_neutral_mesh": still}
    for side, sign in (("L", 1), ("R", -1)):
        away = np.hypot(*(still[:, :2] - (sign * 40, -57)).T)
        moved[f"mouthSmile_{side}"] = still + np.exp(-((away / 20) ** 2))[:, None] * (sign, 1, 0)
    for name, vertices in moved.items():
        lines = [f"v {a:.4f} {b:.4f} {c:.4f}" for a, b, c in vertices]
        (shapes / f"{name}.obj").write_text("# a comment\n" + "\n".join(lines) + "\n")


def test_the_face_kit_moves_the_face_as_its_shapes_do(tmp_path):
    write_kit(tmp_path)
    field = FaceKit(tmp_path)(("AU12",), np.random.default_rng(0))
    assert np.percentile(np.linalg.norm(field, axis=-1), 99) == pytest.approx(1, abs=1e-3)
    for x, outwards in ((82, -1), (165, 1)):
        u, v = field[177, x]
        assert u * outwards > 0.5  # away from the middle
        assert v < -0.5  # and up
    assert np.abs(field[60]).max() < 0.05


def test_a_folder_without_a_face_kit_is_refused(tmp_path):
    with pytest.raises(InputError, match="ICT-FaceKit"):
        FaceKit(tmp_path)
    write_kit(tmp_path)
    with pytest.raises(InputError, match="browDown"):
        FaceKit(tmp_path)(("AU4",), np.random.default_rng(0))


def test_drawn_clips_may_be_drawn_by_others(astronaut, landmark_model):
    mesh = detect_face_mesh(astronaut, landmark_model)
    asked = []

    def draw(units, rng):
        asked.append(tuple(units))
        return expression(units, rng)

    rng = np.random.default_rng(0)
    clips = drawn_clips([("face", astronaut, mesh)], {"surprise": [("AU1", "AU2")]}, 1, rng, draw)
    assert asked == [("AU1", "AU2")]
    assert list(clips.labels) == [2]
