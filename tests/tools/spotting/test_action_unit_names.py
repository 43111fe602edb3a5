"""Names of action units are learned on photos, tested in clips, and kept if they are right."""

import json

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import UNITS
from realtime_mer.spotting.action_units import FEATURES
from tools.spotting import action_unit_names
from tools.spotting.action_unit_names import (
    Counts,
    Samples,
    counts,
    drawn,
    learned,
    main,
    rows_of,
    shown,
)


def test_drawn_motions_have_the_units_that_they_say():
    rng = np.random.default_rng(0)
    motions = [drawn(rng, np.arange(224, dtype=np.float32)) for _ in range(60)]
    assert {name for m in motions for name in m.units} == set(UNITS)
    sizes = [np.percentile(np.linalg.norm(m.field, axis=-1), 99) for m in motions]
    assert min(sizes) >= 0.79
    assert max(sizes) <= 4.01
    one_sided = [m for m in motions if list(m.units.values()) in (["left"], ["right"])]
    assert one_sided
    for motion in one_sided:
        left, right = (np.abs(half).sum() for half in np.hsplit(motion.field, [123]))
        assert (left > 3 * right) == ("left" in motion.units.values())


def test_units_are_drawn_where_the_face_has_its_brows():
    landmarks = np.zeros((478, 2))
    for points, row in action_unit_names._ROWS:
        landmarks[list(points), 1] = row
    np.testing.assert_allclose(rows_of(landmarks), np.arange(224), atol=1e-4)
    landmarks[[105, 334], 1] -= 6
    # What is drawn 6 px lower belongs to its higher brows.
    assert rows_of(landmarks)[44] == pytest.approx(50)
    assert rows_of(landmarks)[200] == pytest.approx(200)


def test_counts_tell_rightly_named_units_and_sides():
    there = np.array([[1, 1], [1, 0], [0, 0], [0, 1], [0, 0]], bool)
    probabilities = np.array([[0.9, 0.4], [0.8, 0.4], [0.7, 0.1], [0.1, 0.3], [0.2, 0.2]])
    found = counts(probabilities, there, threshold=0.5, both=0.3)
    assert found == Counts(there=3, named=3, right=2, side_right=1)
    assert found.precision == found.recall == pytest.approx(2 / 3)
    assert not found.passes


def test_a_unit_is_learned_on_either_side_of_the_face(monkeypatch):
    monkeypatch.setattr(action_unit_names, "UNITS", ("AU2", "AU17"))
    monkeypatch.setattr(action_unit_names, "_FOLDS", 2)
    rng = np.random.default_rng(0)
    there = rng.uniform(size=(200, 2, 2)) < 0.3
    there[:, 1, 1] = there[:, 0, 1]  # AU17 has no sides
    seen = rng.normal(0, 0.1, (200, 2, FEATURES))
    # The first feature of the face, and that of its mirror image.
    seen[..., :2] += there
    for function, on_others in learned(Samples(seen, there, np.arange(200) % 10)):
        assert function.sided == (function.name == "AU2")
        assert on_others.passes
        assert on_others.side_right > 0.9 * on_others.right
        column = ["AU2", "AU17"].index(function.name)
        assert np.abs(function.weights).argmax() == column


def test_a_motion_is_shown_on_the_halves_it_is_drawn_on():
    right, left = shown({"AU2": "left", "AU12": "both"})
    assert [name for name, is_there in zip(UNITS, left, strict=True) if is_there] == ["AU2", "AU12"]
    assert [name for name, is_there in zip(UNITS, right, strict=True) if is_there] == ["AU12"]


@pytest.fixture
def photos(tmp_path, astronaut):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "someone.png"), astronaut)
    return folder


def test_the_runtime_is_tested_and_the_table_tells_every_unit(
    tmp_path, photos, monkeypatch, capsys
):
    monkeypatch.setattr(action_unit_names, "_LENGTH_S", 3.5)
    monkeypatch.setattr(action_unit_names, "_FOLDS", 2)
    out = tmp_path / "units.json"
    arguments = ["--photos", str(photos), "--test-photos", str(photos), "--samples", "4"]
    assert main([*arguments, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "1 photos to learn from, 1 to test: of " in told
    assert all(name in told for name in UNITS)
    # Nobody learns a unit from four motions.
    assert json.loads(out.read_text())["units"] == []


def test_a_folder_without_a_face_is_told(tmp_path, photos, capsys):
    cv2.imwrite(str(photos / "someone.png"), np.zeros((60, 60, 3), np.uint8))
    assert main(["--photos", str(photos), "--test-photos", str(photos)]) == 2
    assert "no photo of a face in" in capsys.readouterr().err
