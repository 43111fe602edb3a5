"""A small results folder with known content, for tests of what reads one."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from realtime_mer import __version__
from realtime_mer.archive.clips import AROUND_S
from realtime_mer.archive.results_folder import FORMAT, ResultsFolder, key_of
from realtime_mer.output.video_encoder import VideoEncoder
from realtime_mer.results import (
    ClockOrigin,
    Gap,
    GapReason,
    Interval,
    MacroExpression,
    MicroExpression,
    RegionMotion,
    Session,
    Summary,
    VisibilitySpan,
    Watched,
)

LABELS = ("negative", "positive", "surprise")
MODEL = "causalnet-test"
SETTINGS = {
    "sensitivity": 1.0,
    "faces": 2,
    "least_confidence": 0.0,
    "frames": False,
    "weights": {"classifier": "c" * 64, "spotter": "5" * 64, "landmarks": "1" * 64},
}
PROGRAM = {"name": "realtime_mer", "version": __version__}
# Frames a second of sources and clips.
FPS = 30.0


def event(
    onset_s: float, label: str, confidence: float, face: int = 0, source: str = ""
) -> MicroExpression:
    """An event of 0.3 s whose apex is in its middle; the score is the confidence, less a tenth."""
    rest = (1 - confidence) / 2
    return MicroExpression(
        face=face,
        interval=Interval(onset_s, onset_s + 0.15, onset_s + 0.3),
        probabilities={name: confidence if name == label else rest for name in LABELS},
        intensity_px=2.25,
        reported_s=onset_s + 0.5,
        source=source,
        model=MODEL,
        limit_px=0.9,
        spotting_score=confidence - 0.1,
        regions=(RegionMotion("chin", 0.8, 270.0), RegionMotion("nose", 0.4, 90.0)),
    )


EVENTS = {
    "first talk.mp4": (
        (1.2, "surprise", 0.9, 0),
        (3.0, "negative", 0.55, 1),
        (5.1, "positive", 0.75, 0),
    ),
    "zweites Gespräch.mp4": ((2.0, "negative", 0.8, 0),),
}
"""Of each video: onset, label, confidence and face of its events."""

LENGTH_S = 6.0


def make_results(path: Path) -> ResultsFolder:
    """Writes a results folder: two videos that are done, with four events, and one that failed.

    The videos lie in the folder `talks` beside it; events have clips, except the last one.
    """
    folder = ResultsFolder(path)
    talks = path.parent / "talks"
    talks.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, (name, events) in enumerate(EVENTS.items()):
        source = talks / name
        _write_video(source, (96, 64), LENGTH_S, 60 * number)
        entries.append(_make_video(folder, source, events))
    broken = talks / "broken.avi"
    broken.write_bytes(b"no video")
    sha256 = hashlib.sha256(b"no video").hexdigest()
    entries.append(
        _entry(
            broken, sha256, "failed", reason="broken.avi is no video that can be read", seconds=0.5
        )
    )
    manifest = {
        "format": FORMAT,
        "program": PROGRAM,
        "settings": SETTINGS,
        "videos": entries,
        "duplicates": [],
    }
    folder.manifest_path.write_text(json.dumps(manifest, indent=2))
    return folder


def _entry(source: Path, sha256: str, state: str, **more) -> dict:
    return {
        "key": key_of(source, sha256),
        "source": str(source),
        "sha256": sha256,
        "size": source.stat().st_size,
        "state": state,
        "reason": None,
        "attempts": 1,
        "started_at": "2026-01-31T09:30:15.250+00:00",
        "seconds": 3.5,
        "duration_s": None,
        "events": None,
        **more,
    }


def _make_video(folder: ResultsFolder, source: Path, events) -> dict:
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    entry = _entry(source, sha256, "done", duration_s=LENGTH_S, events=len(events))
    video = folder.video(entry)
    (video.folder / "events").mkdir(parents=True)
    (video.folder / "faces").mkdir()
    found = [event(*of, source=str(source)) for of in events]
    records = [
        Session(
            str(source), False, (96, 64), FPS, int(LENGTH_S * FPS), MODEL, "CPU", LABELS,
            ClockOrigin(0.0, 0.0),
        ),
        Gap(0, 3.5, 4.25, GapReason.FACE_LOST),
        VisibilitySpan(0, 1.0, 3.5, (0.8, 1.1, 2.0), (2.5, 2.5, 0.0), 2.5),
        *found,
        MacroExpression(0, 0.2, 0.9, 1.1, str(source)),
        Summary(
            "end of source", 180, 180, 0, 160, LENGTH_S, 0.0, len(found),
            watched=Watched(2.5, (2.5, 2.5, 0.0), 2.5),
        ),
    ]  # fmt: skip
    video.log.write_text("".join(json.dumps(r.to_dict()) + "\n" for r in records))
    for number, (of, record) in enumerate(zip(events, found, strict=True), 1):
        if record is found[-1] and source.name == list(EVENTS)[-1]:
            break
        interval = record.interval
        path = video.clip_path(number)
        start_s = interval.onset_s - AROUND_S
        times = _write_video(path, (224, 224), interval.length_s + 2 * AROUND_S, 40 * of[3])
        info = {
            "start_s": round(start_s, 3),
            "times_s": [round(start_s + time_s, 3) for time_s in times],
            "onset_s": interval.onset_s,
            "apex_s": interval.apex_s,
            "offset_s": interval.offset_s,
            "arrows": [[60.0, 60.0, 1.5, -0.5], [160.0, 60.0, -1.5, -0.5]],
        }
        path.with_suffix(".json").write_text(json.dumps(info))
    for face in {record.face for record in found}:
        picture = np.full((112, 112, 3), 90 + 60 * face, np.uint8)
        cv2.imwrite(str(video.folder / "faces" / f"{face}.jpg"), picture)
    return entry


def _write_video(path: Path, size: tuple[int, int], length_s: float, grey: int) -> list[float]:
    """Writes a video in which a square moves; returns the times of its frames."""
    encoder = VideoEncoder(path, "mp4", size, FPS)
    width, height = size
    times = [index / FPS for index in range(round(length_s * FPS))]
    for index, time_s in enumerate(times):
        picture = np.full((height, width, 3), grey, np.uint8)
        x = index % (width - 16)
        picture[height // 2 : height // 2 + 16, x : x + 16] = 255
        encoder.write(picture, time_s)
    encoder.finish(length_s)
    return times
