"""tools/registration_noise.py on the demo's photo."""

import json

import cv2
import numpy as np
import pytest

from tools.registration_noise import main


def test_a_still_face_is_registered_as_steadily_as_by_mediapipe(astronaut, tmp_path, capsys):
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), astronaut)
    assert main([str(path), "--width", "150", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["fps"], row["camera"]) for row in found] == [
        (30, "fixed"),
        (30, "swaying"),
        (60, "fixed"),
        (60, "swaying"),
    ]
    for row in found:
        for way in ("every_frame", "as_in_use"):
            assert 0 < row[way]["step_px"] < 1.3 * row["mediapipe"]["step_px"] + 0.02
    assert found[0]["as_in_use"]["step_px"] < found[1]["as_in_use"]["step_px"]
    assert main([str(path)]) == 0
    assert "swaying" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"text", "cannot be read")]
)
def test_what_is_no_picture_is_named(tmp_path, capsys, content, said):
    path = tmp_path / "face.png"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert "face.png" in error
    assert said in error


def test_a_picture_without_a_face_is_named(tmp_path, capsys):
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((200, 200, 3), 90, np.uint8))
    assert main([str(path)]) == 2
    assert "grey.png shows no face" in capsys.readouterr().err
