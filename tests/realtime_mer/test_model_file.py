"""Weights are used only with the card that describes them."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from realtime_mer.errors import InputError
from realtime_mer.model_file import SPOTTER, load_weights, open_session


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
    given = {
        put.name: np.zeros([n if isinstance(n, int) else 1 for n in put.shape], np.float32)
        for put in session.get_inputs()
    }
    answers = session.run(None, given)
    assert all(np.isfinite(answer).all() for answer in answers)


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


def network_with_a_tensor_elsewhere(location: str, offset: int = 0) -> bytes:
    """An ONNX file that looks rows up in a table, which lies at `location`."""
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[64, 64])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", 4 * 64 * 64)):
        table.external_data.add(key=key, value=str(value))
    row = helper.make_tensor_value_info("row", TensorProto.INT64, [1])
    read = helper.make_tensor_value_info("read", TensorProto.FLOAT, [1, 64])
    node = helper.make_node("Gather", ["table", "row"], ["read"])
    graph = helper.make_graph([node], "reader", [row], [read], [table])
    opset = [onnx.helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.parametrize("where", ["beside", "below", "above", "absolute", "link", "memory"])
def test_no_other_file_is_read_however_the_weights_ask_for_it(tmp_path, monkeypatch, capfd, where):
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    private = np.arange(64 * 64, dtype=np.float32)
    for place in (tmp_path, home, home / "folder"):
        private.tofile(place / "private.bin")
    (home / "link.bin").symlink_to(tmp_path / "private.bin")
    location = {
        "beside": "private.bin",
        "below": "folder/private.bin",
        "above": "../private.bin",
        "absolute": str(tmp_path / "private.bin"),
        "link": "link.bin",
        "memory": "*/_ORT_MEM_ADDR_/*",  # by which ONNX Runtime marks what lies in its own memory
    }[where]
    offset = private.ctypes.data if where == "memory" else 0
    content = network_with_a_tensor_elsewhere(location, offset)
    path = home / "net.onnx"
    path.write_bytes(content)
    card = {"sha256": hashlib.sha256(content).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(card))
    monkeypatch.chdir(home)
    if where in ("beside", "below"):
        # Left to itself, ONNX Runtime reads it.
        plain = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        (read,) = plain.run(None, {"row": np.array([1])})
        assert read[0, 0] == 64
    with pytest.raises(InputError, match=r"net\.onnx keep tensors outside their file.*: make"):
        open_session(load_weights(path), ["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")
