"""Weights are loaded only together with the card that describes them."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from realtime_mer.errors import InputError
from realtime_mer.model_file import (
    CLASSIFIER,
    SPOTTER,
    _weights_folder,
    load_weights,
    open_session,
)


@pytest.fixture
def weights(tmp_path) -> Path:
    """A copy of the delivered weights, to be damaged."""
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


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def grow_card(path: Path) -> None:
    """To a gigabyte that takes no room on the disk."""
    with path.with_suffix(".json").open("r+b") as file:
        file.truncate(1 << 30)


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def card(text: bytes):
    return lambda path: path.with_suffix(".json").write_bytes(text)


@pytest.mark.parametrize("path_type", [str, Path])
def test_weights_give_their_bytes_and_card(weights, path_type):
    loaded = load_weights(path_type(weights))
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
    ("damage", "words"),
    [
        (remove, ["net.onnx is missing"]),
        (remove_card, ["net.json is missing"]),
        (make_folder, ["cannot be read", "no file"]),
        (make_pipe, ["cannot be read", "no file"]),
        (grow_card, ["net.json is larger than 4 MiB"]),
        (card(b"[" * 200_000), ["net.json is not JSON"]),
        (card(b'{"a":' * 100_000), ["net.json is not JSON"]),
        (card(b"1" * 100_000), ["net.json is not JSON"]),
        (card(b"NaN"), ["not the one that net.json describes"]),
        (flip_one_bit, ["not the one that net.json describes", "SHA-256"]),
        (cut_short, ["not the one that net.json describes"]),
        (card(b"{"), ["net.json is not JSON"]),
        (card(b"\xff\xfe"), ["net.json is not JSON"]),
        (card(b"[]"), ["not the one that net.json describes"]),
        (card(b'{"name": "other", "sha256": "00"}'), ["not the one that net.json describes"]),
        (card(b'{"name": "without a hash"}'), ["not the one that net.json describes"]),
    ],
)
def test_files_that_do_not_belong_together_are_named_with_a_remedy(weights, damage, words):
    damage(weights)
    with pytest.raises(InputError) as raised:
        load_weights(weights)
    message = str(raised.value)
    assert "\n" not in message
    for word in [*words, str(weights), "restore", "train"]:
        assert word in message


@pytest.mark.parametrize("path_type", [str, Path])
@pytest.mark.parametrize("path", ["", ".", "/"])
def test_path_without_a_file_name_is_refused(path, path_type):
    with pytest.raises(InputError, match="name an ONNX file"):
        load_weights(path_type(path))


def test_missing_weights_given_as_text_are_named():
    with pytest.raises(InputError, match=r"weights absent\.onnx: absent\.onnx is missing"):
        load_weights("absent.onnx")


def test_weights_of_an_installed_package_lie_inside_it(tmp_path):
    package = tmp_path / "site-packages" / "realtime_mer"
    (package / "weights").mkdir(parents=True)
    (tmp_path / "site-packages" / "models" / "weights").mkdir(parents=True)  # of another package
    assert _weights_folder(package) == package / "weights"


def test_weights_of_a_checkout_lie_beside_the_networks(tmp_path):
    package = tmp_path / "realtime_mer"
    package.mkdir()
    assert _weights_folder(package) == tmp_path / "models" / "weights"


def test_delivered_weights_are_where_the_package_looks_for_them():
    assert load_weights(CLASSIFIER).card["labels"] == ["negative", "positive", "surprise"]
    assert "threshold" in load_weights(SPOTTER).card


def test_a_matching_card_does_not_make_a_text_file_a_network(tmp_path, capfd):
    path = tmp_path / "text.onnx"
    path.write_text("no network")
    digest = hashlib.sha256(b"no network").hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    loaded = load_weights(path)
    with pytest.raises(InputError, match=r"text\.onnx cannot be used by ONNX Runtime: export"):
        open_session(loaded, ["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")


def network_with_a_tensor_elsewhere(location: str, offset: int = 0) -> bytes:
    """An ONNX file whose only tensor, a table of rows to look up, is stored at `location`."""
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
def test_tensors_outside_the_file_are_refused(tmp_path, monkeypatch, capfd, where):
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
        "memory": "*/_ORT_MEM_ADDR_/*",  # ONNX Runtime's mark for a tensor in memory
    }[where]
    offset = private.ctypes.data if where == "memory" else 0
    content = network_with_a_tensor_elsewhere(location, offset)
    path = home / "net.onnx"
    path.write_bytes(content)
    card = {"sha256": hashlib.sha256(content).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(card))
    monkeypatch.chdir(home)
    if where in ("beside", "below"):
        # With its default options ONNX Runtime reads the file.
        plain = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        (read,) = plain.run(None, {"row": np.array([1])})
        assert read[0, 0] == 64
    with pytest.raises(InputError, match=r"net\.onnx keep tensors outside their file.*: export"):
        open_session(load_weights(path), ["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")


def test_names_in_a_card_cannot_act_on_a_terminal_and_are_short(weights):
    card_path = weights.with_suffix(".json")
    written = json.loads(card_path.read_text())
    written |= {"name": "a\x1b[2J\n\u202eb" + "x" * 1000, "labels": ["[bold]x[/]", "\x9b31m", 7]}
    card_path.write_text(json.dumps(written))
    shown = load_weights(weights).card
    assert shown["name"].startswith("a\\x1b[2J\\n\\u202ebxxx")
    assert len(shown["name"]) == 80
    assert shown["labels"] == ["[bold]x[/]", "\\x9b31m", "7"]


def test_what_was_checked_is_loaded_even_if_the_file_is_exchanged(weights):
    loaded = load_weights(weights)
    for path in (weights, weights.with_suffix(".json")):
        path.write_bytes(b"exchanged")
    open_session(loaded, ["CPUExecutionProvider"])
