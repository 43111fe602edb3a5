"""The command that measures a curve again."""

import json
import shutil

import pytest

from realtime_mer.model_file import SPOTTER
from tests.signals import write_signals
from tools.spotting import calibration
from tools.spotting.calibrate import main


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "THRESHOLDS", (0.3, 0.6))
    for suffix in (".onnx", ".json"):
        shutil.copy(SPOTTER.with_suffix(suffix), tmp_path / f"net{suffix}")
    return tmp_path / "net.onnx"


def test_the_command_rewrites_the_card(tmp_path, weights, astronaut_face, capsys):
    write_signals(tmp_path / "held" / "someone.0.npz", astronaut_face, noise_px=0.03)
    assert main(["--held-out", str(tmp_path / "held"), "--weights", str(weights)]) == 0
    card = json.loads(weights.with_suffix(".json").read_text())
    assert [point["threshold"] for point in card["operating_curve"]] == [0.3, 0.6]
    said = capsys.readouterr().out
    assert str(weights.with_suffix(".json")) in said
    assert "run tools/spotting/limits.py" in said


@pytest.mark.parametrize(
    ("clip", "said"),
    [("face_001.0.npz", "trained on alike: face_001"), (None, "no signals of clips in")],
)
def test_what_cannot_be_measured_is_named(tmp_path, weights, astronaut_face, capsys, clip, said):
    before = weights.with_suffix(".json").read_bytes()
    (tmp_path / "held").mkdir()
    if clip:
        write_signals(tmp_path / "held" / clip, astronaut_face)
    assert main(["--held-out", str(tmp_path / "held"), "--weights", str(weights)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("calibrate.py: ")
    assert said in message
    assert weights.with_suffix(".json").read_bytes() == before
