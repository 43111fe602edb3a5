"""The data dictionary: every column of the tables, its type, unit and meaning, said once.

The tables are written by it: a value of another type or a column that is not here is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from realtime_mer.records import plain
from realtime_mer.redaction import printable
from realtime_mer.results import PARTS, READABLE_PX
from realtime_mer.spotting.motion import EXPRESSIVE, REGIONS

TABLES = ("events", "videos", "faces", "frames")
"""The tables; `frames` is written only where an archive kept the frames."""

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: As the table's header has it.
        type: "text", "integer", "number" or "time" (ISO 8601, UTC).
        unit: "" where there is none.
        meaning: For people, one or two sentences; they tell what an empty cell means.
    """

    name: str
    type: str
    unit: str
    meaning: str

    def cell(self, value: object) -> Cell:
        """A value as the table holds it; None is an empty cell.

        Raises:
            ValueError: It is of another type; the message says what it is.
        """
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.type == "number" and is_number and math.isfinite(value):  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
        if self.type == "integer" and is_number and isinstance(value, int):
            return value
        if self.type == "text" and isinstance(value, str):
            return plain(value)
        if self.type == "time" and isinstance(value, str) and _is_time(value):
            return value
        raise ValueError(f"{self.name} is {printable(repr(value), 60)}, and no {self.type}")


def columns(table: str, labels: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of a table, in their order.

    Args:
        table: One of `TABLES`.
        labels: The classifier's labels; events have a probability for each.
    """
    return {
        "events": _events(labels),
        "videos": (*_VIDEO, *_VIDEOS, *MADE_BY, *_SETTINGS),
        "faces": (*_VIDEO, *_FACES, *MADE_BY),
        "frames": (_VIDEO[0], *FRAME, *MADE_BY),
    }[table]


def entries(tables: Mapping[str, Iterable[Column]]) -> list[dict[str, str]]:
    """The dictionary of some tables as data_dictionary.json holds it: an entry a column."""
    return [
        {
            "table": table,
            "column": column.name,
            "type": column.type,
            "unit": column.unit,
            "meaning": column.meaning,
        }
        for table, its_columns in tables.items()
        for column in its_columns
    ]


def region_column(region: str, ending: str) -> str:
    """The column of a region of the face: "chin" and "px" give "chin_px"."""
    return f"{region.replace(' ', '_')}_{ending}"


def part_column(part: str) -> str:
    """The column of the time in which a part of the face, one of `PARTS`, could be read."""
    return f"readable_{part.split()[0]}_min"


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


_VIDEO = (
    Column(
        "video",
        "text",
        "",
        "Key of the input: its folder in videos/. The same in all tables. Empty of a duplicate.",
    ),
    Column("source", "text", "", "Path of the input, as it was given."),
)

MADE_BY = (
    Column("program", "text", "", "Program and version that made the row."),
    Column("model", "text", "", "Name of the classifier's weights. Empty if nothing was read."),
    Column("weights", "text", "", "SHA-256 of the classifier's weights, first 12 digits."),
    Column("spotter", "text", "", "SHA-256 of the spotter's weights, first 12 digits."),
    Column(
        "sensitivity",
        "number",
        "1/min",
        "False reports a minute to be expected: what was asked for, else what the spotter's card "
        "recommends.",
    ),
    Column(
        "settings",
        "text",
        "",
        "SHA-256 of all settings, first 12 digits: rows with the same ones can be compared. "
        "The table videos has them in full.",
    ),
)
"""What made a row; the same columns end every table."""

_SETTINGS = (
    Column("settings_json", "text", "", "All settings, as JSON; the weights' hashes in full."),
)

_FACE = Column(
    "face", "integer", "", "Number of the face in this video, from 0: a row in the table faces."
)


def _frame_number(moment: str) -> Column:
    return Column(
        f"{moment}_frame",
        "integer",
        "frames",
        f"Number of the file's frame that is nearest to {moment}_s, the first is 0.",
    )


def _events(labels: Sequence[str]) -> tuple[Column, ...]:
    return (
        *_VIDEO,
        Column("number", "integer", "", "Number of the event in this video, from 1."),
        _FACE,
        Column("onset_s", "number", "s", "When the motion began, from the video's first frame."),
        Column("apex_s", "number", "s", "When it was strongest."),
        Column("offset_s", "number", "s", "When it was over."),
        *map(_frame_number, ("onset", "apex", "offset")),
        Column("duration_s", "number", "s", "From onset to offset."),
        Column(
            "label",
            "text",
            "",
            'The most probable label, or "uncertain" if it is less probable than was asked for.',
        ),
        Column("confidence", "number", "", "The largest of the probabilities, whatever the label."),
        *(
            Column(
                label_column(label),
                "number",
                "",
                f"Calibrated probability of the label {label}, 0 to 1.",
            )
            for label in labels
        ),
        Column(
            "spotting_score",
            "number",
            "",
            "Calibrated probability that this is a micro-expression at all, whatever its label. "
            "Empty if the spotter's card has no calibration.",
        ),
        Column(
            "least_sensitivity",
            "number",
            "1/min",
            "The smallest sensitivity (false reports a minute) that would have reported it. Empty "
            "if the spotter's card does not tell.",
        ),
        Column(
            "intensity_px",
            "number",
            "px",
            "99th percentile of the skin's displacement from onset to apex, in pixels of a face "
            "of 224 x 224 (eye centres 95 px apart).",
        ),
        Column(
            "from_neutral_px",
            "number",
            "px",
            "The same from the person's neutral face to the apex. Empty without a good baseline "
            "(--baseline of a session).",
        ),
        Column(
            "limit_px",
            "number",
            "px",
            "Limit of detection then, of the part of the face that moved most: the smallest "
            "intensity_px that would be found with a probability of 80 %. Empty if not known.",
        ),
        Column(
            "action_units",
            "text",
            "",
            "Facial action units (FACS) that were seen, of those that can be told, the most "
            "probable first; left and right are the picture's.",
        ),
        Column(
            "regions",
            "text",
            "",
            "The regions that moved, the largest motion first; the same as in the next columns, "
            "as a text.",
        ),
        *_regions(),
        Column(
            "reported_s",
            "number",
            "s",
            "Time of the newest frame that had been captured when the event was reported.",
        ),
        Column(
            "onset_at",
            "time",
            "",
            "Date and time of the onset by the computer's clock. Empty for files.",
        ),
        Column("clip", "text", "", "Clip of the event, a path in this folder. Empty if not kept."),
        *REVIEWED,
        *MADE_BY,
    )


REVIEWED = (
    Column(
        "review",
        "text",
        "",
        "What reviewers say together: true or false as most say who decided, disputed if as many "
        "say the one as the other, unsure if nobody could decide. Empty if nobody gave a verdict.",
    ),
    Column("reviewers", "text", "", "Who gave a verdict. Empty if nobody did."),
    Column("votes_true", "integer", "", "How many reviewers say true. Empty if nobody looked."),
    Column("votes_false", "integer", "", "How many reviewers say false. Empty if nobody looked."),
    Column(
        "agreed_label",
        "text",
        "",
        "Of an event that is true by review: the label that most of those give who say true, "
        "disputed if they are split. Empty of others.",
    ),
    Column(
        "agreed_onset_s",
        "number",
        "s",
        "Of an event that is true by review: the median of the onsets of those who say true. "
        "Empty of others.",
    ),
    Column("agreed_offset_s", "number", "s", "The same of the offset."),
)
"""What reviewers decided about an event."""


def label_column(label: str) -> str:
    """The column of a label's probability."""
    return f"p_{printable(label)}"


def _regions() -> Iterable[Column]:
    for region in list(REGIONS)[:EXPRESSIVE]:
        yield Column(
            region_column(region, "px"),
            "number",
            "px",
            f"Mean displacement of the region {region} from onset to apex, without the head's "
            "motion, in the pixels of intensity_px. Empty if it moved less than 0.15 px, or less "
            "than 0.4 of the region that moved most.",
        )
        yield Column(
            region_column(region, "deg"),
            "integer",
            "deg",
            "Where it moved to: 0 is to the right of the picture, 90 upwards, of an upright head.",
        )


IN_PART = dict(zip(PARTS, ("brows and lids", "nose and cheeks", "lips and chin"), strict=True))
"""What belongs to each part of the face."""

_SUMMED = "all faces together. Empty if the limits of detection were not known."

_VIDEOS = (
    Column(
        "state",
        "text",
        "",
        "What became of it: done, failed, damaged (its results cannot be read), duplicate (of "
        "another input, and so not analysed), or waiting or running if the archive was stopped.",
    ),
    Column("reason", "text", "", "Why it is not done, one sentence. Empty if it is."),
    Column("notes", "text", "", "What was noticed while it was read, such as damaged pictures."),
    Column("sha256", "text", "", "SHA-256 of the file."),
    Column("size_bytes", "integer", "byte", "Size of the file."),
    Column("duration_s", "number", "s", "Length of the video, as far as it could be read."),
    Column(
        "declared_s",
        "number",
        "s",
        "Length by its header. Much more than duration_s: the file is cut short, or its header "
        "overstates it; notes says so. Empty if it declares none.",
    ),
    Column("width", "integer", "px", "Width of its frames."),
    Column("height", "integer", "px", "Height of its frames."),
    Column("fps", "number", "1/s", "Frame rate that it declares. Empty if it declares none."),
    Column("frames", "integer", "frames", "Frames that could be read."),
    Column("face_share", "number", "", "Share of the frames in which a face was followed, 0 to 1."),
    Column("watched_min", "number", "min", f"Time with known limits of detection, {_SUMMED}"),
    *(
        Column(
            part_column(part),
            "number",
            "min",
            f"Time in which the {part} ({what}) could be read (limit of detection at most "
            f"{READABLE_PX} px), {_SUMMED}",
        )
        for part, what in IN_PART.items()
    ),
    Column(
        "readable_any_min",
        "number",
        "min",
        f"Time in which at least one part could be read, {_SUMMED}",
    ),
    Column("events", "integer", "", "Micro-expressions that were found."),
    Column(
        "events_per_readable_min",
        "number",
        "1/min",
        "Micro-expressions for each minute of readable_any_min. Empty if that is less than one.",
    ),
    Column("faces", "integer", "", "Faces that the log names."),
)

_FACES = (
    _FACE,
    Column("events", "integer", "", "Its micro-expressions."),
    Column(
        "watched_s",
        "number",
        "s",
        "How long its limits of detection were known: it was followed, its first second left out. "
        "Empty if they were never known.",
    ),
    Column("first_s", "number", "s", "When that began, from the video's first frame."),
    Column("last_s", "number", "s", "When that ended."),
    Column("lost_s", "number", "s", "How long it was not followed in between (gaps in the log)."),
    Column("thumbnail", "text", "", "Picture of it, a path in this folder. Empty if not kept."),
)

# In MediaPipe's order and with its names, which are those of Apple's ARKit.
BLENDSHAPES = (
    *("_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft"),
    *("browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft"),
    *("eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight"),
    *("eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft"),
    *("eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen"),
    *("jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft"),
    *("mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft"),
    *("mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *("mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight"),
)
"""The face landmarker's 52 blendshapes."""

FRAME = (
    Column("time_s", "number", "s", "Time of the frame, from the video's first frame."),
    Column("frame", "integer", "frames", "Number of the frame in the file, the first is 0."),
    _FACE,
    Column("box_x", "number", "px", "Left edge of the face in the frame."),
    Column("box_y", "number", "px", "Upper edge of the face in the frame."),
    Column("box_width", "number", "px", "Width of the face in the frame."),
    Column("box_height", "number", "px", "Height of the face in the frame."),
    Column("yaw_deg", "number", "deg", "Turn of the head; positive to the picture's right."),
    Column("pitch_deg", "number", "deg", "Nod of the head; positive upwards."),
    Column("roll_deg", "number", "deg", "Tilt of the head; positive clockwise in the picture."),
    Column("quality", "number", "", "How well the face can be read, 0 to 1."),
    Column(
        "score",
        "number",
        "",
        "The spotter's score; 1 is the threshold. Empty while it warms up, and while too few "
        "frames are analysed.",
    ),
    *(
        # Measured: a mouth corner that is raised on the picture's left raises those of the right.
        Column(
            shape,
            "number",
            "",
            f"MediaPipe's blendshape {shape}, 0 to 1; left and right are the person's own.",
        )
        for shape in BLENDSHAPES
    ),
)
"""The columns of a video's frames.csv; `video` and `MADE_BY` stand around them in the table."""
