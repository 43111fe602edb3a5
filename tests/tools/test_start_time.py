"""tools/start_time.py on a real clip."""

import json

import pytest

from tools.start_time import main


def test_the_first_frame_takes_longer_than_what_it_contains(clip, capsys):
    assert main([str(clip), "--runs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    medians = {key: found[key]["median"] for key in found if key.endswith("_ms")}
    assert medians["first_frame_ms"] > medians["import_ms"] > 0
    assert medians["recognizer_ms"] > medians["import_ms"]


@pytest.mark.parametrize("name", ["missing.avi", "text.avi"])
def test_a_video_that_cannot_be_read_is_named(tmp_path, capsys, name):
    (tmp_path / "text.avi").write_text("no video")
    assert main([str(tmp_path / name), "--runs", "1"]) == 2
    assert name in capsys.readouterr().err
