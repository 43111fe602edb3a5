"""Long videos: the published tables become the one that the spotting tools read."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tools.recognition.made_up import write_table
from tools.recognition import prepare
from tools.spotting.annotations import read_data_set

# The table as old Excel saves it.
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def frames(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))


def casme_squared(root):
    rows = [
        [1, "anger1_1", 3, 5, 8, "4", "negative", "micro-expression", "anger"],
        [1, "anger1_2", 10, 12, 0, "4", "negative", "macro-expression", "anger"],
        [2, "happy2_1", 3, 0, 7, "12", "positive", "micro-expression", "happy"],
        [2, "happy9_1", 3, 5, 7, "12", "positive", "micro-expression", "happy"],
    ]
    subjects = [[None, "15", 1], [None, "16", 2]]
    codes = [["0101", "anger1"], ["0502", "happy2"]]
    write_table(root / "code_final.xlsx", rows, subjects, codes)
    frames(root / "rawpic/s15/15_0101disgustingteeth", [f"img{k:03d}.jpg" for k in range(1, 16)])
    frames(root / "rawpic/s16/16_0502funnyerrors", [f"img{k:03d}.jpg" for k in range(1, 10)])


def samm(root):
    rows: list = [[f"note {k}"] for k in range(10)]
    rows += [
        [6, "006_1_1", "", 3, 5, 8, 6, "Macro", "12", ""],
        [6, "006_1_2", "", 10, 12, 14, 5, "Micro - 1/2", "4", ""],
        [7, "007_2_1", "", 10, 12, 14, 5, "Micro - 1/2", "4", ""],
        [6, "006_1_3", "", 16, -1, 17, 5, "other", "4", ""],
    ]
    write_table(root / "SAMM_LongVideos_V3_Release.xlsx", rows)
    header = ["Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame"]
    own = [["notes"], [*header, "Action Units", "Estimated Emotion"]]
    own.append([6, "006_1_2", 10, 12, 14, "4", "Anger"])
    write_table(root / "SAMM_Micro_FACS_Codes_v2.xlsx", own)
    frames(root / "SAMM_longvideos/006_1", [f"006_1_{k:04d}.jpg" for k in range(1, 21)])


def casme3(root):
    header = ["Subject", "Filename", "Onset", "Apex", "Offset", "AU"]
    rows = [
        [*header, "Expression type", "Objective class"],
        ["spNO.1", "a", 3, 5, 8, "4", "Micro-expression", 1],
        ["spNO.1", "A", 10, 12, 19, "12", "Macro-expression", 1],
        ["spNO.9", "z", 10, 12, 19, "12", "Macro-expression", 1],
    ]
    write_table(root / "CAS(ME)3_part_A_v2.xlsx", rows)
    labels = [[*header, "Objective class", "emotion"], ["spNO.1", "a", 3, 5, 8, "4", 1, "Disgust"]]
    write_table(root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", labels)
    frames(root / "part_A/spNO.1/a/color", [f"{k}.jpg" for k in range(1, 21)])


def smic(root):
    header = ["Subject", "Filename", "FirstF", "OnsetF", "OffsetF", "LastF", "TotalMF1"]
    rows = [
        [*header, "TotalVL", "Emotion", "Onset2F", "Offset2F", "TotalMF2", "Onset3F", "Offset3F"],
        [1, "s1_ne_01", 101, 103, 109, 120, 7, 20, "negative", 111, 115, 5, 117, 119],
        ["Notes"],
    ]
    write_table(root / "SMIC-HS-E_annotation_2019.xlsx", rows)
    frames(root / "SMIC-HS-E/s01/s1_ne_01", [f"image{k:06d}.jpg" for k in range(1, 21)])


# Reader, frame rate, and of each event that spotting is scored with: onset, apex, offset from 0,
# and label; micro-expressions first.
CASES = {
    "casme-squared-long": (
        casme_squared,
        30,
        [(2, 4, 7, "negative"), (2, 4, 6, "positive")],
        [(9, 11, 11, "negative")],
        {"no-folder": 1},
    ),
    "samm-long": (
        samm,
        200,
        [(9, 11, 13, "negative")],
        [(2, 4, 7, None)],
        {"no-folder": 1, "no-type": 1},
    ),
    "casme3-long": (
        casme3,
        30,
        [(2, 4, 7, "negative")],
        [(9, 11, 18, None)],
        {"no-folder": 1},
    ),
    "smic-long": (
        smic,
        100,
        [(2, 5, 8, "negative"), (10, 12, 14, "negative"), (16, 17, 18, "negative")],
        [],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_spotting_tools_read_what_is_prepared(name, tmp_path, capsys):
    make, fps, micros, macros, left_out = CASES[name]
    make(tmp_path)
    out = tmp_path / "out"
    assert prepare.main([name, str(tmp_path), "--out", str(out)]) == 0
    assert f"--fps {fps}" in " ".join(capsys.readouterr().out.split())
    recordings = read_data_set(out / "annotations.csv", tmp_path, fps)

    def events(kind):
        marked = [e for recording in recordings for e in getattr(recording, kind)]
        return [(e.onset, e.apex, e.offset, e.label) for e in marked]

    assert events("micros") == micros
    assert events("macros") == macros
    with (out / "left_out.csv").open(newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert {reason: reasons.count(reason) for reason in reasons} == left_out


def test_what_was_put_right_is_told(tmp_path):
    samm(tmp_path)
    assert prepare.main(["samm-long", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out/corrections.csv").open(newline="") as file:
        told = {(row["row"], row["rule"]) for row in csv.DictReader(file)}
    assert ("12", "several-events") in told
    assert ("11", "number-for-name") in told


def test_an_old_excel_table_is_read_as_it_is(tmp_path):
    casme3(tmp_path)
    (tmp_path / "CAS(ME)3_part_A_v2.xlsx").unlink()
    shutil.copy(FIXTURES / "casme3_part_a.xls", tmp_path / "CAS(ME)3_part_A_v2.xls")
    assert prepare.main(["casme3-long", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    (recording,) = read_data_set(tmp_path / "out/annotations.csv", tmp_path, 30)
    assert [(e.onset, e.apex, e.offset) for e in recording.micros] == [(2, 4, 7)]
    assert len(recording.macros) == 1


def test_a_damaged_old_excel_table_is_named(tmp_path, capsys):
    casme3(tmp_path)
    (tmp_path / "CAS(ME)3_part_A_v2.xlsx").rename(tmp_path / "CAS(ME)3_part_A_v2.xls")
    assert prepare.main(["casme3-long", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "CAS(ME)3_part_A_v2.xls" in " ".join(capsys.readouterr().err.split())
