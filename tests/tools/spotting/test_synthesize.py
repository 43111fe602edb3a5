"""The command: a file a clip, and what it says of media that it cannot use."""

from itertools import islice

import cv2
import numpy as np
import pytest

from tests.tiny_release import write_release
from tools.spotting import synthesize
from tools.spotting.synthesize import main


def test_the_command_writes_a_file_a_clip_and_goes_on_where_it_was_stopped(
    tmp_path, monkeypatch, capfd, astronaut
):
    media, out, data = tmp_path / "media", tmp_path / "out", write_release(tmp_path / "data")
    media.mkdir()
    cv2.imwrite(str(media / "someone.png"), astronaut)
    cv2.imwrite(str(media / "nobody.png"), np.zeros((90, 90, 3), np.uint8))
    (media / "broken.jpg").write_bytes(b"no picture")
    whole = synthesize.sway
    monkeypatch.setattr(synthesize, "sway", lambda *a: islice(whole(*a), 60))
    arguments = ["--media", str(media), "--data", str(data), "--out", str(out), "--takes", "2"]
    assert main(arguments) == 0
    said = capfd.readouterr().out
    assert "nobody.png, take 0: left out: no face" in said
    assert "broken.jpg, take 1: left out" in said
    assert sorted(p.name for p in out.iterdir()) == ["someone.0.npz", "someone.1.npz"]
    for take in (0, 1):
        with np.load(out / f"someone.{take}.npz") as signals:
            assert len(signals["time_s"]) == 60
            assert bool(signals["still"])
            assert signals["events"].shape[1] == 4
            assert take or not len(signals["events"])
    stamp = (out / "someone.0.npz").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (out / "someone.0.npz").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_media_is_bad_usage(tmp_path, capsys, exists):
    media = tmp_path / "media"
    if exists:
        media.mkdir()
    data = write_release(tmp_path / "data")
    arguments = ["--media", str(media), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert str(media) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
