"""The recipe for a subject is chosen without that subject."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from torch import nn

from models.data import Clips, read_release
from models.training import Recipe
from tests.tiny_release import write_release
from tools.recognition import evaluate, nested, protocol
from tools.recognition.drawn_clips import DrawnClips, write_drawn_clips
from tools.recognition.nested import Candidate, choose, figures_for_choice, trials_of

# Chance level: a network that learns nothing. The first in the list, so that ties would go to it.
POOR = Candidate("poor", "ststnet", Recipe(epochs=1, learning_rate=1e-9), drawn=False)
GOOD = Candidate("good", "kernel-ridge", drawn=False)
BLOCKS = 3
CONSOLE = Console(quiet=True)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), subjects=8, clips=3)


@pytest.fixture(autouse=True)
def two_recipes(monkeypatch):
    monkeypatch.setattr(nested, "RECIPES", (POOR, GOOD))


def measure(release: Path, out: Path, *more: str) -> int:
    options = ["--blocks", str(BLOCKS), "--seeds", "2", "--recipes", "poor", "good", *more]
    return nested.main(["--data", str(release), "--out", str(out), *options])


@pytest.fixture(scope="module")
def measured(release, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("nested")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nested, "RECIPES", (POOR, GOOD))
        assert measure(release, out) == 0
    return out


@pytest.fixture
def own_copy(measured, tmp_path) -> Path:
    return shutil.copytree(measured, tmp_path / "nested")


def answers(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


# Who trains


def test_no_network_behind_a_choice_saw_the_block_or_the_clip(release, tmp_path, monkeypatch):
    """Each network answers with the numbers of the people who trained it, as bits."""
    clips = read_release(release)
    people = {name: i for i, name in enumerate([*np.unique(clips.subjects), "photo"])}

    class Trained(nn.Module):
        on = 0

    def fit(network: nn.Module, train: Clips, recipe: Recipe, seed: int) -> nn.Module:
        trained = Trained()
        trained.on = sum(1 << people[name] for name in set(map(str, train.subjects)))
        return trained

    def predict(network: Trained, pairs: np.ndarray) -> np.ndarray:
        return np.full((len(pairs), 3), network.on, float)

    monkeypatch.setattr(protocol, "fit", fit)
    monkeypatch.setattr(protocol, "predict", predict)
    drawn = DrawnClips(
        np.zeros((1, 2, 28, 28, 3), np.uint8),
        np.array([1]),
        np.array(["AU12"]),
        np.array(["photo"]),
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
    )
    write_drawn_clips(tmp_path / "drawn.npz", drawn)
    candidates = [Candidate("with", "ststnet"), Candidate("without", "ststnet", drawn=False)]
    trials = trials_of(candidates, clips, tmp_path / "drawn.npz", BLOCKS, tmp_path)
    block = trials[0].inner.fold_of(clips)
    assert sorted(set(block)) == list(range(BLOCKS))
    for trial in trials:
        photos = {"photo"} if trial.candidate.drawn else set()
        logits = trial.answers_for_choice(1, CONSOLE)
        for own in range(BLOCKS):
            for i, of_clip in enumerate(block):
                if of_clip == own:
                    assert np.isnan(logits[own, i]).all()
                    continue
                bits = int(logits[own, i, 0])
                on = {name for name, place in people.items() if bits >> place & 1}
                others = set(clips.subjects[(block != own) & (block != of_clip)])
                assert on == others | photos
        # And the figures: everybody but the subject.
        for own in range(BLOCKS):
            one = trial.answers([own], [0], 1, CONSOLE)[0]
            for i in np.flatnonzero(block == own):
                on = {name for name, place in people.items() if int(one[i, 0]) >> place & 1}
                assert on == set(clips.subjects) - {clips.subjects[i]} | photos
            assert not one[block != own].any()


def test_what_a_block_answers_changes_no_choice_for_it(release, tmp_path):
    clips = read_release(release)
    figures = []
    for name in ("as it is", "spoilt"):
        trial = trials_of([GOOD], clips, None, BLOCKS, tmp_path / name)[0]
        logits = trial.answers_for_choice(1, CONSOLE)
        figures.append(figures_for_choice(logits, clips.labels))
        spoilt = trial.inner.fold_of(clips) == 0
        clips.labels[spoilt] = (clips.labels[spoilt] + 1) % 3
        clips.pairs[spoilt] = clips.pairs[spoilt][:, ::-1]
    assert figures[0][0] == figures[1][0]
    assert figures[0][1:] != figures[1][1:]


# The choice


def test_of_equal_recipes_the_first_is_chosen():
    assert choose({"a": [0.5, 0.6, 0.5], "b": [0.5, 0.5, 0.7], "c": [0.4, 0.6, 0.7]}) == [
        *("a", "a", "b")
    ]


def test_a_better_recipe_is_chosen_and_answers_as_in_a_plain_run(release, measured, tmp_path):
    summary = summary_of(measured)
    assert summary["chosen"] == ["good"] * BLOCKS
    assert max(summary["inner"]["poor"]) < min(summary["inner"]["good"])
    assert not (measured / "poor/loso").exists()  # what no block chose answers nobody
    plain = ["--model", "kernel-ridge", "--seeds", "2"]
    assert evaluate.main(["--data", str(release), "--out", str(tmp_path), *plain]) == 0
    assert answers(measured) == answers(tmp_path)
    for key in ("composite", "samm", "spread", "calibration_error", "ensemble"):
        assert summary[key] == summary_of(tmp_path)[key]


def test_the_figure_of_one_recipe_for_all_stands_beside(release, own_copy, capsys):
    assert measure(release, own_copy, "--beside", str(own_copy)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "less this: +0.000 (+0.000 to +0.000 in 95 % of samples" in printed
    assert measure(release, own_copy) == 0
    assert "less this" not in capsys.readouterr().out
    # evaluate.py goes on where the first recipe has answered one block.
    trial = trials_of([POOR], read_release(release), None, BLOCKS, own_copy)[0]
    trial.answers([0], [0, 1], 1, CONSOLE)
    made = {path: path.stat().st_mtime_ns for path in (own_copy / "poor/loso").rglob("*.npy")}
    assert 0 < len(made) < 2 * 8
    poor = ["--model", "ststnet", "--recipe", "epochs=1", "learning_rate=1e-9", "--seeds", "2"]
    out = ["--out", str(own_copy / "poor/loso")]
    assert evaluate.main(["--data", str(release), *out, *poor]) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert measure(release, own_copy) == 0
    assert "chosen for each block less this: +0." in " ".join(capsys.readouterr().out.split())


# Files


def test_a_run_that_was_stopped_goes_on_where_it_was(release, own_copy):
    before = answers(own_copy)
    kept = {path: path.stat().st_mtime_ns for path in own_copy.rglob("*.npy")}
    assert len(kept) == 2 * 3 + 2 * 8
    lost = [own_copy / "poor/pairs/folds/0-2.npy", own_copy / "good/loso/folds/1-4.npy"]
    for path in lost:
        path.unlink()
    assert measure(release, own_copy) == 0
    assert answers(own_copy) == before
    made_anew = [path for path, time in kept.items() if path.stat().st_mtime_ns != time]
    assert sorted(made_anew) == sorted(lost)


@pytest.mark.parametrize("whose", ["evaluate", "other blocks"])
def test_a_folder_of_another_plan_is_refused(release, measured, tmp_path, capsys, whose):
    if whose == "evaluate":
        plain = ["--model", "kernel-ridge", "--folds", "2"]
        assert evaluate.main(["--data", str(release), "--out", str(tmp_path), *plain]) == 0
        assert measure(release, tmp_path) == 2
    else:
        assert measure(release, measured, "--blocks", "4") == 2
    assert "holds a run with other settings: give another --out" in capsys.readouterr().err


def test_what_cannot_be_measured_is_named(release, tmp_path, capsys, monkeypatch):
    assert measure(release, tmp_path, "--blocks", "9") == 2
    assert "--blocks is at most 8" in capsys.readouterr().err
    monkeypatch.setattr(nested, "RECIPES", (POOR, GOOD, Candidate("learns-drawn", "ststnet")))
    assert measure(release, tmp_path, "--recipes", "good", "learns-drawn") == 2
    assert "learns-drawn learns drawn clips: give --drawn" in capsys.readouterr().err
