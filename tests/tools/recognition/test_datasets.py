"""The readers of data sets: rows of the published form, and each of their errors told by name."""

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_mer.errors import InputError
from tests.tools.recognition.made_up import write_table
from tools.recognition.datasets.catalogue import CLIPS
from tools.recognition.datasets.clip import MOTION, Conventions, Correction, key_frames
from tools.recognition.datasets.labels import action_units_of, composite_label, own_label
from tools.recognition.datasets.rules import REASONS, RULES, LeaveOut
from tools.recognition.datasets.table import Row, read_rows, read_sheets
from tools.recognition.datasets.tree import FrameFolder, Tree


@pytest.fixture(scope="module")
def readings(made_up_sets):
    return {
        name: CLIPS[name](Tree(folder), None, None) for name, (folder, _) in made_up_sets.items()
    }


def clip_of(reading, key):
    return next(clip for clip in reading.clips if clip.key == key)


def rules_of(clip):
    return {applied.rule for applied in clip.applied}


@pytest.mark.parametrize("name", CLIPS)
def test_every_clip_with_frames_is_read_and_no_other(name, readings, made_up_sets):
    assert [c.key for c in readings[name].clips] == [shown.key for shown in made_up_sets[name][1]]
    for clip in readings[name].clips:
        assert clip.dataset == name
        assert {clip.onset, clip.offset} <= set(clip.folder.numbers())


# Key, (onset, apex, offset), emotion, composite class, class of the set, action units.
@pytest.mark.parametrize(
    ("name", "key", "frames", "classes", "units"),
    [
        ("casme2", "sub01_EP02_01f", (46, 49, 52), ("positive", "happiness"), ("AU12",)),
        ("casme2", "sub09_ep06_02f", (85, 88, 91), ("negative", "repression"), ("AU15",)),
        ("casme2", "sub04_EP12_01f", (46, 49, 52), (None, "disgust"), ("AU4", "AU7R")),
        ("smic", "s01_s1_ne_01", (34110, 34113, 34116), ("negative", None), ()),
        ("smic-e", "s01_s1_ne_01", (3, 6, 9), ("negative", None), ()),
        ("smic-e", "s01_s1_ne_01_2", (13, 16, 19), ("negative", None), ()),
        ("samm", "016_016_1_6", (5733, 5736, 5739), ("negative", "anger"), ("AU4L", "AU15R")),
        ("samm", "006_006_1_2", (5562, 5565, 5568), ("positive", "happiness"), ()),
        ("mmew", "mmew-S03_S03-01-002", (1, 4, 7), ("negative", "disgust"), ("AU4", "AU7")),
        ("mmew", "mmew-S05_S05-03-001", (1, None, 7), ("surprise", "surprise"), ("AU1", "AU2")),
        ("casme3-a", "spNO.1_a", (3, 6, 9), ("negative", "disgust"), ("AU4L", "AU7R")),
        ("casme3-a", "spNO.1_a_2", (20, 23, 26), ("positive", "happiness"), ("AU12",)),
        ("casme3-a", "spNO.2_b", (3, 5, 9), ("negative", "sadness"), ("AU15",)),
        ("mmew-macro", "mmew-S03_S03-01-001", (1, 2, 3), ("negative", None), ()),
        ("mmew-macro", "mmew-S05_S05-02-001", (1, 2, 3), ("positive", "happiness"), ()),
        ("casme3-a-macro", "spNO.2_b", (3, 7, 9), ("negative", "sadness"), ("AU15",)),
        ("casme3-c", "casme3c-01_2", (3, 6, 9), (None, None), ("AU1", "AU2")),
        ("4dme", "4dme-7_smile", (1, 4, 7), ("positive", "positive"), ("AU12",)),
        ("4dme", "4dme-8_frown", (1, 4, 7), ("negative", "negative"), ("AU4",)),
        ("dfme", "dfme-sub0003_sub0003_01", (1, 4, 7), ("positive", "happiness"), ("AU12",)),
        ("dfme", "dfme-sub0004_sub0004_07", (1, 4, 7), ("negative", "sadness"), ("AU15",)),
    ],
)
def test_a_row_is_read_with_its_errors_put_right(readings, name, key, frames, classes, units):
    clip = clip_of(readings[name], key)
    assert (clip.onset, clip.apex, clip.offset) == frames
    assert (clip.composite, clip.own_class) == classes
    assert clip.action_units == units


@pytest.mark.parametrize("name", CLIPS)
def test_each_error_that_was_put_right_is_told(name, readings, made_up_sets):
    for shown in made_up_sets[name][1]:
        assert rules_of(clip_of(readings[name], shown.key)) == shown.rules, shown.key


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("casme2", 5, "same-again"),
        ("casme2", 6, "no-folder"),
        ("smic", 4, "no-folder"),
        ("samm", 17, "no-folder"),
        ("casme3-a-macro", 4, "no-pictures"),
        ("casme3-a", 5, "no-pictures"),
        ("casme3-a", 6, "no-interval"),
    ],
)
def test_each_row_that_is_left_out_has_its_reason(readings, name, row, reason):
    (out,) = (out for out in readings[name].left_out if out.row == row)
    assert out.reason == reason
    assert out.table in readings[name].tables


@pytest.mark.parametrize("name", ["casme2", "samm", "mmew", "casme3-a", "4dme"])
def test_no_row_of_a_table_is_lost(readings, made_up_sets, name):
    (table,) = (t for t in Tree(made_up_sets[name][0]).tables)
    rows = len([r for r in read_sheets(table)[0] if len([c for c in r if c is not None]) > 3]) - 1
    assert len(readings[name].clips) + len(readings[name].left_out) == rows


def test_a_macro_expression_without_a_still_face_of_the_person_is_left_out(readings):
    (out,) = readings["mmew-macro"].left_out
    assert (out.subject, out.name, out.reason) == ("mmew-S09", "S09-03-001", "no-neutral")


def test_rules_and_reasons_are_all_explained(readings):
    for reading in readings.values():
        assert {a.rule for clip in reading.clips for a in clip.applied} <= set(RULES)
        assert {out.reason for out in reading.left_out} <= set(REASONS)


def test_possible_action_units_are_kept_apart(readings):
    assert clip_of(readings["samm"], "006_006_1_2").possible_action_units == ("AU12", "AU14")
    assert clip_of(readings["4dme"], "4dme-7_smile").possible_action_units == ("AU7",)


@pytest.mark.parametrize(
    ("text", "sure", "possible"),
    [
        ("12", ("AU12",), ()),
        ("AU4+AU7", ("AU4", "AU7"), ()),
        ("R12 + L14A", ("AU12R", "AU14L"), ()),
        ("AU12R + 4L", ("AU12R", "AU4L"), ()),
        ("1，2", ("AU1", "AU2"), ()),
        ("4+7(k)", ("AU4",), ("AU7",)),
        ("R12 or R15", (), ("AU12R", "AU15R")),
        ("?", (), ()),
        ("", (), ()),
    ],
)
def test_action_units_in_their_spellings(text, sure, possible):
    assert action_units_of(text)[:2] == (sure, possible)


@pytest.mark.parametrize(
    ("dataset", "emotion", "composite", "own"),
    [
        ("casme2", "sadness", None, None),
        ("casme2", "others", None, "others"),
        ("samm", "sadness", "negative", None),
        ("samm", "contempt", "negative", "contempt"),
        ("mmew", "anger", "negative", None),
        ("mmew", "disgust", "negative", "disgust"),
        ("4dme", "negative+repression", "negative", None),
        ("4dme", "positive+negative", None, None),
        ("casme3-a", "others", None, "others"),
        ("dfme", "contempt", "negative", "contempt"),
    ],
)
def test_classes_of_emotions(dataset, emotion, composite, own):
    assert (composite_label(dataset, emotion), own_label(dataset, emotion)) == (composite, own)


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"PK\x03\x04 broken", "no table, or damaged"), (b"", "no table, or damaged")],
)
def test_a_damaged_table_is_named(tmp_path, content, named):
    path = tmp_path / "table.xlsx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=named):
        read_sheets(path)


def test_cells_outside_of_the_dimensions_that_a_table_states_are_read(tmp_path):
    rows = [("Subject", "Filename"), (1, "EP02_01f")]
    right = write_table(tmp_path / "right.xlsx", rows)
    wrong = tmp_path / "wrong.xlsx"
    with ZipFile(right) as source, ZipFile(wrong, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'ref="A1:B2"', b'ref="A1"'))
    assert read_sheets(wrong) == read_sheets(right) == [rows]


def test_a_table_without_its_columns_is_named(tmp_path):
    path = write_table(tmp_path / "table.xlsx", [["a", "b"], [1, 2]])
    with pytest.raises(InputError, match="no row that names the columns subject"):
        read_rows(path, {"subject": ("subject",)}, ("subject",))


def test_a_folder_without_its_table_says_which_one_it_needs(tmp_path):
    for name, read in CLIPS.items():
        needs = r"holds no table like .*\.xlsx" if name != "smic" else "holds no folders like HS/"
        with pytest.raises(InputError, match=needs):
            read(Tree(tmp_path), None, None)
    with pytest.raises(InputError, match="there is no folder"):
        Tree(tmp_path / "absent")


def test_a_missing_picture_is_not_replaced_by_one_far_away(made_up_sets, tmp_path):
    rows = [
        ["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"],
        ["spNO.1", "a", 12, 23, 26, "12", 1, "happy"],  # 11 is the last before 20
        ["spNO.1", "a", 15, 23, 26, "12", 1, "happy"],
    ]
    table = write_table(tmp_path / "part_A_ME_label.xlsx", rows)
    folder, _ = made_up_sets["casme3-a"]
    reading = CLIPS["casme3-a"](Tree(folder), table, None)
    assert [clip.onset for clip in reading.clips] == [11]
    assert [out.reason for out in reading.left_out] == ["no-pictures"]


@pytest.mark.parametrize(
    ("name", "inside"), [("mmew", "Micro_Expression"), ("4dme", "gray_micro"), ("smic", "HS")]
)
def test_the_folder_may_be_one_inside_of_the_set(made_up_sets, readings, name, inside):
    folder, _ = made_up_sets[name]
    (table,) = Tree(folder).tables
    reading = CLIPS[name](Tree(folder / inside), table, None)
    assert [clip.key for clip in reading.clips] == [clip.key for clip in readings[name].clips]


def test_other_cameras_of_smic_are_not_taken_for_hs(tmp_path):
    for camera in ("HS", "NIR", "VIS"):
        clip = tmp_path / camera / "s1/micro/negative/s1_ne_01"
        clip.mkdir(parents=True)
        for number in range(3):
            (clip / f"image{number:06d}.bmp").touch()
    (clip,) = CLIPS["smic"](Tree(tmp_path), None, None).clips
    assert clip.folder.parts[0] == "HS"


class Pictures(FrameFolder):
    """A folder whose pictures have the numbers in its name."""

    def numbers(self):
        return dict.fromkeys(map(int, self.parts[-1].split()), self.path)


CELLS = st.one_of(st.none(), st.sampled_from(["/", "", "x", 1.5]), st.integers(-3, 40))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    cells=st.fixed_dictionaries(dict.fromkeys(("onset", "apex", "offset"), CELLS)),
    pictures=st.sets(st.integers(1, 30), min_size=1),
    index=st.integers(0, 1),
    own=st.booleans(),
    apex=st.booleans(),
)
def test_whatever_a_row_says_its_key_frames_have_pictures_or_it_is_left_out(
    cells, pictures, index, own, apex
):
    known = (Correction(1, "offset", 9), Correction(1, "apex", 5), Correction(1, "onset", 3))
    folder = Pictures(Path(), (" ".join(map(str, sorted(pictures))),))
    row = Row("table.xlsx", index + 2, index, cells)
    try:
        frames = key_frames(row, folder, Conventions(200, apex, own, known))
    except LeaveOut as out:
        frames, reason = None, out.reason
    if frames is None:
        assert reason in REASONS
        return
    assert frames.onset < frames.offset
    assert {frames.onset, frames.offset} <= pictures
    if frames.apex is None:
        assert frames.apex_from == MOTION
    else:
        assert frames.onset <= frames.apex <= frames.offset
        assert frames.apex in pictures
    # What is not as the table says is told.
    same = [frames.onset, frames.apex, frames.offset] == [
        cells[name] for name in ("onset", "apex", "offset")
    ]
    assert same or frames.applied
    assert {applied.rule for applied in frames.applied} <= set(RULES)


def test_the_published_frame_rates_hold_unless_another_is_named(made_up_sets):
    folder, _ = made_up_sets["casme3-c"]
    assert CLIPS["casme3-c"](Tree(folder), None, None).clips[0].fps == 30
    assert CLIPS["casme3-c"](Tree(folder), None, 25.0).clips[0].fps == 25
    folder, _ = made_up_sets["dfme"]
    assert CLIPS["dfme"](Tree(folder), None, None).clips[0].fps is None
    assert np.isfinite(CLIPS["dfme"](Tree(folder), None, 300.0).clips[0].fps)
