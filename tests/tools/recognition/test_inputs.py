import json

import numpy as np
import pytest

from models.inputs import FLOW_FIELD, KEY_FRAMES
from models.zoo import make_network
from realtime_mer.spotting.cell_flow import to_cells
from tests.tiny_release import write_release
from tools.recognition import evaluate, export, train
from tools.recognition.export import load_checkpoint
from tools.recognition.inputs import SEEN, faces_at_equal_times, with_inputs
from tools.recognition.prepared import read_clips, read_faces, read_prepared
from tools.recognition.registered_clip import RegisteredClip


def clip_that_brightens(times: np.ndarray, key: tuple[int, int, int]) -> RegisteredClip:
    """Faces whose brightness is 100 times the time."""
    n = len(times)
    faces = np.tile((100 * times).astype(np.uint8)[:, None, None], (1, 224, 224))
    return RegisteredClip(
        numbers=np.arange(n),
        times=times,
        faces=faces,
        landmarks=np.zeros((n, 478, 3), np.float32),
        matrices=np.zeros((n, 2, 3)),
        blinks=np.zeros(n),
        jaws=np.zeros(n),
        key=np.array(key),
        apex_from="annotated",
        applied=(),
        coloured=np.array(key),
        colours=np.zeros((3, 224, 224, 3), np.uint8),
    )


def test_frames_are_taken_at_equal_times_from_onset_to_offset():
    # A frame is missing between .6 and 1.0.
    clip = clip_that_brightens(np.array([0, 0.2, 0.4, 0.6, 1.0, 1.2, 1.4]), (1, 3, 5))
    seen = faces_at_equal_times(clip, 6, 8)
    assert seen.shape == (6, 8, 8)
    assert np.abs(seen[:, 4, 4].astype(int) - [20, 40, 60, 80, 100, 120]).max() <= 1


def test_a_clip_of_two_frames_is_enough():
    clip = clip_that_brightens(np.array([0.0, 1.0]), (0, 0, 1))
    assert faces_at_equal_times(clip, 3, 4)[:, 0, 0].tolist() == [0, 50, 100]


@pytest.mark.parametrize("model", SEEN)
def test_the_flow_release_lacks_what_they_see(model, tmp_path, capsys):
    data = ["--data", str(write_release(tmp_path, subjects=2, clips=3))]
    assert evaluate.main([*data, "--out", str(tmp_path / "out"), "--model", model]) == 2
    told = capsys.readouterr().err
    assert model in told
    assert "prepare.py" in told


def test_a_classical_baseline_has_no_epochs_to_choose_from(tmp_path, capsys):
    data = ["--data", str(write_release(tmp_path, subjects=2, clips=3))]
    baseline = ["--model", "bi-woof-svm", "--test-selected"]
    assert evaluate.main([*data, "--out", str(tmp_path / "out"), *baseline]) == 2
    assert "--test-selected" in capsys.readouterr().err


def test_mmnet_and_srmcl_see_the_clips_of_a_prepared_set(prepared_sets):
    folder = prepared_sets["casme2"]
    clips = read_clips([folder], (), 5)
    files = {name: folder / "clips" / f"{name}.npz" for name in clips.names}

    frames = with_inputs(clips, [folder], "mmnet")
    assert (frames.pairs.shape, frames.pairs.dtype) == ((4, *KEY_FRAMES.shape), np.uint8)
    apex = read_faces(files[clips.names[2]]).colours[1]
    assert np.array_equal(frames.pairs[2, 3:].transpose(1, 2, 0), apex)

    flow = with_inputs(clips, [folder], "srmcl")
    assert flow.pairs.shape == (4, *FLOW_FIELD.shape)
    keys = read_prepared(folder).columns["key"]
    kept = np.load(folder / "motion.npy")[[keys.index(name) for name in clips.names], 0]
    cells = np.stack(
        [to_cells(field.transpose(1, 2, 0).astype(np.float32)) for field in flow.pairs]
    )
    np.testing.assert_allclose(cells, kept, atol=0.005)

    assert list(frames.labels) == list(clips.labels)


@pytest.mark.parametrize("model", ["micro-exp-stcnn", "lbp-top-svm", "bi-woof-svm"])
def test_the_same_command_measures_them(prepared_sets, tmp_path, model):
    data = ["--data", str(prepared_sets["casme2"]), "--classes", "5"]
    once = ["--model", model, "--recipe", "epochs=1"]
    assert evaluate.main([*data, "--out", str(tmp_path), *once]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["model"], summary["protocol"]) == (model, "honest")


def test_their_weights_are_kept_but_the_program_cannot_run_them(prepared_sets, tmp_path, capsys):
    kept = tmp_path / "kept.pt"
    data = ["--data", str(prepared_sets["casme2"]), "--classes", "5", "--folds", "2"]
    once = ["--model", "micro-exp-stcnn", "--epochs", "1", "--checkpoint", str(kept)]
    assert train.main([*data, *once]) == 0
    network = make_network("micro-exp-stcnn", 5)
    network.load_state_dict(load_checkpoint(kept)["states"][0])
    assert export.main([str(kept), "--out", str(tmp_path / "x.onnx")]) == 2
    assert "micro-exp-stcnn" in capsys.readouterr().err
