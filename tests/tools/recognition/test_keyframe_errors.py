import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data import read_release
from tests.tiny_release import write_release
from tools.recognition import keyframe_errors


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), subjects=6, clips=3)


@pytest.fixture(scope="module", autouse=True)
def quick_rendering():
    """Real rendering takes seconds a clip; test_rendered_pairs.py does it for one."""

    def repeated(clips, path, advance):
        return np.repeat(clips.pairs[:, None, None], 13, axis=2).repeat(2, axis=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyframe_errors, "rendered_pairs", repeated)
        yield


def measure(release: Path, out: Path, *more: str) -> int:
    fast = ["--models", "ststnet", "--epochs", "1", "--folds", "2"]
    return keyframe_errors.main(["--data", str(release), "--out", str(out), *fast, *more])


@pytest.fixture(scope="module")
def measured(release, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("keyframes")
    assert measure(release, out, "--seeds", "2") == 0
    return out


def test_results_are_a_curve_for_each_seed_tables_and_a_plot(measured):
    result = json.loads((measured / "keyframes.json").read_text())
    assert "honest" in result["protocol"]
    assert result["errors"][0] == 0
    assert result["errors"][-1] == 0.6
    assert set(result["UF1"]) == {"mixed", "chain, apex", "chain, window"}
    for by_model in result["UF1"].values():
        assert np.shape(by_model["ststnet"]) == (2, len(result["errors"]))
    lines = (measured / "keyframes.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 3 * 3
    assert len({line.count("|") for line in rows}) == 1
    assert cv2.imread(str(measured / "keyframes.png")) is not None


def test_a_stopped_run_continues_where_it_was(measured, release):
    before = (measured / "keyframes.json").read_text()
    kept, lost = sorted(measured.glob("parts-*/*.npy"))[:2]
    written = kept.stat().st_mtime_ns
    lost.unlink()
    assert measure(release, measured, "--seeds", "2") == 0
    assert kept.stat().st_mtime_ns == written
    assert (measured / "keyframes.json").read_text() == before


def test_equal_pairs_give_equal_uf1_at_every_error(measured):
    """The stand-in for rendering gives the clips themselves, whatever the error."""
    uf1 = json.loads((measured / "keyframes.json").read_text())["UF1"]
    for seed in (0, 1):
        plain = uf1["mixed"]["ststnet"][seed][0]
        for way in ("chain, apex", "chain, window"):
            assert uf1[way]["ststnet"][seed] == [plain] * 7


def test_the_curve_is_the_mean_of_late_and_early(release):
    clips = read_release(release)
    right = np.eye(3)[clips.labels]
    wrong = np.eye(3)[(clips.labels + 1) % 3]
    logits = np.array([[right, right], [right, wrong], [wrong, wrong]])
    assert keyframe_errors.curve(clips, logits) == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--folds", "1"], "--folds"),
        (["--seeds", "0"], "--seeds"),
        (["--data", "absent"], "no folder absent"),
    ],
)
def test_bad_input_ends_with_a_message(release, tmp_path, capsys, change, named):
    assert measure(release, tmp_path, *change) == 2
    assert named in capsys.readouterr().err


def test_an_unwritable_folder_ends_with_a_message(release, tmp_path, capsys):
    taken = tmp_path / "file"
    taken.write_text("")
    assert measure(release, taken / "out") == 2
    assert "--out" in capsys.readouterr().err
