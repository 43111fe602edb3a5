"""Rendered clips hold what their tables say, in a form that the evaluation reads."""

from itertools import islice

import cv2
import pytest

from tests.tiny_release import write_release
from tools.spotting import render_clips
from tools.spotting.annotations import read_data_set
from tools.spotting.render_clips import main


@pytest.fixture
def media(tmp_path, monkeypatch, astronaut):
    folder = tmp_path / "media"
    folder.mkdir()
    cv2.imwrite(str(folder / "someone.png"), astronaut)
    whole = render_clips.sway
    monkeypatch.setattr(render_clips, "sway", lambda *a: islice(whole(*a), 150))
    return folder


def test_clips_and_their_tables_fit_together(tmp_path, media, capsys):
    data, out = write_release(tmp_path / "data"), tmp_path / "out"
    cv2.imwrite(str(media / "nobody.png"), cv2.imread(str(media / "someone.png"))[:60])
    arguments = ["--media", str(media), "--data", str(data), "--out", str(out)]
    assert main([*arguments, "--kinds", "events", "none", "--subjects", "p0"]) == 0
    assert "nobody.png left out" in capsys.readouterr().err
    (events,) = read_data_set(out / "events.csv", out / "events", first_frame=0)
    (none,) = read_data_set(out / "none.csv", out / "none", first_frame=0)
    assert (none.micros, none.macros) == ((), ())
    assert len(events.micros) + len(events.macros) >= 1
    for recording in (events, none):
        video = cv2.VideoCapture(str(recording.path))
        assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(30)
        frames = sum(video.read()[0] for _ in range(150))
        assert frames == 150
        assert all(m.offset < 150 for m in recording.micros)
    # A photo under a swaying camera does hardly anything by itself.
    assert all(m.masking is not None for m in events.micros + events.macros)
    assert min(m.masking for m in events.micros + events.macros) < 0.5


@pytest.mark.parametrize(
    ("subjects", "said"), [(["p9"], "no clips of subject p9"), ([], "no photo or video in")]
)
def test_bad_usage_is_told(tmp_path, media, capsys, subjects, said):
    data = write_release(tmp_path / "data")
    if not subjects:
        (media / "someone.png").unlink()
    arguments = ["--media", str(media), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--subjects", *subjects]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
