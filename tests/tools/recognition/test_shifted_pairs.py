"""Wrong key frames on frames: which faces are taken, and what the networks are asked."""

import json

import numpy as np
import pytest

from realtime_mer.recognition.flow_pair import DenseFlow
from tests.tiny_release import write_release
from tests.tools.recognition import made_up
from tools.recognition import keyframe_errors, prepare
from tools.recognition.prepared import read_prepared
from tools.recognition.registered_clip import RegisteredClip
from tools.recognition.shifted_pairs import KINDS, STEPS, wrong_key


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
    assert prepare.main(["casme3-a", str(root), "--out", str(out), "--jobs", "1"]) == 0
    return out


def measure(data, out):
    fast = ["--models", "ststnet", "--epochs", "1", "--folds", "2"]
    return keyframe_errors.main(["--data", str(data), "--out", str(out), *fast])


def test_networks_are_asked_with_wrong_key_frames_of_prepared_clips(slow, tmp_path):
    assert measure(slow, tmp_path / "out") == 0
    result = json.loads((tmp_path / "out/keyframes.json").read_text())
    assert set(result["UF1"]) == set(KINDS)
    # 5 frames before the onset allow 45 % of a half-window and no more.
    assert result["reached"]["apex"][3] == pytest.approx(0.3, abs=0.1)
    assert result["reached"]["onset"][0] == 0
    spotted = result["spotted"]
    assert (spotted["found"], spotted["clips"]) == (2, 2)
    # The spotter sees the apex that was rendered, and not the one that is marked too late.
    assert spotted["apex_error"]["median"] == pytest.approx(2 * 2 / 11, abs=0.1)
    assert set(spotted["spotted"]) == {"ststnet"}
    assert "2 of 2 clips" in (tmp_path / "out/keyframes.md").read_text()
    (pairs,) = (tmp_path / "out").glob("parts-*/shifted-pairs.npy")
    made = np.load(pairs)
    prepared = read_prepared(slow)
    for kind in range(len(KINDS)):
        assert (made[:, kind, STEPS] == prepared.pairs).all()
    # An apex that is early by 60 % of a half-window: the pair of those frames.
    clip = prepared.faces_of(0)
    key = wrong_key(clip, "apex", -STEPS)
    assert (made[0, KINDS.index("apex"), 0] == clip.pair(key, DenseFlow())).all()
    assert (made[0, KINDS.index("apex"), 0] != prepared.pairs[0]).any()
    kept = pairs.stat().st_mtime_ns
    assert measure(slow, tmp_path / "out") == 0
    assert pairs.stat().st_mtime_ns == kept


def test_frames_and_the_flow_release_do_not_mix(slow, tmp_path, capsys):
    (tmp_path / "release").mkdir()
    release = write_release(tmp_path / "release", subjects=3, clips=1)
    data = ["--data", str(slow), str(release)]
    assert keyframe_errors.main([*data, "--out", str(tmp_path / "out")]) == 2
    assert "not both" in capsys.readouterr().err
