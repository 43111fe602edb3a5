"""The command on real clips, and its messages about inputs that it cannot use."""

import csv
import json

import cv2
import numpy as np
import pytest

from realtime_mer.model_file import SPOTTER
from realtime_mer.spotting.spotter import SpotterModel
from tools.spotting import evaluate
from tools.spotting.actions import ACTIONS, NOTHING
from tools.spotting.evaluate import main


@pytest.fixture
def grey_clip(tmp_path):
    path = tmp_path / "grey=1.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (160, 120))
    for _ in range(30):
        writer.write(np.full((120, 160, 3), 90, np.uint8))
    writer.release()
    return path


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_command_runs_the_chain_on_a_video(grey_clip, tmp_path, capsys):
    truth = write(tmp_path / "truth.csv", "onset,apex,offset", "10,14,18")
    assert main([f"{grey_clip}={truth}", "--json"]) == 0
    printed = capsys.readouterr().out
    assert '"events": 1' in printed
    assert '"recall": 0.0' in printed


def test_the_command_shows_both_rules_in_a_table(grey_clip, tmp_path, capsys):
    truth = write(tmp_path / "truth.csv", "onset,apex,offset,masking", "10,14,18,0.2")
    assert main([f"{grey_clip}={truth}"]) == 0
    printed = capsys.readouterr().out
    assert "ours" in printed
    assert "MEGC rule" in printed
    assert "Recall by masking" in printed
    assert "clear up to 0.5" in printed
    assert "At other sensitivities" not in printed


def test_a_data_set_is_evaluated_with_its_curve(short_demo_clip, tmp_path, capsys):
    clip, event = short_demo_clip
    videos = tmp_path / "videos"
    (videos / "s1").mkdir(parents=True)
    (videos / "s1" / "1_0101demo.avi").symlink_to(clip)
    # A video of nobody, without annotations: it counts by our rule and not by that of MEGC.
    (videos / "s2" / "2_0102grey").mkdir(parents=True)
    for number in range(1, 31):
        name = videos / "s2" / "2_0102grey" / f"img{number}.png"
        cv2.imwrite(str(name), np.full((120, 160, 3), 90, np.uint8))
    onset, offset = (round(30 * t) + 1 for t in (event.interval.onset_s, event.interval.offset_s))
    table = write(
        tmp_path / "table.csv",
        "subject,video,onset,apex,offset,type,emotion,masking",
        f"1,0101,{onset},0,{offset},micro-expression,{event.label},0.7",
        "1,0101,1,20,40,macro-expression,happiness,",
    )
    curve, plot = tmp_path / "curve.csv", tmp_path / "curve.png"
    arguments = ["--annotations", str(table), "--videos", str(videos), "--fps", "30", "--json"]
    assert main([*arguments, "--curve", str(curve), "--plot", str(plot)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["videos"], report["events"], report["matched"]) == (2, 1, 1)
    assert report["minutes"] == pytest.approx(7 / 60, abs=0.006)
    assert (report["megc"]["videos"], report["megc"]["F1"]) == (1, 1.0)
    assert report["by_masking"] == {"partly": {"events": 1, "matched": 1, "recall": 1.0}}
    assert set(report["false_by_action"]) == {*ACTIONS, NOTHING}
    assert sum(row["false"] for row in report["false_by_action"].values()) == 0
    with curve.open(newline="") as file:
        points = {float(row["threshold"]): row for row in csv.DictReader(file)}
    assert len(points) == len(report["curve"]) > 40
    in_use = points[round(SpotterModel(SPOTTER).threshold, 4)]
    assert [int(in_use[key]) for key in ("reports", "matched")] == [report["reports"], 1]
    assert cv2.imread(str(plot)) is not None


def test_results_so_far_are_printed_when_a_later_video_cannot_be_read(grey_clip, tmp_path, capsys):
    truth = write(tmp_path / "truth.csv", "onset,apex,offset")
    broken = write(tmp_path / "broken.avi", "no video")
    assert main([f"{grey_clip}={truth}", f"{broken}={truth}", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("evaluate.py: ") == 1
    assert "broken.avi" in printed.err
    report = json.loads(printed.out)
    assert report["videos"] == 1
    assert "broken.avi" in report["stopped"]


def test_ctrl_c_keeps_the_results_so_far(grey_clip, tmp_path, capsys, monkeypatch):
    truth = write(tmp_path / "truth.csv", "onset,apex,offset")

    def interrupted(options):
        yield evaluate.with_truth(f"{grey_clip}={truth}", None)
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "recordings", interrupted)
    assert main([f"{grey_clip}={truth}", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["stopped"] == "stopped by user"


def test_the_command_names_a_missing_truth(tmp_path, capsys):
    assert main([str(tmp_path / "clip.avi")]) == 2
    assert "VIDEO=TRUTH.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--curve", "{}/missing/curve.csv"], "does not exist"),
        (["--plot", "{}/curve.pdf"], "ends in .png"),
        (["--curve", "{}/curve.png", "--plot", "{}/curve.png"], "another output"),
    ],
)
def test_outputs_that_cannot_be_written_are_named_first(tmp_path, capsys, arguments, words):
    places = [argument.format(tmp_path) for argument in arguments]
    assert main(["--demo-clips", "1", *places]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--demo-clips N"),
        (["--annotations", "table.csv"], "go together"),
        (["--demo-clips", "1", "--fps", "0"], "no frame rate"),
    ],
)
def test_a_command_that_is_not_whole_is_explained(capsys, arguments, words):
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err
