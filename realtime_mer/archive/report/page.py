"""The pages: what the templates say, from the figures of a video or an archive."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from realtime_mer.archive.dictionary import IN_PART
from realtime_mer.archive.magnify import FACTOR
from realtime_mer.archive.report.charts import label_shares, look_of, rates, timeline
from realtime_mer.archive.report.figures import (
    Face,
    VideoFigures,
    Watched,
    label_counts,
    reviewed,
    video_figures,
)
from realtime_mer.archive.report.pictures import (
    ARROW_GAIN,
    SLOWED,
    EventPictures,
    event_pictures,
    face_picture,
)
from realtime_mer.archive.results_folder import (
    ENDED_EARLY,
    ResultsFolder,
    VideoResult,
)
from realtime_mer.archive.reviews.verdicts import Reviews, Verdict
from realtime_mer.errors import InputError
from realtime_mer.output.clock import clock
from realtime_mer.redaction import URL, printable, redacted, redacted_in
from realtime_mer.results import PARTS, READABLE_PX

# Pictures are embedded, those of the most certain events first, until they take so many bytes of
# the page. Chosen by judgement: two of the demo's events took 35 kB each (measured once), so those
# of about 200 fit.
_PICTURES_BYTES = 8_000_000
# So many rows of events, of videos in the chart of rates, and of notes are shown; the tables have
# all.
_MOST_EVENTS = 2000
_MOST_RATES = 30
_MOST_NOTES = 100
# The timeline shows so many faces, those with the most events and the longest watched.
_MOST_FACES = 6
# Loops run at once if there are so few; more are shown on demand.
_OPEN_LOOPS = 12
_HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A video of the archive, as its table shows it. None is what is not known.

    Attributes:
        remark: In a few words, why its figures are to be read with care; "" if they are not.
        notes: What there is to know about it, a sentence each.
    """

    name: str
    state: str
    remark: str
    notes: list[str]
    reason: str
    attempts: int
    link: str | None
    figures: VideoFigures | None


def video_page(
    video: VideoResult, manifest: Mapping[str, Any], verdicts: Sequence[Verdict] = ()
) -> str:
    """The report of one video.

    Args:
        video: Its results.
        manifest: What the manifest says.
        verdicts: What reviewers say about its events.

    Raises:
        InputError: Its log cannot be read.
    """
    figures = _figures(video)
    pictures = _pictures(video, figures.events)
    length_s = max(figures.length_s, figures.watched.duration_s)
    by_interest = sorted(figures.faces, key=lambda f: (-len(f.events), -f.watched_s, f.number))
    faces = sorted(by_interest[:_MOST_FACES], key=lambda f: f.number)
    return _render(
        "video.html.jinja",
        name=_name(video.source),
        source=redacted(video.source),
        sha256=str(video.entry.get("sha256") or "–"),
        started=str(video.entry.get("started_at") or "")[:16].replace("T", " "),
        figures=figures,
        notes=_notes(video, figures),
        reviewed=reviewed(verdicts),
        timeline=timeline(faces, figures.labels, length_s, _timeline_says(faces, length_s))
        if faces and length_s > 0
        else None,
        left_out_faces=len(figures.faces) - len(faces),
        faces=[
            (face.number, picture, len(face.events), face.watched_s)
            for face in figures.faces
            if (picture := face_picture(video.thumbnail(face.number))) is not None
        ],
        gaps=sorted(
            (gap["start_s"], gap["end_s"], face.number, gap["reason"])
            for face in figures.faces
            for gap in face.gaps
        ),
        events=figures.events[:_MOST_EVENTS],
        pictures=pictures,
        clips=sum(video.clip(event["number"]) is not None for event in figures.events),
        open_loops=len(pictures) <= _OPEN_LOOPS,
        **_found(figures.watched, figures.events, figures.labels, figures.limits_px),
        **_settings(video.made_by(dict(manifest))),
    )


def archive_page(folder: ResultsFolder, manifest: Mapping[str, Any], reviews: Reviews) -> str:
    """The report of all videos of an archive."""
    rows = [*_rows(folder, manifest)]
    done = [(row, row.figures) for row in rows if row.figures is not None]
    watched = sum((f.watched for _, f in done), Watched())
    events = [event for _, figures in done for event in figures.events]
    labels = list(dict.fromkeys(label for _, f in done for label in f.labels))
    known = [(row.name, r) for row, f in done if (r := f.watched.rate(len(f.events))) is not None]
    known.sort(key=lambda pair: (-pair[1].value, pair[0]))
    return _render(
        "archive.html.jinja",
        name=printable(folder.path.resolve().name),
        rows=rows,
        done=len(done),
        failed=[row for row in rows if row.state == "failed"],
        noted=[row for row in rows if row.notes],
        reviewed=reviewed(v for its in reviews.of_video.values() for v in its),
        remarked=sum(bool(row.remark) for row in rows),
        waiting=sum(row.state not in ("done", "failed") for row in rows),
        duplicates=len(manifest.get("duplicates") or ()),
        events=events,
        rates=rates(known[:_MOST_RATES], _rates_say(known[:_MOST_RATES])) if known else None,
        most_notes=_MOST_NOTES,
        shown_rates=min(len(known), _MOST_RATES),
        known_rates=len(known),
        **_found(watched, events, labels, (None,) * len(PARTS)),
        **_settings(manifest),
    )


def _found(
    watched: Watched,
    events: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    limits_px: Sequence[float | None],
) -> dict[str, Any]:
    """What was watched and found, as the pages of a video and of an archive tell it alike."""
    counts = label_counts(events, labels)
    scores = [e["spotting_score"] for e in events if e["spotting_score"] is not None]
    return {
        "watched": watched,
        "rate": watched.rate(len(events)),
        "parts": [
            (IN_PART[part], part, readable, watched.share_of(readable), limit)
            for part, readable, limit in zip(PARTS, watched.readable_s, limits_px, strict=True)
        ],
        "labels": labels,
        "counts": counts,
        "counts_chart": label_shares(counts, labels, _counts_say(counts)) if events else None,
        "median_score": statistics.median(scores) if scores else None,
        "expected": sum(scores),
        "scores": len(scores),
    }


def _rows(folder: ResultsFolder, manifest: Mapping[str, Any]) -> Iterator[_Row]:
    for entry in manifest["videos"]:
        video = folder.video(entry)
        state, reason, figures = str(entry.get("state")), str(entry.get("reason") or ""), None
        if state == "done":
            try:
                figures = _figures(video)
            except InputError as error:
                state, reason = "failed", str(error)
        link = f"videos/{quote(video.key)}/report.html" if video.report.is_file() else None
        yield _Row(
            _name(video.source),
            state,
            _remark(video, figures) if figures is not None else "",
            _notes(video, figures) if figures is not None else [],
            redacted_in(reason),
            int(entry.get("attempts") or 0),
            link if figures is not None else None,
            figures,
        )


def _ended_early(video: VideoResult, figures: VideoFigures) -> bool:
    """Whether it was not looked at to its end. A camera's session ends when the user says so."""
    by_user = video.entry.get("live") and figures.reason == "stopped by user"
    return figures.reason != "end of source" and not by_user


def _remark(video: VideoResult, figures: VideoFigures) -> str:
    if _ended_early(video, figures):
        return "ended early"
    return "read in part" if figures.read_part is not None else ""


def _notes(video: VideoResult, figures: VideoFigures) -> list[str]:
    """What there is to know about how a video was read, a sentence each."""
    given = [printable(redacted_in(str(note))) for note in video.entry.get("notes") or ()]
    notes = []
    # A video of an archive has a note of its own.
    if figures.read_part is not None and not video.entry.get("in_part"):
        read_s, declared_s = figures.read_part
        notes.append(
            f"only {_minutes(read_s)} of {_minutes(declared_s)} could be read: the file is cut "
            "short, or its header overstates its length"
        )
    if figures.reason is None:
        notes.append(
            "it ended early and its log has no summary: the figures are put together from what is "
            "there"
        )
        given = [note for note in given if note != ENDED_EARLY]
    elif _ended_early(video, figures) and not given:
        notes.append(f"the analysis did not reach the end: {figures.reason}")
    return [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in [*notes, *given]]


def _name(source: str) -> str:
    """The last part of a path, or an address without credentials."""
    text = redacted(source)
    return text if URL.match(text) else PurePath(text).name or text


def _figures(video: VideoResult) -> VideoFigures:
    try:
        return video_figures(video.records())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{redacted(str(video.log))} is no event log of this program ({error!r}): delete its "
            "folder and run the archive again"
        ) from None


def _pictures(video: VideoResult, events: Sequence[Mapping[str, Any]]) -> dict[int, EventPictures]:
    """Pictures of events by number, those of the most certain first, while there is room."""
    pictures = {}
    room = _PICTURES_BYTES
    for event in sorted(events, key=lambda e: -(e["spotting_score"] or 0.0)):
        found = event_pictures(video, event["number"])
        if found is None:
            continue
        room -= found.size
        if room < 0:
            break
        pictures[event["number"]] = found
    return pictures


def _timeline_says(faces: Sequence[Face], length_s: float) -> str:
    events = sum(len(face.events) for face in faces)
    gaps = sum(len(face.gaps) for face in faces)
    return (
        f"Timeline of {clock(length_s, 0)}, {len(faces)} face{'s' * (len(faces) != 1)}: "
        f"{events} reported event{'s' * (events != 1)}, {gaps} time{'s' * (gaps != 1)} without the "
        "face. The tables below have the numbers."
    )


def _counts_say(counts: Sequence[Any]) -> str:
    shares = [(c.label, c.share) for c in counts if c.share is not None]
    return "Share of each label: " + "; ".join(
        f"{label} {s.value:.0%}, {s.low:.0%} to {s.high:.0%}" for label, s in shares
    )


def _rates_say(known: Sequence[tuple[str, Any]]) -> str:
    return (
        f"Reported events a readable minute of {len(known)} videos, from {known[-1][1].value:.2f} "
        f"to {known[0][1].value:.2f}, with intervals. The table of videos has the numbers."
    )


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What made the results, as rows of names and values."""
    program = manifest.get("program") or {"name": "realtime_mer"}
    name = " ".join(str(program[key]) for key in ("name", "version") if key in program)
    details = {key: value for key, value in program.items() if key not in ("name", "version")}
    return {
        "program": printable(name),
        "settings": [*_flat(manifest.get("settings") or {}), *_flat(details)],
    }


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings, also nested ones, as names and values for people."""
    for key, value in settings.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif value is None or isinstance(value, bool):
            yield printable(name), {None: "not set", True: "yes", False: "no"}[value]
        else:
            yield printable(name), redacted(str(value))


def _render(template: str, **values: Any) -> str:  # noqa: ANN401
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["look_of"] = look_of
    environment.filters |= {
        "clock": clock,
        "percent": _percent,
        "minutes": _minutes,
    }
    style, script = ((_HERE / name).read_text("utf-8") for name in ("style.css", "script.js"))
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=(
            "default-src 'none'; img-src data:; "
            f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        factor=f"{FACTOR:g}",
        slowed=SLOWED,
        arrow_gain=ARROW_GAIN,
        readable_px=READABLE_PX,
        **values,
    )


def _hash(text: str) -> str:
    """The source that a Content-Security-Policy allows: an inline element of this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.0f} %"


def _minutes(seconds: float | None) -> str:
    """A length as people say it."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 5940:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
