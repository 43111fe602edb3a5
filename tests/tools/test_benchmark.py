"""The benchmark measures the real chain on the same frames as the landmarker."""

import json
import threading

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source.frame import Frame
from tools import archive_speed, benchmark, performance_table
from tools.archive_speed import archive_profile
from tools.benchmark import MemoryReader, main, read_frames, together
from tools.performance_table import COLUMNS, TABLE, Revision
from tools.station_times import STATIONS

FIGURES = {
    "tracker_ms", "chain_ms", "ratio", "fps", "tracker_cpu_ms", "chain_cpu_ms",
    "flow_ms", "spot_ms", "spotting_alone_ms", "classify_ms", "network_ms", "naming_ratio",
    "tracker_cpu_s", "chain_cpu_s", "track_share", "register_share", "flow_share", "spot_share",
    "draw_ms",
}  # fmt: skip


def write_video(path, pictures: list[np.ndarray]) -> None:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), 30, (width, height)
    )
    for picture in pictures:
        writer.write(picture)
    writer.release()


@pytest.fixture(scope="module")
def video(tmp_path_factory, astronaut):
    """Three seconds of the face under a camera that moves a little."""
    small = cv2.resize(astronaut, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    path = tmp_path_factory.mktemp("benchmark") / "face.avi"
    write_video(path, [np.roll(small, (i // 9, i // 5), axis=(0, 1)) for i in range(90)])
    return path


def test_it_prints_one_object_with_every_figure_and_records_a_row(
    video, capsys, tmp_path, monkeypatch
):
    of = Revision("abc1234", True)
    monkeypatch.setattr(performance_table, "revision", lambda: of)
    table = tmp_path / "performance.md"
    table.write_text(TABLE.read_text(encoding="utf-8"), encoding="utf-8")
    command = [str(video), "--json", "--frames", "80", "--runs", "2", "--record", str(table)]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() >= FIGURES
    assert all(found[key] > 0 for key in FIGURES)
    assert found["frames"] == 50  # of 80, after the warm-up
    assert found["with_face"] == 1
    assert found["runs"] == 2
    assert found["spread"].keys() == FIGURES | {"with_face", "source_fps"}
    shares = [found[f"{station}_share"] for station in ("track", "register", "flow", "spot")]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    minute = 60 * 30 / 1000 * found["chain_cpu_ms"]
    assert found["chain_cpu_s"] == pytest.approx(minute, rel=0.01)
    added = table.read_text(encoding="utf-8").removeprefix(TABLE.read_text(encoding="utf-8"))
    cells = dict(zip(COLUMNS, added.strip("|\n ").split(" | "), strict=True))
    assert cells["revision"] == str(of)
    assert cells["video"] == "face.avi, 352 x 272, 30 fps"
    assert cells["chain"].startswith(f"{found['ratio']:.2f} (")
    assert cells["archive"] == "not measured"


def test_figures_of_several_runs_are_medians_with_the_least_and_the_most():
    runs = [
        {"video": "a", "ratio": r, "flow_ms": f} for r, f in ((1.2, 2.0), (1.1, None), (1.5, 2.0))
    ]
    found = together(runs)
    assert found["ratio"] == 1.2
    assert found["spread"] == {"ratio": {"min": 1.1, "median": 1.2, "max": 1.5}}
    assert found["flow_ms"] is None
    assert found["video"] == "a"
    assert found["runs"] == 3


def test_figures_that_need_a_face_are_null_without_one(tmp_path, capsys):
    path = tmp_path / "empty.avi"
    write_video(path, [np.full((120, 160, 3), 60 + i % 9, np.uint8) for i in range(70)])
    assert main([str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["with_face"] == 0
    assert found["flow_ms"] is found["spot_ms"] is found["classify_ms"] is None
    assert found["spotting_alone_ms"] is found["network_ms"] is None
    assert found["tracker_ms"] > 0
    assert found["chain_ms"] > 0
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert "no face seen" in said
    assert "landmarker alone" in said


@pytest.mark.parametrize("content", [None, b"no video", "short"], ids=["gone", "text", "short"])
def test_a_video_that_cannot_be_measured_is_bad_usage(tmp_path, capsys, content):
    path = tmp_path / "clip.avi"
    if content == "short":
        write_video(path, [np.zeros((60, 80, 3), np.uint8)] * 12)
    elif content is not None:
        path.write_bytes(content)
    assert main([str(path), "--json"]) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert "clip.avi" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("count", ["0", "-5", "many", "59"])
def test_too_few_frames_are_refused(video, capsys, count):
    with pytest.raises(SystemExit) as ended:
        main([str(video), "--frames", count])
    assert ended.value.code == 2
    assert "60 frames or more" in capsys.readouterr().err


def test_a_camera_is_refused():
    with pytest.raises(InputError, match=r"camera 0 is live.*video file"):
        read_frames("0", 100)


@pytest.mark.parametrize(("most", "expected"), [(75, 75), (500, 90)])
def test_no_more_frames_are_decoded_than_asked_for(video, most, expected):
    frames, fps = read_frames(str(video), most)
    assert len(frames) == expected
    assert fps == pytest.approx(30)
    assert [f.index for f in frames] == list(range(expected))


def test_memory_for_frames_is_bounded(video, monkeypatch):
    monkeypatch.setattr(benchmark, "_MOST_BYTES", 100_000)
    frames, _ = read_frames(str(video), 500)
    assert len(frames) == 60  # as many as a measurement takes, and no more


def test_frames_in_memory_are_read_in_order_and_end():
    frames = [Frame(i, i / 30, np.full((4, 4, 3), i, np.uint8), 0.0) for i in range(3)]
    reader = MemoryReader("three", frames, 30.0)
    reader.open()
    reader.allow(3)
    grabs = [reader.read() for _ in range(3)]
    assert [int(g.image[0, 0, 0]) for g in grabs] == [0, 1, 2]
    assert [g.position_s for g in grabs] == [0, 1 / 30, 2 / 30]
    assert reader.read() is None
    assert "three" in str(reader.empty())


def test_no_frame_is_handed_out_before_it_is_allowed():
    frames = [Frame(i, i / 30, np.full((4, 4, 3), i, np.uint8), 0.0) for i in range(9)]
    reader, taken = MemoryReader("nine", frames, 30.0), []

    def take():
        while (grab := reader.read()) is not None:
            taken.append(int(grab.image[0, 0, 0]))

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    reader.allow(2)
    taker.join(0.1)
    assert taken == [0, 1, 2]  # the first is for opening
    reader.stop()
    taker.join(5)
    assert not taker.is_alive()
    assert taken == [0, 1, 2]


def test_archive_speed_is_that_of_the_archives_own_workers(video, monkeypatch):
    monkeypatch.setattr(archive_speed, "cores", lambda: 1)
    found = archive_speed.archive_speed(str(video))
    assert found["archive_workers"] == 1
    # Three seconds of video; a worker takes longer to start than to be told so.
    assert found["archive_hours"] > 0
    assert found["archive_start_s"] > 0.1
    assert found["archive_cpu_s"] > 0
    profile = archive_profile(str(video))
    assert profile.keys() <= set(STATIONS)
    assert min(profile[name] for name in ("landmarker", "start")) > 0
    assert max(profile, key=profile.get) in {"landmarker", "start"}


def test_a_video_that_the_archive_cannot_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_speed, "cores", lambda: 1)
    path = tmp_path / "text.avi"
    path.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"text\.avi cannot be analysed"):
        archive_speed.archive_speed(str(path))
