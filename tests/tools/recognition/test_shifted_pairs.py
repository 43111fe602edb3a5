"""Wrong key frames on frames: which faces are taken, and what the networks are asked."""

import json
from functools import partial

import cv2
import numpy as np
import pytest
from torch import nn
from torch.nn import functional

from models.inputs import FLOW_FIELD, KEY_FRAMES
from models.zoo import OTHER_INPUTS
from realtime_mer.face.registration import crop
from realtime_mer.recognition.flow_pair import DenseFlow
from tests.tiny_release import write_release
from tests.tools.recognition import made_up
from tools.recognition import keyframe_errors, prepare
from tools.recognition.inputs import with_inputs
from tools.recognition.prepared import paths_of_faces, read_clips, read_faces
from tools.recognition.registered_clip import RegisteredClip
from tools.recognition.shifted_pairs import KINDS, STEPS, shifted_pairs, wrong_key


def clip_of(numbers, key):
    nothing = np.zeros(len(numbers))
    return RegisteredClip(
        numbers=np.array(numbers),
        times=np.array(numbers) / 100,
        faces=nothing,
        landmarks=nothing,
        matrices=nothing,
        blinks=nothing,
        jaws=nothing,
        key=np.array([numbers.index(k) for k in key]),
        apex_from="annotated",
        applied=(),
        coloured=nothing,
        colours=nothing,
    )


# Onset 20, apex 40, offset 60; a step is a twentieth of the clip, 2 frames.
@pytest.mark.parametrize(
    ("kind", "steps", "frames"),
    [
        ("onset", 0, (20, 40, 60)),
        ("onset", 3, (26, 40, 60)),
        ("onset", -6, (8, 40, 60)),
        ("apex", 6, (20, 52, 60)),
        ("apex", -2, (20, 36, 60)),
        ("offset", 4, (20, 40, 68)),
        ("window", -5, (10, 30, 50)),
    ],
)
def test_key_frames_move_by_a_part_of_the_clip(kind, steps, frames):
    clip = clip_of(list(range(0, 101)), (20, 40, 60))
    assert tuple(clip.numbers[list(wrong_key(clip, kind, steps))]) == frames


def test_the_nearest_frame_that_was_kept_is_taken():
    clip = clip_of(list(range(0, 101, 4)), (20, 40, 60))
    assert tuple(clip.numbers[list(wrong_key(clip, "apex", 3))]) in ((20, 44, 60), (20, 48, 60))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", range(-STEPS, STEPS + 1))
def test_key_frames_stay_in_order_and_within_the_frames(kind, steps):
    for numbers, key in ((list(range(20, 27)), (20, 25, 26)), ([1, 2, 9], (1, 2, 9))):
        clip = clip_of(numbers, key)
        onset, apex, offset = wrong_key(clip, kind, steps)
        assert 0 <= onset < apex < offset < len(numbers)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """Two people's clips at 30 frames a second: long enough for the spotter."""
    root = tmp_path_factory.mktemp("slow")
    rows = [["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"]]
    shows = ((made_up.SMILE, "happy"), (made_up.BROWS, "surprise"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_up, "RISE", 5)
        patch.setattr(made_up, "FALL", 6)
        for person, (units, emotion) in enumerate(shows):
            # The marked apex is two frames late.
            rows.append([f"spNO.{person}", "a", 10, 17, 21, "", 1, emotion])
            folder = root / f"part_A/spNO.{person}/a/color"
            made_up.write_clip(folder, units, "{}.jpg", 10, before=6, after=6)
    made_up.write_table(root / "part_A_ME_label.xlsx", rows)
    out = root / "out"
    options = ["--jobs", "1", "--colour"]
    assert prepare.main(["casme3-a", str(root), "--out", str(out), *options]) == 0
    return out


def measure(data, out, *models):
    fast = ["--models", *models, "--epochs", "1", "--folds", "2"]
    return keyframe_errors.main(["--data", str(data), "--out", str(out), *fast])


class Quick(nn.Module):
    """Stands in for a network that sees planes and takes seconds to train."""

    def __init__(self, planes, classes):
        super().__init__()
        self.planes = planes
        self.last = nn.Linear(planes.shape[0] * 64, classes)

    def forward(self, x):
        return self.last(functional.adaptive_avg_pool2d(x.float(), 8).flatten(1))


MODELS = ("ststnet", "mmnet", "srmcl")


@pytest.fixture(scope="module")
def measured(slow, tmp_path_factory):
    """Folder of the results of three networks, each of which sees something else."""
    out = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        for name, planes in (("mmnet", KEY_FRAMES), ("srmcl", FLOW_FIELD)):
            patch.setitem(OTHER_INPUTS, name, partial(Quick, planes))
        assert measure(slow, out, *MODELS) == 0
    return out


def test_networks_are_asked_with_wrong_key_frames_of_prepared_clips(measured):
    result = json.loads((measured / "keyframes.json").read_text())
    assert set(result["UF1"]) == set(KINDS)
    for by_model in (*result["UF1"].values(), result["spotted"]["spotted"]):
        assert set(by_model) == set(MODELS)
    # 5 frames before the onset allow 45 % of a half-window and no more.
    assert result["reached"]["apex"][3] == pytest.approx(0.3, abs=0.1)
    assert result["reached"]["onset"][0] == 0
    spotted = result["spotted"]
    assert (spotted["found"], spotted["clips"]) == (2, 2)
    # The spotter sees the apex that was rendered, and not the one that is marked too late.
    assert spotted["apex_error"]["median"] == pytest.approx(2 * 2 / 11, abs=0.1)
    assert "2 of 2 clips" in (measured / "keyframes.md").read_text()


EARLY = KINDS.index("apex") * (2 * STEPS + 1)
"""Among the questions: an apex that is early by 60 % of a half-window."""
RIGHT = EARLY + STEPS


def test_each_network_sees_the_frames_of_the_wrong_key_frames(slow, measured):
    (parts,) = measured.glob("parts-*")
    kept = (parts / "shifted-pairs.npy").stat().st_mtime_ns
    clips = read_clips([slow])
    files = paths_of_faces([slow], clips)
    made = shifted_pairs(files, parts)
    assert (parts / "shifted-pairs.npy").stat().st_mtime_ns == kept
    wrong = keyframe_errors.Wrong(KINDS, made.pairs, made.spotted, files, made)
    clip, flow = read_faces(files[0]), DenseFlow()
    key = wrong_key(clip, "apex", -STEPS)
    assert key[1] < clip.key[1]

    seen = wrong.questions("ststnet", 0)
    assert (seen[EARLY] == clip.pair(key, flow)).all()
    assert (seen[EARLY] != clips.pairs[0]).any()
    assert (seen[RIGHT] == clips.pairs[0]).all()

    seen = wrong.questions("mmnet", 0)
    picture = cv2.imread(str(slow.parent / f"part_A/spNO.0/a/color/{clip.numbers[key[1]]}.jpg"))
    shown = crop(picture, clip.matrices[key[1]], colour=True)
    assert (seen[EARLY, 3:].transpose(1, 2, 0) == shown).all()
    assert (seen[RIGHT] == with_inputs(clips, [slow], "mmnet").pairs[0]).all()

    seen = wrong.questions("srmcl", 0)
    field, _ = clip.motion(key, flow)
    np.testing.assert_allclose(seen[EARLY].transpose(1, 2, 0), field, atol=0.01)
    # The spotter sees the apex two frames before the marked one.
    field, _ = clip.motion(clip.key - (0, 2, 0), flow)
    np.testing.assert_allclose(seen[-1].transpose(1, 2, 0), field, atol=0.01)


def test_a_set_without_the_colours_that_a_network_sees_says_how_to_get_them(
    prepared_sets, tmp_path, capsys
):
    assert measure(prepared_sets["casme2"], tmp_path, "mmnet") == 2
    assert "--colour" in capsys.readouterr().err


def test_frames_and_the_flow_release_do_not_mix(slow, tmp_path, capsys):
    (tmp_path / "release").mkdir()
    release = write_release(tmp_path / "release", subjects=3, clips=1)
    data = ["--data", str(slow), str(release)]
    assert keyframe_errors.main([*data, "--out", str(tmp_path / "out")]) == 2
    assert "not both" in capsys.readouterr().err
