"""From made-up data sets to prepared ones: right motions, nothing lost, nothing done twice."""

import csv
import json
import os
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rich.console import Console

from realtime_mer.errors import InputError
from realtime_mer.face.registration import FACE_SIZE
from realtime_mer.face.ring import RingBuffer
from realtime_mer.recognition.face_pair import FacePair
from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.results import Interval
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import RigidMotion, face_mask, texture_trust
from tests.tiny_release import write_release
from tests.tools.recognition import made_up
from tools.recognition import prepare
from tools.recognition.datasets.catalogue import CLIPS
from tools.recognition.datasets.tree import FrameFolder, Tree
from tools.recognition.prepared import read_clips, read_prepared


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rendered(clip, units):
    """(28, 28, 2) the displacement that was rendered, as the registered face shows it.

    Of a motion, what a rigid head could do as well is taken for the head's.
    """
    _, _, canonical = made_up.photo_face()
    onset, apex, _ = clip.key
    to_photo = np.vstack([cv2.invertAffineTransform(canonical), [0, 0, 1]])
    # From where the field was drawn to where the face was put.
    matrix = (np.vstack([clip.matrices[onset], [0, 0, 1]]) @ to_photo)[:2]
    turned = (made_up.field_of(units) @ matrix[:, :2].T).astype(np.float32)
    field = cv2.warpAffine(turned, matrix, (FACE_SIZE, FACE_SIZE))
    face = clip.face(apex)
    rigid = RigidMotion(face.landmarks, texture_trust(face.grey))
    cells, _ = rigid.remove(to_cells(field).reshape(-1, 2))
    return cells.reshape(28, 28, 2)


@pytest.mark.parametrize("name", made_up.SETS)
def test_motions_are_those_that_were_rendered(name, prepared_sets, made_up_sets):
    prepared = read_prepared(prepared_sets[name])
    motion = np.load(prepared_sets[name] / "motion.npy")
    shown = made_up_sets[name][1]
    assert prepared.columns["key"] == [s.key for s in shown]
    for index, (key, units, strength) in enumerate((s.key, s.units, s.strength) for s in shown):
        clip = prepared.faces_of(index)
        inside = to_cells(face_mask(clip.landmarks[clip.key[1]]).astype(np.uint8) * 255) > 204
        truth, larger = strength * rendered(clip, units), max(strength, 1.0)
        assert np.percentile(np.linalg.norm(truth[inside], axis=-1), 95) > 0.5, key
        for way, sign in enumerate((1, -1)):  # there, and back
            error = np.linalg.norm(motion[index, way] - sign * truth, axis=-1)[inside]
            assert np.median(error) < 0.06 * larger, key
            assert error.mean() < 0.12 * larger, key
            assert np.percentile(error, 85) < 0.15 * larger, key


def test_flow_pairs_are_the_runtimes(prepared_sets):
    prepared = read_prepared(prepared_sets["casme2"])
    clip = prepared.faces_of(0)
    ring = RingBuffer(1.0, 250)
    for index, time_s in enumerate(clip.times):
        ring.append(float(time_s), clip.face(index))
    pair = FacePair()(ring, Interval(*(float(clip.times[k]) for k in clip.key)))
    assert (prepared.pairs[0] == pair.images).all()


def test_rows_keep_what_the_tables_say(prepared_sets):
    columns = read_prepared(prepared_sets["casme2"]).columns
    row = {name: values[0] for name, values in columns.items()}
    assert row["set"] == "casme2"
    assert (row["subject"], row["clip"], row["emotion"]) == ("sub01", "EP02_01f", "happiness")
    assert (row["composite"], row["own_class"]) == ("positive", "happiness")
    assert row["action_units"] == ["AU12"]
    assert (row["onset"], row["apex"], row["offset"], row["fps"]) == (46, 49, 52, 200)
    assert (row["apex_from"], row["rules"]) == ("annotated", [])
    # The raw frames count, with two frames before the onset and two after the offset.
    assert row["frames"] == "CASME2-RAW/sub01/EP02_01f"
    assert row["faces"] == 11
    assert row["intensity_px"] == pytest.approx(1.2, abs=0.3)
    assert columns["fps"] == [200] * 4
    assert read_prepared(prepared_sets["dfme"]).columns["fps"] == [None, None]


def test_a_missing_apex_is_the_frame_of_the_largest_motion(prepared_sets):
    for name, key in (("casme2", "sub01_EP03_02"), ("mmew", "mmew-S05_S05-03-001")):
        columns = read_prepared(prepared_sets[name]).columns
        index = columns["key"].index(key)
        assert columns["apex_from"][index] == "largest motion"
        assert columns["apex"][index] == columns["onset"][index] + made_up.RISE


def test_what_was_put_right_and_what_was_left_out_is_told_row_by_row(prepared_sets):
    corrections = rows_of(prepared_sets["casme2"] / "corrections.csv")
    told = {(r["clip"], r["rule"]): (r["typed"], r["taken"]) for r in corrections}
    assert told["ep06_02f", "offset-typed-wrong"] == ("19", "91")
    assert told["EP03_02", "apex-missing"][0] == "/"
    assert all(r["what it means"] for r in corrections)
    left_out = rows_of(prepared_sets["casme2"] / "left_out.csv")
    assert ("5", "same-again") in {(r["row"], r["reason"]) for r in left_out}
    about = json.loads((prepared_sets["casme2"] / "set.json").read_text())
    assert about["left_out"] == {"same-again": 1, "no-folder": 56}
    assert about["clips"] == 4


def test_key_frames_are_kept_in_colour(prepared_sets):
    clip = read_prepared(prepared_sets["casme2"]).faces_of(0)
    assert clip.colours.shape == (3, FACE_SIZE, FACE_SIZE, 3)
    grey = cv2.cvtColor(clip.colours[0], cv2.COLOR_BGR2GRAY)
    assert np.abs(grey.astype(int) - clip.faces[clip.key[0]]).mean() < 2
    assert clip.colours[0][..., 2].mean() > clip.colours[0][..., 0].mean() + 10  # skin


@pytest.fixture
def small(tmp_path, made_up_sets):
    """MMEW's two clips, in a folder of their own that may be spoilt."""
    shutil.copytree(made_up_sets["mmew"][0], tmp_path / "mmew")
    return tmp_path / "mmew"


def prepare_small(folder, out, *more):
    return prepare.main(["mmew", str(folder), "--out", str(out), "--jobs", "1", *more])


def test_a_stopped_run_continues_and_a_spoilt_clip_spoils_no_other(small, tmp_path, capsys):
    out = tmp_path / "out"
    broken = small / "Micro_Expression/disgust/S03-01-002/4.jpg"
    good = broken.read_bytes()
    broken.write_bytes(b"no picture")
    assert prepare_small(small, out) == 0
    assert read_prepared(out).columns["clip"] == ["S05-03-001"]
    (row,) = rows_of(out / "left_out.csv")
    assert (row["clip"], row["reason"], row["detail"]) == (
        "S03-01-002",
        "unreadable-picture",
        "4.jpg",
    )
    assert "unreadable-picture" in capsys.readouterr().out
    (kept,) = (out / "clips").iterdir()
    written = kept.stat().st_mtime_ns
    broken.write_bytes(good)
    assert prepare_small(small, out) == 0
    assert kept.stat().st_mtime_ns == written
    assert read_prepared(out).columns["clip"] == ["S03-01-002", "S05-03-001"]
    assert not list(out.rglob("*.part"))
    # Another number of faces makes all of them anew.
    assert prepare_small(small, out, "--faces", "3") == 0
    # An apex that is not marked needs more to be found.
    assert read_prepared(out).columns["faces"] == [3, 7]


def test_a_face_that_is_not_found_leaves_its_clip_out(small, tmp_path):
    for path in (small / "Micro_Expression/disgust/S03-01-002").iterdir():
        cv2.imwrite(str(path), np.full((200, 200, 3), 90, np.uint8))
    assert prepare_small(small, tmp_path / "out") == 0
    (row,) = rows_of(tmp_path / "out/left_out.csv")
    assert (row["reason"], row["detail"]) == ("no-face", "frame 1, 4, 7")


def test_a_face_that_fills_its_picture_is_found_with_a_border(small, tmp_path):
    for path in (small / "Micro_Expression/disgust/S03-01-002").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path))[71:251, 80:220])  # no chin, no forehead
    assert prepare_small(small, tmp_path / "out") == 0
    columns = read_prepared(tmp_path / "out").columns
    assert columns["rules"][0] == ["padded"]


@pytest.mark.skipif(prepare.tv_l1() is None, reason="this OpenCV has no TV-L1 flow")
def test_tv_l1_sees_the_same_motion(prepared_sets):
    clip = read_prepared(prepared_sets["mmew"]).faces_of(0)
    onset, apex, _ = clip.key
    first, second = (clip.faces[k, 40:, 40:184].copy() for k in (onset, apex))
    ours, theirs = (to_cells(flow(first, second)) for flow in (DenseFlow(), prepare.tv_l1()))
    for way in (0, 1):
        assert np.corrcoef(ours[..., way].ravel(), theirs[..., way].ravel())[0, 1] > 0.8


def test_a_second_flow_goes_beside_the_first(small, tmp_path, monkeypatch):
    """TV-L1 takes a second a pair: another flow stands in for it."""
    shutil.rmtree(small / "Micro_Expression/S05")
    monkeypatch.setattr(prepare, "tv_l1", DenseFlow)
    assert prepare_small(small, tmp_path / "out", "--tvl1", "--faces", "3") == 0
    assert len(np.load(tmp_path / "out/flow_tvl1.npy")) == 1
    ours, theirs = (read_clips([tmp_path / "out"], flow=flow) for flow in ("dis", "tvl1"))
    assert (ours.pairs == theirs.pairs).all()


def test_a_set_without_the_second_flow_says_how_to_get_it(prepared_sets):
    with pytest.raises(InputError, match="--tvl1"):
        read_clips([prepared_sets["mmew"]], flow="tvl1")


class Deadly(FrameFolder):
    """Frames that take down the process that reads them, as a fault in native code does."""

    def numbers(self):
        os._exit(1)


def test_several_jobs_prepare_the_same_and_survive_a_process_that_dies(
    small, prepared_sets, tmp_path
):
    reading = CLIPS["mmew"](Tree(small), None, None)
    good, bad = reading.clips
    bad = replace(bad, folder=Deadly(bad.folder.path, bad.folder.parts))
    reading = replace(reading, clips=(bad, good))
    out = tmp_path / "out"
    prepare.prepare("mmew", reading, out, prepare.Options(faces=3), 2, Console(quiet=True))
    (row,) = rows_of(out / "left_out.csv")
    assert (row["clip"], row["reason"], row["detail"]) == (bad.name, "failed", "its process died")
    motions = [np.load(folder / "motion.npy") for folder in (out, prepared_sets["mmew"])]
    np.testing.assert_allclose(motions[0][0], motions[1][0], atol=1e-3)


def test_the_flow_release_is_one_more_set(tmp_path):
    (tmp_path / "release").mkdir()
    release = write_release(tmp_path / "release", subjects=3, clips=2)
    out = tmp_path / "out"
    assert prepare.main(["flow-release", str(release), "--out", str(out)]) == 0
    ours, theirs = read_clips([out]), read_clips([release])
    assert ours.classes == theirs.classes
    for name in ("names", "sets", "subjects", "labels", "pairs"):
        assert (getattr(ours, name) == getattr(theirs, name)).all()
    assert not read_prepared(out).has_faces()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--faces", "2"], "--faces"),
        (["--jobs", "0"], "--jobs"),
        (["--fps", "0"], "--fps"),
        (["--table", "absent.xlsx"], "absent.xlsx"),
    ],
)
def test_bad_input_ends_with_a_message(small, tmp_path, capsys, change, named):
    assert prepare_small(small, tmp_path / "out", *change) == 2
    assert named in capsys.readouterr().err


def test_a_set_of_which_nothing_can_be_used_says_why(small, tmp_path, capsys):
    shutil.rmtree(small / "Micro_Expression")
    assert prepare_small(small, tmp_path / "out") == 2
    assert "left_out.csv says why" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "out/left_out.csv")) == 2
