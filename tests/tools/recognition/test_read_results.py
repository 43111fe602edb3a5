"""Answers in files: ours, and the text files of CausalNet's released code."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_release import write_release
from tools.recognition import evaluate
from tools.recognition.read_results import BadFileError, read_text


def text(pairs: list[list[int]], epoch: int = 3) -> str:
    """As the released code writes the answers (answer, true label) to a subject's clips."""
    accuracy = sum(a == t for a, t in pairs) / len(pairs) if pairs else 0
    return f"best epoach: {epoch}\nbest acc: {accuracy}\nmatrix_acc: {pairs}\n"


def write_texts(folder: Path, **subjects: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for subject, content in subjects.items():
        # Names of SAMM are numbers, which Python takes for no keyword.
        (folder / f"{subject.removeprefix('_')}_acc.txt").write_text(content)
    return folder


def read(folder: Path, out: Path) -> dict:
    assert evaluate.main(["--read", str(folder), "--out", str(out)]) == 0
    return json.loads((out / "summary.json").read_text())


def rules(summary: dict) -> dict[str, str]:
    return {note["file"]: note["rule"] for note in summary["notes"]}


def test_figures_of_the_released_code_by_hand(tmp_path, capsys):
    folder = write_texts(
        tmp_path / "results",
        sub01=text([[0, 0], [1, 1]]),
        s03=text([[2, 2], [0, 1]]),
        _006=text([[0, 0], [0, 2]]),
    )
    summary = read(folder, tmp_path / "out")
    (run,) = summary["runs"]
    # True 0, 1, 0, 2, 1, 2 is answered by 0, 1, 0, 2, 0, 0.
    assert run["composite"] == {
        "UF1": round((4 / 6 + 2 / 3 + 2 / 3) / 3, 4),
        "UAR": round((1 + 0.5 + 0.5) / 3, 4),
        "ACC": round(4 / 6, 4),
    }
    assert run["casme2"]["ACC"] == 1
    assert run["casme2"]["UF1"] == round(2 / 3, 4)  # no surprise: that counts as 0
    assert (run["smic"]["ACC"], run["samm"]["ACC"]) == (0.5, 0.5)
    assert run["protocol"] == "best epoch on test"
    # Its tables call the first row happiness; the label 0 is negative.
    assert run["classes"][0] == "negative"
    assert run["confusion"] == [[2, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert set(summary["rules"]) == {"class-names-by-label", "set-by-subject"}
    assert "happiness" in capsys.readouterr().out


def test_what_is_unusual_in_a_file_is_told_and_a_bad_one_spoils_no_other(tmp_path, capsys):
    folder = write_texts(
        tmp_path / "results",
        sub01=text([[0, 0]]),
        sub02=text([], epoch=0),
        sub03=text([[1, 1]]) + text([[2, 1]]),
        sub04=text([[1, 1]]).replace("1.0", "0.25"),
        sub05="best epoach: 3\nbest acc: 1.0\nmatrix_acc: [[0, 0], [1,",
        sub06=text([[0, 3]]),
        sub07="",
        someone=text([[2, 2]]),
    )
    (folder / "sub08_acc.txt").write_bytes(b"\xff\xfe\x00matrix_acc")
    summary = read(folder, tmp_path / "out")
    assert rules(summary) == {
        "sub02_acc.txt": "no-answers",
        "sub03_acc.txt": "first-run",
        "sub04_acc.txt": "accuracy-differs",
        "sub05_acc.txt": "unreadable",
        "sub06_acc.txt": "unreadable",
        "sub07_acc.txt": "unreadable",
        "sub08_acc.txt": "unreadable",
        "someone_acc.txt": "unknown-subject",
    }
    (run,) = summary["runs"]
    assert (run["clips"], run["composite"]["ACC"]) == (4, 1)
    assert run["sets"] == ["casme2"]
    printed = capsys.readouterr().out
    assert "no-answers: sub02_acc.txt" in printed
    assert "unreadable: sub05_acc.txt (its matrix_acc is no list of pairs" in printed


def test_the_best_of_several_configurations_is_named_as_such(tmp_path):
    write_texts(tmp_path / "r/0.3_3_3_7", sub01=text([[0, 0], [1, 1], [0, 2]]))
    write_texts(tmp_path / "r/0.5_3_3_9", sub01=text([[0, 0], [1, 1], [2, 2]]))
    runs = read(tmp_path / "r", tmp_path / "out")["runs"]
    assert [(run["run"], run["protocol"]) for run in runs] == [
        ("0.3_3_3_7", "best epoch on test"),
        ("0.5_3_3_9", "best epoch on test"),
        ("0.5_3_3_9", "best epoch and configuration on test"),
    ]
    assert runs[2]["composite"]["UF1"] == 1


def test_our_own_answers_give_the_figures_of_their_summary(tmp_path):
    release = write_release(tmp_path / "release", subjects=3, clips=3)
    fast = ["--model", "ststnet", "--recipe", "epochs=1", "--folds", "2", "--seeds", "2"]
    for name, more in (("plain", []), ("search", ["--test-selected", "--search", "1"])):
        out = tmp_path / "runs" / name
        assert evaluate.main(["--data", str(release), "--out", str(out), *fast, *more]) == 0
    summary = json.loads((tmp_path / "runs/plain/summary.json").read_text())
    runs = {run["run"]: run for run in read(tmp_path / "runs", tmp_path / "out")["runs"]}
    plain = runs["plain/predictions.csv"]
    for group in ("composite", "casme2", "smic", "samm", "spread"):
        assert plain[group] == summary[group]
    assert (plain["protocol"], plain["seeds"], plain["clips"]) == ("honest", 2, 9)
    assert runs["search/predictions-best-epoch-on-test.csv"]["protocol"] == "best epoch on test"
    assert runs["search/predictions-honest.csv"]["composite"] == summary["composite"]
    # Figures of several runs do not replace those of one.
    kept = str(tmp_path / "runs/plain")
    assert evaluate.main(["--read", kept, "--out", kept]) == 2
    assert json.loads((tmp_path / "runs/plain/summary.json").read_text()) == summary


@pytest.mark.parametrize(
    "content", ["", "seed,set\n0,smic\n", "seed,set,subject,clip,label,answer,a\n0,s,p,c,a,b,1\n"]
)
def test_a_bad_table_is_named(tmp_path, capsys, content):
    (tmp_path / "predictions.csv").write_text(content)
    assert evaluate.main(["--read", str(tmp_path)]) == 2
    assert "predictions.csv" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_folder_without_results_is_named(tmp_path, capsys, name):
    assert evaluate.main(["--read", str(tmp_path / name)]) == 2
    assert "give" in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="[]{}0123456789,-.e \nmatrix_cd:ba\"'tru"))
def test_no_text_ends_in_a_traceback(content):
    for whole in (content, f"matrix_acc: {content}", f"best acc: {content}\nmatrix_acc: [[0, 0]]"):
        with contextlib.suppress(BadFileError):
            pairs, _ = read_text(whole)
            assert all(answer in (0, 1, 2) and true in (0, 1, 2) for answer, true in pairs)
