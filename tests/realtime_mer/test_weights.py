"""Weights are used only with the card that describes them."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from realtime_mer.event import InputError
from realtime_mer.pipeline import SPOTTER
from realtime_mer.weights import load_weights, open_session


@pytest.fixture
def weights(tmp_path) -> Path:
    """A copy of real ones, to be spoilt."""
    for suffix in (".onnx", ".json"):
        shutil.copy(SPOTTER.with_suffix(suffix), tmp_path / f"net{suffix}")
    return tmp_path / "net.onnx"


def remove(path: Path) -> None:
    path.unlink()


def remove_card(path: Path) -> None:
    path.with_suffix(".json").unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def card(text: bytes):
    return lambda path: path.with_suffix(".json").write_bytes(text)


def test_whole_weights_give_their_bytes_and_card(weights):
    loaded = load_weights(weights)
    assert loaded.path == weights
    assert loaded.content == weights.read_bytes()
    assert loaded.card == json.loads(weights.with_suffix(".json").read_text())
    session = open_session(loaded, ["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    steps, channels = given.shape[1:]
    signals = np.zeros((1, steps if isinstance(steps, int) else 77, channels), np.float32)
    (answer,) = session.run(None, {given.name: signals})
    assert np.isfinite(answer).all()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove, ["net.onnx is missing"]),
        (remove_card, ["net.json is missing"]),
        (make_folder, ["cannot be read"]),
        (flip_one_bit, ["not the one that net.json describes", "SHA-256"]),
        (cut_short, ["not the one that net.json describes"]),
        (card(b"{"), ["net.json is no JSON"]),
        (card(b"\xff\xfe"), ["net.json is no JSON"]),
        (card(b"[]"), ["not the one that net.json describes"]),
        (card(b'{"name": "other", "sha256": "00"}'), ["not the one that net.json describes"]),
        (card(b'{"name": "without a hash"}'), ["not the one that net.json describes"]),
    ],
)
def test_what_does_not_belong_together_is_named_with_a_remedy(weights, spoil, words):
    spoil(weights)
    with pytest.raises(InputError) as raised:
        load_weights(weights)
    message = str(raised.value)
    assert "\n" not in message
    for word in [*words, str(weights), "restore", "tools that train"]:
        assert word in message


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_no_file_name_is_refused(path):
    with pytest.raises(InputError, match="name an ONNX file"):
        load_weights(Path(path))


def test_matching_card_does_not_make_a_network_of_any_file(tmp_path, capfd):
    path = tmp_path / "text.onnx"
    path.write_text("no network")
    digest = hashlib.sha256(b"no network").hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    loaded = load_weights(path)
    with pytest.raises(InputError, match=r"text\.onnx cannot be used by ONNX Runtime: make"):
        open_session(loaded, ["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")
