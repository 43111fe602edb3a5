from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data import IMAGES, INDEX, read_release, subject_folds
from realtime_mer.errors import InputError
from realtime_mer.recognition.flow_pair import direction_image
from tests.release import needs_release, release_folder, release_image
from tests.tiny_release import write_release


@pytest.mark.parametrize("nested", [False, True], ids=["release", "clone of the repository"])
def test_reads_clips_in_the_order_of_the_index(tmp_path, nested):
    write_release(tmp_path, subjects=2, clips=2, nested=nested)
    clips = read_release(tmp_path)
    assert clips.names.tolist() == ["p0_clip0", "p0_clip1", "p1_clip0", "p1_clip1"]
    assert clips.labels.tolist() == [0, 1, 1, 2]
    assert clips.sets.tolist() == ["casme2", "casme2", "smic", "smic"]
    images = tmp_path / "datasets" / IMAGES if nested else tmp_path / IMAGES
    fall = cv2.imread(str(images / "p1_clip0_1 .png"))
    assert np.array_equal(clips.pairs[2, 1], fall)
    assert clips.pairs.shape == (4, 2, 28, 28, 3)


def _no_folder(at: Path) -> Path:
    return at / "absent"


def _no_index(at: Path) -> Path:
    (at / INDEX).unlink()
    return at


def _foreign_index(at: Path) -> Path:
    (at / INDEX).write_text("a,b\n1,2\n")
    return at


def _empty_index(at: Path) -> Path:
    (at / INDEX).write_text("")
    return at


def _unknown_label(at: Path) -> Path:
    index = at / INDEX
    index.write_text(index.read_text().replace("clip0,0", "clip0,7"))
    return at


def _no_image(at: Path) -> Path:
    (at / IMAGES / "p0_clip0 .png").unlink()
    return at


def _broken_image(at: Path) -> Path:
    (at / IMAGES / "p0_clip0 .png").write_bytes(b"no picture")
    return at


def _large_image(at: Path) -> Path:
    cv2.imwrite(str(at / IMAGES / "p0_clip0 .png"), np.zeros((30, 28, 3), np.uint8))
    return at


@pytest.mark.parametrize(
    "spoil",
    [
        _no_folder,
        _no_index,
        _foreign_index,
        _empty_index,
        _unknown_label,
        _no_image,
        _broken_image,
        _large_image,
    ],
)
def test_a_wrong_folder_is_refused_with_a_remedy(tmp_path, spoil):
    directory = spoil(write_release(tmp_path, subjects=1, clips=2))
    with pytest.raises(InputError, match=f"give a folder with {INDEX}"):
        read_release(directory)


@needs_release
def test_the_releases_direction_images_follow_from_its_flow_images():
    clips = read_release(release_folder())
    assert len(clips) == 442
    errors = []
    for i in range(0, len(clips), 12):
        for image, part in zip(clips.pairs[i], ("_2", "_3"), strict=True):
            released = release_image(f"{clips.names[i]}{part}")
            errors.append(np.abs(direction_image(image).astype(int) - released).mean())
    # One pixel in a thousand has the hue beside ours.
    assert np.mean(errors) < 0.02


def test_without_subjects(tmp_path):
    clips = read_release(write_release(tmp_path, subjects=4, clips=1))
    assert set(clips.without(["p1", "p3"]).subjects) == {"p0", "p2"}
    assert len(clips.without([])) == 4
    with pytest.raises(InputError, match="nobody"):
        clips.without(["nobody"])


def test_folds_keep_subjects_together_and_sets_apart(tmp_path):
    clips = read_release(write_release(tmp_path, subjects=12, clips=2))
    fold = subject_folds(clips, 4, seed=1)
    assert sorted(np.bincount(fold)) == [6, 6, 6, 6]
    for subject in set(clips.subjects):
        assert len(set(fold[clips.subjects == subject])) == 1
    for k in range(4):
        assert len(set(clips.sets[fold == k])) == 3
    assert np.array_equal(fold, subject_folds(clips, 4, seed=1))
