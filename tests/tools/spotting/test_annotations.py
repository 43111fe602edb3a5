"""Annotations: the tables of data sets, and which video each row belongs to."""

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from tools.spotting.annotations import read_data_set, read_truth


def make_video(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"only its name matters here")


def make_frames(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"

    def write(*lines):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
        return path

    return write


def frames_of(annotation):
    return annotation.onset, annotation.apex, annotation.offset


def test_truth_is_read_in_frames(table):
    (event,) = read_truth(table("onset,apex,offset,label", "30,36,45,surprise"))
    interval = event.at(30.0).interval
    assert (interval.onset_s, interval.offset_s) == (1.0, 1.5)
    assert event.label == "surprise"


@pytest.mark.parametrize(("cell", "masking"), [(",0.4", 0.4), (",0", 0.0), (",", None), ("", None)])
def test_masking_is_read_where_it_is_known(table, cell, masking):
    (event,) = read_truth(table("onset,apex,offset,label,masking", f"30,36,45,surprise{cell}"))
    assert event.masking == event.at(30.0).masking == masking


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("onset,apex,offset,masking\n1,2,3,much\n", "row 2 .* is no interval: .*much"),
        ("onset,apex,offset,masking\n1,2,3,-1\n", "masking is -1, less than 0"),
        ("onset,offset\n1,2\n", "lacks the column apex"),
        ("onset,apex,offset\n5,3,9\n", "row 2 .* is no interval"),
        ("onset,apex,offset\n5,6\n", "row 2 .* is no interval"),
        ("", "lacks the column onset"),
        ("onset,apex,offset\n1,2,inf\n", "row 2 .* is no interval: offset is inf"),
        ("onset,apex,offset\n1,2,nan\n", "row 2 .* is no interval"),
        ('onset,apex,offset\n"1,5",2,3\n', "row 2 .* is no interval"),
        ("onset;apex;offset\n1,5;2;3\n\n1.500,5;2;3\n", "row 4 .*truth.csv is no interval"),
        ("PK\x03\x04\0\0", "truth.csv is no CSV: save the table as CSV in UTF-8"),
        ("onset,apex,offset\n\x8d,", "truth.csv is no CSV"),
        ('onset,apex,offset\n1,2,"3' + 200_000 * "3", "row 2 of .*truth.csv is no CSV"),
    ],
)
def test_a_truth_that_is_none_is_named(tmp_path, text, word):
    path = tmp_path / "truth.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=word):
        read_truth(path)


@pytest.mark.parametrize(
    ("separator", "encoding", "ends"),
    [
        (",", "utf-8", "\n"),
        # Excel: CSV UTF-8, CSV, Unicode text, CSV (Macintosh).
        (";", "utf-8-sig", "\r\n"),
        (";", "cp1252", "\r\n"),
        ("\t", "utf-16", "\r\n"),
        ("\t", "utf-16-be", "\r\n"),
        (";", "mac-roman", "\r"),
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_truth_is_read_in_every_form_in_which_excel_saves_it(
    tmp_path, separator, encoding, ends, told
):
    point = "." if separator == "," else ","
    rows = [
        *([f"sep={separator}"] if told else []),
        separator.join(("Überschrift", "Onset", "Apex", "Offset", "Label")),
        separator.join(("ä", f"30{point}5", "36", f"45{point}0", "surprise")),
        "",
        separator * 4,
        "",
    ]
    path = tmp_path / "truth.csv"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(mark + ends.join(rows).encode(encoding))
    (event,) = read_truth(path)
    assert (*frames_of(event), event.label) == (30.5, 36, 45, "surprise")


def test_data_set_with_semicolons_and_decimal_commas(tmp_path):
    make_video(tmp_path / "in/s1/Vide\u0301o.avi")
    path = tmp_path / "table.csv"
    path.write_text("\nsubject;video;onset;apex;offset;type\n1;Vidéo;1,0;2,;3;micro\n", "utf-8")
    (only,) = read_data_set(path, tmp_path / "in")
    assert [frames_of(a) for a in only.micros] == [(0, 1, 2)]


def test_casme_squared(tmp_path, table):
    make_video(tmp_path / "rawvideo/s15/15_0101disgustingteeth.avi")
    make_video(tmp_path / "rawvideo/s15/15_0401girlcrashing.avi")
    make_video(tmp_path / "rawvideo/s16/16_0101disgustingteeth.avi")
    rows = table(
        "subject,video,onset,apex,offset,au,emotion,type,selfReport",
        "s15,0101,557,572,608,4+7,disgust,macro-expression,disgust",
        "15,101,91,0,102,4,others,micro-expression,anger",
        "15,15_0101,301,305,0,12,happiness,micro-expression,happiness",
    )
    first, second, third = read_data_set(rows, tmp_path / "rawvideo")
    assert first.name == "s15/15_0101disgustingteeth.avi"
    # Files are numbered from 1; an unknown apex is the middle, an unknown offset the apex.
    assert [frames_of(a) for a in first.micros] == [(90, 95, 101), (300, 304, 304)]
    assert [a.label for a in first.micros] == [None, "positive"]
    assert [frames_of(a) for a in first.macros] == [(556, 571, 607)]
    # The others show nothing, and count.
    assert (second.micros, third.micros, third.macros) == ((), (), ())


def test_samm_long_videos(tmp_path, table):
    make_frames(tmp_path / "long/006_1", [f"006_1_{n:04}.jpg" for n in range(1, 30)])
    make_frames(tmp_path / "long/006_11", ["006_11_0001.jpg"])
    rows = table(
        "Subject,Filename,Inducement Code,Onset,Apex,Offset,Duration,Type,Action Units,Notes",
        "6,006_1_2,1,3,6,12,10,Micro - 1/2,4,",
        "6,006_1_11,1,20,-,22,3,Macro,12,",
        ",,,,,,,,,",
    )
    first, second = read_data_set(rows, tmp_path / "long", fps=200.0)
    assert (first.name, first.fps) == ("006_1", 200.0)
    assert [frames_of(a) for a in first.micros] == [(2, 5, 11)]
    assert [frames_of(a) for a in first.macros] == [(19, 20, 21)]
    assert second.micros == ()


def test_casme_cubed(tmp_path, table):
    # Recorded from frame 3 on, and 6 was lost.
    make_frames(tmp_path / "A/spNO.1/a/color", [f"{n}.jpg" for n in (3, 4, 5, 7, 8, 9, 10)])
    make_frames(tmp_path / "A/spNO.1/a/depth", ["3.png"])
    make_frames(tmp_path / "A/spNO.10/a/color", ["0.jpg"])
    rows = table(
        "Subject,Filename,Onset,Apex,Offset,AU,Expression type,Objective class,emotion",
        "spNO.1,A,4,6,9,1,Micro-expression,I,Surprise",
    )
    first, second = read_data_set(rows, tmp_path / "A", fps=30.0)
    assert (first.name, second.name) == ("spNO.1/a/color", "spNO.10/a/color")
    assert [frames_of(a) for a in first.micros] == [(1, 3, 5)]
    assert first.micros[0].label == "surprise"
    assert second.micros == ()


def test_videos_of_ones_own_need_no_subject(tmp_path, table):
    make_video(tmp_path / "in/clip one.mp4")
    rows = table("Video,Onset Frame,Apex Frame,Offset Frame,Type", "Clip One,0,2.0,4,me")
    (only,) = read_data_set(rows, tmp_path / "in", first_frame=0)
    assert [frames_of(a) for a in only.micros] == [(0, 2, 4)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2,a,1,2,3,micro", "video 'a' of subject '2' is not in"),
        ("1,b,1,2,3,micro", "video 'b' of subject '1' is not in"),
        ("1,,1,2,3,micro", "video '' of subject '1' is not in"),
        (",a,1,2,3,micro", r"may be s1.a.avi or s3.a.avi"),
        ("1,a,1,2,3,mini", "type 'mini'"),
        ("1,a,x,2,3,micro", "no onset"),
        ("1,a,1,0,,micro", "neither offset nor apex"),
        ("1,a,5,2,3,micro", "is no interval"),
        ("1,a,0,2,3,micro", "first frame has the number 1"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(tmp_path, table, line, words):
    make_video(tmp_path / "in/s1/a.avi")
    make_video(tmp_path / "in/s3/a.avi")
    rows = table("subject,video,onset,apex,offset,type", "1,a,1,2,3,micro", line)
    with pytest.raises(InputError, match=f"row 3 of .*{words}"):
        read_data_set(rows, tmp_path / "in")


def test_the_number_of_a_video_is_not_its_subject(tmp_path, table):
    make_video(tmp_path / "in/s2/1.avi")
    with pytest.raises(InputError, match="subject '1'"):
        read_data_set(
            table("subject,video,onset,apex,offset,type", "1,1,1,2,3,micro"), tmp_path / "in"
        )


def test_a_folder_of_frames_needs_a_rate_and_numbers(tmp_path, table):
    rows = table("subject,video,onset,apex,offset,type", "1,a,1,2,3,micro")
    make_frames(tmp_path / "in/s1/a", ["img1.jpg", "img2.jpg"])
    with pytest.raises(InputError, match="--fps"):
        read_data_set(rows, tmp_path / "in")
    with pytest.raises(InputError, match="begins at frame 5; the last is 2"):
        read_data_set(
            table("subject,video,onset,apex,offset,type", "1,a,5,6,7,micro"), tmp_path / "in", 30.0
        )
    (tmp_path / "in/s1/a/img1.jpg").rename(tmp_path / "in/s1/a/first.jpg")
    with pytest.raises(InputError, match="end in a number"):
        read_data_set(
            table("subject,video,onset,apex,offset,type", "1,a,1,2,3,micro"), tmp_path / "in", 30.0
        )


def test_a_folder_without_videos_is_named(tmp_path, table):
    rows = table("subject,video,onset,apex,offset,type")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no video"):
        read_data_set(rows, tmp_path / "empty")
    with pytest.raises(InputError, match="cannot be read"):
        read_data_set(rows, tmp_path / "missing")
