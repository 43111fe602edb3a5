"""Data sets as their owners give them out, made up: folders, tables, and frames that show a face.

The tables have the columns and the errors of the published ones. The frames are the demo's photo,
whose face moves by drawn action units of known size, so that what the tools make of them can be
checked. Nobody of the real sets is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from openpyxl import Workbook

from realtime_mer.demo.action_units import expression
from realtime_mer.demo.photo import PhotoFace, demo_photo
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import LAYOUT, five_points, similarity
from realtime_mer.face.tracker import detect_face_mesh

# The part of the demo's photo with the face, (height, width): about 340 x 300 px.
ROWS, COLUMNS = slice(105, 445), slice(200, 500)
# Steps from onset to apex and from apex to offset.
RISE, FALL = 3, 3
PEAK_PX = 1.5
NOISE_SIGMA = 1.0


@dataclass(frozen=True)
class Shown:
    """What a clip shows.

    Attributes:
        key: Names it in the prepared table.
        units: What moves.
        rules: The errors of its row.
        strength: Of the motion, in `PEAK_PX`.
    """

    key: str
    units: tuple[str, ...]
    rules: frozenset[str] = frozenset()
    strength: float = 1.0


def shown(key: str, units: tuple[str, ...], *rules: str, strength: float = 1.0) -> Shown:
    return Shown(key, units, frozenset(rules), strength)


@cache
def photo_face() -> tuple[np.ndarray, PhotoFace, np.ndarray]:
    """The photo, its face, and the (2, 3) map from it to the canonical face."""
    whole = demo_photo()
    mesh = detect_face_mesh(whole, find_landmark_model(download=False))
    mesh = mesh - (COLUMNS.start, ROWS.start, 0)
    photo = np.ascontiguousarray(whole[ROWS, COLUMNS])
    canonical = similarity(five_points(mesh).astype(float), LAYOUT.astype(float))
    return photo, PhotoFace(photo, mesh), canonical


@cache
def field_of(units: tuple[str, ...]) -> np.ndarray:
    """(224, 224, 2) displacement at the apex, pixels of the canonical face."""
    return expression(units, None, PEAK_PX)


@cache
def noise() -> np.ndarray:
    """Of a sensor, twice as high and wide as the photo."""
    height, width = photo_face()[0].shape[:2]
    return np.random.default_rng(0).normal(0, NOISE_SIGMA, (2 * height, 2 * width, 3))


@cache
def picture(units: tuple[str, ...], strength: float) -> np.ndarray:
    """The face with so much of an expression."""
    photo, face, _ = photo_face()
    height, width = photo.shape[:2]
    grid = np.dstack(
        np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    )
    back = face.backwards(strength * face.field(field_of(units)))
    return cv2.remap(photo, grid - back, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def strength_at(step: float) -> float:
    """Of an expression, `step` frames after its onset."""
    share = step / RISE if step <= RISE else 2 - (step - RISE) / FALL - 1
    return float(0.5 - 0.5 * np.cos(np.pi * np.clip(share, 0, 1)))


def write_clip(
    folder: Path,
    units: tuple[str, ...],
    name: str,
    first: int,
    *,
    before: int = 0,
    after: int = 0,
    grey: bool = False,
    without: tuple[int, ...] = (),
) -> None:
    """Writes the frames of an expression.

    Args:
        folder: Where.
        units: What the face shows.
        name: File names, as in "img{}.jpg" or "image{:06d}.bmp".
        first: Number of the onset.
        before, after: Frames of the still face around it.
        grey: Whether the files are grey.
        without: Numbers that have no file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for step in range(-before, RISE + FALL + after + 1):
        still = picture(units, strength_at(step))
        # Another part of the noise for each frame.
        y, x = 37 * (first + step) % still.shape[0], 53 * (first + step) % still.shape[1]
        noisy = still + noise()[y : y + still.shape[0], x : x + still.shape[1]]
        image = np.clip(noisy, 0, 255).astype(np.uint8)
        if grey:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        if first + step not in without:
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if name.endswith("jpg") else []
            cv2.imwrite(str(folder / name.format(first + step)), image, quality)


def write_table(path: Path, *sheets: list) -> Path:
    """Writes an Excel table; a sheet is a list of rows."""
    book = Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet{number + 1}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


SMILE, BROWS, FROWN, CORNERS = ("AU12",), ("AU1", "AU2"), ("AU4",), ("AU15",)


def casme2(folder: Path) -> list[Shown]:
    header = ["Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None]
    rows: list[list] = [[*header, "Action Units", "Estimated Emotion"]]

    def row(subject, name, onset, apex, offset, units, emotion):
        rows.append([subject, name, None, onset, apex, offset, None, units, emotion])

    row(1, "EP02_01f", 46, 49, 52, "12", "happiness")
    row(1, "EP03_02", 46, "/", 52, "1+2", "surprise")
    row(4, "EP12_01f", 46, 49, 52, "4+R7", "disgust")
    row(1, "EP02_01f", 46, 49, 52, "12", "happiness")  # the first again
    row(26, "EP99_99", 10, 20, 30, "4", "others")  # no folder
    while len(rows) < 61:
        row(17, f"EP00_{len(rows)}", 1, 5, 9, "4", "others")
    row(9, "ep06_02f", 85, 88, 19, "15", "repression")  # row 60: the offset is 91
    write_table(folder / "CASME2-coding-20190701.xlsx", rows)
    raw = folder / "CASME2-RAW"
    write_clip(raw / "sub01/EP02_01f", SMILE, "img{}.jpg", 46, before=2, after=2)
    write_clip(folder / "Cropped/sub01/EP02_01f", FROWN, "reg_img{}.jpg", 46)
    write_clip(raw / "sub01/EP03_02", BROWS, "img{}.jpg", 46)
    write_clip(raw / "sub04/EP12_01f", FROWN, "img{}.jpg", 46)
    write_clip(raw / "sub09/EP06_02f", CORNERS, "img{}.jpg", 85)
    return [
        shown("sub01_EP02_01f", SMILE),
        shown("sub01_EP03_02", BROWS, "apex-missing"),
        shown("sub04_EP12_01f", FROWN, "not-in-composite"),
        shown("sub09_ep06_02f", CORNERS, "offset-typed-wrong", "file-name-case"),
    ]


_SMIC_HEADER = ["Subject", "Filename", "FirstF", "OnsetF", "OffsetF", "LastF", "TotalMF1"]


def smic(folder: Path) -> list[Shown]:
    header = [*_SMIC_HEADER, "TotalVL", "Emotion", "Onset2F", "Offset2F", "TotalMF2"]
    rows = [
        header,
        [1, "s1_ne_01", 34080, 34110, 34116, 34200, 7, 121, "negative"],
        [3, "s3_sur_01", 500, 531, 540, 600, 10, 101, "surprise"],
        [18, "s18_sur_03", 700, 731, 740, 800, 10, 101, "surprise"],
        [],
        ["Notes: F stands for frame"],
    ]
    write_table(folder / "SMIC-HS-E_annotation_2019.xlsx", rows)
    negative, surprise = folder / "HS/s1/micro/negative", folder / "HS/s3/micro/surprise"
    write_clip(negative / "s1_ne_01", FROWN, "reg_image{:06d}.bmp", 34110)
    write_clip(surprise / "s3_sur_01", BROWS, "reg_image{:06d}.bmp", 531)
    write_clip(folder / "HS/s4/micro/positive/s4_po_01", SMILE, "reg_image{:06d}.bmp", 20)
    still = folder / "HS/s1/non_micro/s1_non_01"
    still.mkdir(parents=True)
    cv2.imwrite(str(still / "image000001.bmp"), np.zeros((8, 8, 3), np.uint8))
    return [
        shown("s01_s1_ne_01", FROWN, "no-apex"),
        shown("s03_s3_sur_01", BROWS, "no-apex", "length-differs"),
        shown("s04_s4_po_01", SMILE, "no-apex", "not-in-table"),
    ]


def smic_long(folder: Path) -> list[Shown]:
    header = [*_SMIC_HEADER, "TotalVL", "Emotion", "Onset2F", "Offset2F", "TotalMF2"]
    rows = [header, [1, "s1_ne_01", 101, 103, 109, 121, 7, 21, "negative", 113, 119, 7]]
    write_table(folder / "SMIC-HS-E_annotation.xlsx", rows)
    video = folder / "SMIC-HS-E/s01/s1_ne_01"
    write_clip(video, FROWN, "image{:06d}.jpg", 3, before=2, after=3)
    write_clip(video, CORNERS, "image{:06d}.jpg", 13, after=2)
    each = "no-apex", "numbers-from-first"
    return [
        shown("s01_s1_ne_01", FROWN, *each),
        shown("s01_s1_ne_01_2", CORNERS, *each, "several-events"),
    ]


def samm(folder: Path) -> list[Shown]:
    header = ["Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame"]
    header += ["Offset Frame", "Duration", "Micro", "Action Units", "Estimated Emotion"]
    rows: list[list] = [[f"note {k}"] for k in range(13)]
    rows.append([*header, "Objective Classes", "Notes"])

    def row(subject, name, onset, apex, offset, units, emotion):
        rows.append([subject, name, 1, onset, apex, offset, 7, "Micro - 1/2", units, emotion, 1])

    row(6, "006_1_2", 5562, 5565, 5568, "AU12A or AU14", "Happiness")
    row(28, "028_4_1", 200, 90, 206, "AU1+AU2", "Surprise")  # the apex is wrong
    while len(rows) < 14 + 56:
        row(11, f"011_0_{len(rows)}", 1, 5, 9, "AU4", "Anger")
    row(16, "016_1_6", 5733, 5736, 573, "L4 + R15B", "Anger")  # row 56: the offset is 5739
    write_table(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", rows)
    write_clip(folder / "SAMM/006/006_1_2", SMILE, "006_{:05d}.jpg", 5562, grey=True)
    write_clip(folder / "SAMM/028/028_4_1", BROWS, "028_{:05d}.jpg", 200, grey=True)
    write_clip(folder / "SAMM/016/016_1_6", CORNERS, "016_{:05d}.jpg", 5733, after=1, grey=True)
    return [
        shown("006_006_1_2", SMILE, "number-for-name", "au-alternatives"),
        shown("028_028_4_1", BROWS, "number-for-name", "apex-outside"),
        shown("016_016_1_6", CORNERS, "number-for-name", "offset-typed-wrong"),
    ]


def mmew(folder: Path) -> list[Shown]:
    header = ["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units"]
    rows = [
        [*header, "Estimated Emotion", "remarks"],
        [3, "S03-01-002", 1, 4, 7, "4+7", "disgust", None],
        [5, "S05-03-001", 1, None, None, "1+2", "surprise", "no apex"],
    ]
    write_table(folder / "MMEW_Micro_Exp.xlsx", rows)
    micro = folder / "Micro_Expression"
    write_clip(micro / "disgust/S03-01-002", FROWN, "{}.jpg", 1)
    write_clip(micro / "S05/surprise/S05-03-001", BROWS, "{}.jpg", 1)
    macro = folder / "Macro_Expression"
    write_macro(macro / "S03/anger/S03-01-001.jpg", FROWN)
    write_macro(macro / "S05/happiness/S05-02-001.jpg", SMILE)
    write_macro(macro / "S09/surprise/S09-03-001.jpg", BROWS)  # no still face of S09
    return [
        shown("mmew-S03_S03-01-002", FROWN),
        shown("mmew-S05_S05-03-001", BROWS, "apex-missing", "offset-missing"),
    ]


MACRO_STRENGTH = 3.0
# In a picture that was taken at another time, the face is smaller and lies elsewhere.
_ELSEWHERE = np.array([[0.65, 0, 80], [0, 0.65, 60]])


def write_macro(path: Path, units: tuple[str, ...]) -> None:
    """Writes a picture of a strong expression."""
    path.parent.mkdir(parents=True)
    image = picture(units, MACRO_STRENGTH) + noise()[: ROWS.stop - ROWS.start, :300]
    image = np.clip(image, 0, 255).astype(np.uint8)
    border = cv2.BORDER_REPLICATE
    moved = cv2.warpAffine(image, _ELSEWHERE, image.shape[1::-1], borderMode=border)
    cv2.imwrite(str(path), moved, [cv2.IMWRITE_JPEG_QUALITY, 95])


def mmew_macro(folder: Path) -> list[Shown]:
    mmew(folder)
    return [
        shown("mmew-S03_S03-01-001", FROWN, "neutral-from-micro", strength=MACRO_STRENGTH),
        shown("mmew-S05_S05-02-001", SMILE, "neutral-from-micro", strength=MACRO_STRENGTH),
    ]


def casme3_a(folder: Path) -> list[Shown]:
    header = ["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"]
    rows = [
        header,
        ["spNO.1", "A", 3, 6, 9, "L4+R7", 4, "Disgust"],  # the folder is called a
        ["spNO.1", "a", 20, 23, 26, "12", 1, "happy"],
        ["spNO.2", "b", 3, 6, 9, "15", 3, "sad"],  # frame 6 is missing
        ["spNO.2", "b", 40, 45, 50, "15", 3, "sad"],  # no such frames
        ["spNO.2", "b", 9, 12, 3, "15", 3, "sad"],  # no interval
    ]
    write_table(folder / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", rows)
    first = folder / "part_A/spNO.1/a"
    write_clip(first / "color", FROWN, "{}.jpg", 3, before=2, after=2)
    write_clip(first / "color", SMILE, "{}.jpg", 20)
    (first / "depth").mkdir()
    cv2.imwrite(str(first / "depth/3.png"), np.zeros((8, 8), np.uint16))
    write_clip(folder / "part_A/spNO.2/b/color", CORNERS, "{}.jpg", 3, after=4, without=(6,))
    return [
        shown("spNO.1_a", FROWN, "file-name-case"),
        shown("spNO.1_a_2", SMILE, "several-events"),
        shown("spNO.2_b", CORNERS, "frame-missing"),
    ]


def casme3_a_macro(folder: Path) -> list[Shown]:
    casme3_a(folder)
    rows = [
        ["sub", "seq", "onset", "apex", "offset", "AU", "emotion"],
        ["spNO.1", "a", 20, 23, 26, "12", "happy"],
        ["spNO.2", "b", 3, 7, 9, "15", "sad"],
        ["spNO.2", "b", 30, 40, 50, "15", "sad"],  # no such frames
    ]
    write_table(folder / "cas(me)3_part_A_MaE_label_JpgIndex_v2_emotion.xlsx", rows)
    # Two steps after the apex.
    return [shown("spNO.1_a", SMILE), shown("spNO.2_b", CORNERS, strength=strength_at(4))]


def casme3_c(folder: Path) -> list[Shown]:
    rows = [["sub", "count", "onset", "offset", "au"], [1, 2, 3, 9, "1，2"]]
    write_table(folder / "CAS(ME)3_part_C_ME.xlsx", rows)
    write_clip(folder / "part_C/01/2/color", BROWS, "{}.jpg", 3, before=1, after=1)
    return [
        shown("casme3c-01_2", BROWS, "number-for-name", "no-apex", "full-width-mark"),
    ]


def fourdme(folder: Path) -> list[Shown]:
    flags = ["Positive", "Negative", "Surprise", "Repression", "Others"]
    header = ["sub_ID", "fold_name", "Onset", "Apex", "Offset", "AUs", "AU4", "AU12", "Emotion"]
    rows: list[list] = [[*header, *flags, "eye blink"]]
    while len(rows) < 145:
        rows.append([30, f"none{len(rows)}", 1, 2, 3, "AU4", 1, 0, "Others", 0, 0, 0, 0, 1, 0])
    # Action units and emotion are swapped between these two.
    rows.append([7, "smile", 1, 4, 7, "AU4", 1, 0, "Negative", 0, 1, 0, 0, 0, 0])
    rows.append([8, "frown", 1, 4, 7, "AU12+AU7(k)", 0, 1, "Positive", 1, 0, 0, 0, 0, 0])
    write_table(folder / "4DME_Labelling_Micro_release v1.xlsx", rows)
    write_clip(folder / "gray_micro/7/smile", SMILE, "{:04d}.jpg", 1, grey=True)
    write_clip(folder / "gray_micro/8/frown", FROWN, "{:04d}.jpg", 1, grey=True)
    return [
        shown("4dme-7_smile", SMILE, "rows-swapped", "au-not-sure"),
        shown("4dme-8_frown", FROWN, "rows-swapped"),
    ]


def dfme(folder: Path) -> list[Shown]:
    tables = folder / "full_release_annotation"
    tables.mkdir()
    # The published names of four columns are not known: they are read by position.
    rows = [
        ["Subject", "Filename", "start", "peak", "end", "label", "units"],
        ["sub0003", "sub0003_01", 1, 4, 7, "Happiness", "AU12"],
    ]
    write_table(tables / "training_full_with_AU.xlsx", rows)
    rows = [
        ["Subject", "Filename", "onset", "apex", "Emotion", "AU"],
        ["sub0004", "sub0004_07", 1, 4, "Sadness", "AU15"],
    ]
    write_table(tables / "test_A_full.xlsx", rows)
    write_clip(folder / "train_data/sub0003_01", SMILE, "{:05d}.png", 1)
    write_clip(folder / "test_data_A/sub0004_07", CORNERS, "{:05d}.png", 1)
    return [
        shown("dfme-sub0004_sub0004_07", CORNERS, "offset-missing"),
        shown("dfme-sub0003_sub0003_01", SMILE, "columns-by-position"),
    ]


SETS = {
    "casme2": casme2,
    "smic": smic,
    "smic-e": smic_long,
    "samm": samm,
    "mmew": mmew,
    "mmew-macro": mmew_macro,
    "casme3-a": casme3_a,
    "casme3-a-macro": casme3_a_macro,
    "casme3-c": casme3_c,
    "4dme": fourdme,
    "dfme": dfme,
}
