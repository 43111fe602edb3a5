import math

import numpy as np
import pytest

from realtime_mer.archive.dictionary import FRAME
from realtime_mer.archive.frames import FramesTable
from realtime_mer.face.quality import head_pose_deg
from realtime_mer.results import Analysis, FaceState, Session, Summary
from realtime_mer.source.frame import Frame

SUMMARY = Summary("end of source", 2, 2, 0, 1, 0.1, 0.0, 0)


def turned(points, yaw=0.0, pitch=0.0, roll=0.0) -> np.ndarray:
    """A face turned by degrees: to the picture's right, upwards, then clockwise."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = [[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]]
    about_z = [[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]
    return points @ (np.array(about_z) @ np.array(about_y) @ np.array(about_x)).T


@pytest.mark.parametrize("turn", [{"yaw": 20}, {"pitch": 15}, {"roll": -30}, {"yaw": -10}])
def test_a_head_that_turns_is_told_so(astronaut_tracked, turn):
    points = astronaut_tracked.landmarks.astype(np.float64)
    upright = turned(points, roll=-head_pose_deg(points)[2])
    before = head_pose_deg(upright)
    after = head_pose_deg(turned(upright, **turn))
    for name, then, now in zip(("yaw", "pitch", "roll"), before, after, strict=True):
        assert now - then == pytest.approx(turn.get(name, 0), abs=3), name


def test_a_person_who_looks_into_the_camera_looks_straight_ahead(astronaut_tracked):
    assert max(map(abs, head_pose_deg(astronaut_tracked.landmarks))) < 15


def analysis(index, *faces) -> Analysis:
    image = np.zeros((64, 96, 3), np.uint8)
    return Analysis(Frame(index, index / 30, image, 0.0), faces=faces)


def test_a_face_in_a_frame_is_a_row_in_the_columns_of_the_dictionary(tmp_path, astronaut_tracked):
    points = astronaut_tracked.landmarks
    state = FaceState(
        3,
        points[:, :2],
        math.nan,
        quality=0.5,
        depth=points[:, 2],
        blendshapes=np.linspace(0, 1, 52, dtype=np.float32),
    )
    table = FramesTable(tmp_path / "frames.csv")
    table.begin(Session("a.mp4", False, (96, 64), 30.0, 2, "m", "CPU", ("x",)))
    table.update(analysis(0))
    table.update(analysis(1, state, FaceState(4, points[:, :2], 0.25)))
    table.update(analysis(1, state))  # at the end, the last frame comes again
    table.end(SUMMARY)
    header, first, second = (tmp_path / "frames.csv").read_bytes().split(b"\r\n")[:-1]
    assert header.decode().split(",") == [column.name for column in FRAME]
    row = dict(zip(header.split(b","), first.split(b","), strict=True))
    assert (row[b"time_s"], row[b"frame"], row[b"face"]) == (b"0.033", b"1", b"3")
    assert float(row[b"box_width"]) == pytest.approx(np.ptp(points[:, 0]), abs=0.1)
    assert (row[b"quality"], row[b"score"]) == (b"0.5000", b"")
    assert (row[b"_neutral"], row[b"noseSneerRight"]) == (b"0.0000", b"1.0000")
    row = dict(zip(header.split(b","), second.split(b","), strict=True))
    assert (row[b"yaw_deg"], row[b"score"], row[b"jawOpen"]) == (b"", b"0.2500", b"")
