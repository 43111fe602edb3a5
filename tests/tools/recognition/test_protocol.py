"""Who trains and who is answered: subjects, sets, and the search on test subjects."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.causalnet import MaskedAttention
from models.data import Clips, read_release
from models.training import Recipe, fit, predict
from models.zoo import make_network
from realtime_mer.errors import InputError
from tests.tiny_release import write_release
from tools.recognition import evaluate
from tools.recognition.prepared import read_clips
from tools.recognition.protocol import HONEST, Configuration, Plan, cross_database
from tools.recognition.search import BEST_BOTH, BEST_EPOCH, CONFIGURATIONS, LINES, configurations

PLAN = Plan("ststnet", HONEST, folds=0, members=1, recipe=replace(Recipe(), epochs=1))


def clips_of(*subjects: tuple[str, str]) -> Clips:
    """Two clips of each (set, subject)."""
    each = [pair for pair in subjects for _ in range(2)]
    return Clips(
        names=np.array([f"clip{i}" for i in range(len(each))]),
        sets=np.array([s for s, _ in each]),
        subjects=np.array([s for _, s in each]),
        labels=np.arange(len(each)) % 3,
        pairs=np.zeros((len(each), 2, 28, 28, 3), np.uint8),
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), subjects=6, clips=3)


def measure(release: Path, out: Path, *more: str) -> int:
    fast = ["--model", "ststnet", "--recipe", "epochs=3", "batch=4", "learning_rate=0.02"]
    return evaluate.main(["--data", str(release), "--out", str(out), *fast, *more])


def answers(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Splits


TWICE = clips_of(("smic", "s01"), ("smic", "s02"), ("smic-e", "s01"), ("samm", "006"))


@pytest.mark.parametrize("folds", [0, 2])
def test_a_subject_of_two_sets_is_left_out_of_both(folds):
    plan = replace(PLAN, folds=folds)
    for fold in range(plan.fold_of(TWICE).max() + 1):
        train, test = plan.split(TWICE, fold)
        assert not set(TWICE.subjects[train]) & set(TWICE.subjects[test])
        assert (train | test).all()
    assert len({*plan.fold_of(TWICE)[TWICE.subjects == "s01"]}) == 1


def test_prepared_sets_tell_that_a_subject_occurs_in_two_of_them(prepared_sets):
    clips = read_clips([prepared_sets["smic"], prepared_sets["smic-e"]])
    fold = PLAN.fold_of(clips)
    same = fold[clips.subjects == "s01"]
    assert set(clips.sets[clips.subjects == "s01"]) == {"smic", "smic-e"}
    assert len(set(same)) == 1


def test_a_set_that_is_tested_keeps_its_subjects_out_of_training():
    plan = replace(PLAN, train_sets=("samm", "smic-e"), test_sets=("smic",))
    train, test = plan.split(TWICE, 0)
    assert list(TWICE.sets[test]) == ["smic"] * 4
    assert list(TWICE.sets[train]) == ["samm"] * 2  # s01 of SMIC-E is tested in SMIC


def test_one_side_of_a_cross_database_test_gives_the_other():
    assert cross_database(TWICE, [], ["samm"]) == (("smic", "smic-e"), ("samm",))
    assert cross_database(TWICE, ["samm"], []) == (("samm",), ("smic", "smic-e"))
    assert cross_database(TWICE, ["samm"], ["smic"]) == (("samm",), ("smic",))


@pytest.mark.parametrize(
    ("train", "test", "named"),
    [
        (["mmew"], [], "--train-sets mmew"),
        ([], ["mmew"], "--test-sets mmew"),
        (["samm"], ["samm", "smic"], "samm cannot train and be tested"),
        ([], ["smic", "smic-e", "samm"], "different subjects on both sides"),
        (["smic-e"], ["smic"], "different subjects on both sides"),
    ],
)
def test_sets_that_cannot_be_crossed_are_named(train, test, named):
    only = TWICE[TWICE.subjects != "s02"] if train == ["smic-e"] else TWICE
    with pytest.raises(InputError, match=named):
        cross_database(only, train, test)


def test_subjects_are_drawn_from_all_sets_and_a_larger_draw_holds_a_smaller_one():
    clips = clips_of(*((s, f"{s}{i}") for s in ("casme2", "smic", "samm") for i in range(4)))
    drawn = {
        n: set(clips.subjects[replace(PLAN, subjects=n).fold_of(clips) >= 0]) for n in (3, 6, 12)
    }
    assert {n: len(subjects) for n, subjects in drawn.items()} == {3: 3, 6: 6, 12: 12}
    assert drawn[3] < drawn[6] < drawn[12]
    assert {s[:-1] for s in drawn[3]} == {"casme2", "smic", "samm"}
    train, test = replace(PLAN, subjects=3).split(clips, 0)
    assert (len(set(clips.subjects[train])), len(set(clips.subjects[test]))) == (11, 1)


def test_a_set_is_answered_by_a_network_that_was_trained_on_the_others(release, tmp_path, capsys):
    assert measure(release, tmp_path, "--test-sets", "samm") == 0
    clips = read_release(release)
    recipe = replace(Recipe(), epochs=3, batch=4, learning_rate=0.02)
    torch.manual_seed(0)
    own = clips.sets == "samm"
    logits = predict(fit(make_network("ststnet"), clips[~own], recipe, 0), clips[own].pairs)
    np.testing.assert_allclose(np.load(tmp_path / "folds/0-0.npy"), logits, atol=1e-5)
    rows = answers(tmp_path / "predictions.csv")
    assert {row["set"] for row in rows} == {"samm"}
    assert [clips.classes[i] for i in logits.argmax(1)] == [row["answer"] for row in rows]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["split"] == "trained on casme2, smic; tested on samm"
    assert summary["sets"] == ["samm"]
    with pytest.raises(InputError, match="all subjects"):
        evaluate.figures_for_card(summary)


# Search


@pytest.fixture(scope="module")
def searched(release, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("search")
    assert measure(release, out, "--subjects", "3", "--test-selected", "--search", "2") == 0
    return out


def uf1(summary: dict, line: str) -> float:
    return summary["lines"][line]["composite"]["UF1"]


def test_the_three_figures_are_named_and_rise_with_what_is_chosen_on_test(
    searched, release, capsys
):
    before = {path: path.stat().st_mtime_ns for path in (searched / "folds").iterdir()}
    more = ("--subjects", "3", "--test-selected", "--search", "3")
    assert measure(release, searched, *more) == 0
    # It goes on where it was.
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(list((searched / "folds").iterdir())) == 9
    printed = " ".join(capsys.readouterr().out.split())
    summary = json.loads((searched / "summary.json").read_text())
    assert list(summary["lines"]) == list(LINES) == [HONEST, BEST_EPOCH, BEST_BOTH]
    assert "Only the line 'honest' measures recognition" in printed
    assert "3 of 36 configurations" in printed
    assert summary["split"] == "leave one subject out, 3 of 6 subjects"
    tried = [configuration["UF1, best epoch on test"] for configuration in summary["tried"]]
    assert tried[0] == uf1(summary, BEST_EPOCH)
    assert max(tried) == uf1(summary, BEST_BOTH) >= uf1(summary, BEST_EPOCH)
    accuracy = {line: summary["lines"][line]["composite"]["ACC"] for line in LINES}
    assert accuracy[BEST_EPOCH] > accuracy[HONEST]
    with pytest.raises(InputError, match="composite"):
        evaluate.figures_for_card(summary)


@pytest.mark.parametrize(("line", "option"), [(HONEST, []), (BEST_EPOCH, ["--test-selected"])])
def test_a_search_answers_as_a_run_without_one(searched, release, tmp_path, line, option):
    assert measure(release, tmp_path, "--subjects", "3", *option) == 0
    table = f"predictions-{line.replace(' ', '-')}.csv"
    assert answers(searched / table) == answers(tmp_path / "predictions.csv")


@pytest.mark.parametrize("model", ["causalnet-released", "causalnet-compact", "mmnet"])
def test_a_search_has_36_different_configurations(model):
    tried = configurations(model, Recipe())
    assert tried[0] == Configuration(Recipe())
    assert len(tried) == len(set(tried)) == CONFIGURATIONS


def test_the_configurations_of_the_release_are_its_own():
    _, *tried = configurations("causalnet-released", Recipe())
    layers = {c.block_repeats for c in tried}
    assert {(a, b) for a, b, _ in layers} == {(3, 3), (3, 2), (2, 3)}
    assert {c for *_, c in layers} == {7, 8, 9, 10}
    assert {c.gamma for c in tried} == {0.3, 0.4, 0.5}
    assert ((3, 3, 9), 0.5) not in {(c.block_repeats, c.gamma) for c in tried}  # the plain one


def test_gamma_changes_the_penalty():
    network = Configuration(Recipe(), gamma=0.3).network("causalnet-compact", 3)
    penalties = [m.P_matrix for m in network.modules() if isinstance(m, MaskedAttention)]
    assert penalties
    for penalty in penalties:
        assert penalty.min().item() == pytest.approx(-4 * 0.3)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--search", "3"], "--test-selected"),
        (["--test-selected", "--search", "37"], "--search is 1 to 36"),
        (["--test-selected", "--search", "--model", "bi-woof-svm"], "no epochs"),
        (["--subjects", "9"], "--subjects is at most 6"),
        (["--subjects", "2", "--folds", "2"], "--folds"),
        (["--test-sets", "samm", "--folds", "2"], "--folds"),
        (["--action-units", "1"], "--action-units"),
        (["--subjects", "2", "--card", "w.json"], "--card"),
    ],
)
def test_options_that_do_not_go_together_are_named(release, tmp_path, capsys, change, named):
    assert measure(release, tmp_path, *change) == 2
    assert named in capsys.readouterr().err


# Action units


def test_action_units_of_prepared_sets_are_known_where_the_tables_tell_them(prepared_sets):
    clips = read_clips([prepared_sets[name] for name in ("casme2", "smic", "samm")])
    units = dict(zip(clips.names, clips.units.tolist(), strict=True))
    assert units["sub01_EP02_01f"] == [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]  # AU12
    assert units["016_016_1_6"] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]  # L4 + R15B
    assert units["006_006_1_2"] == [0, 0, 0, 0, 0, 0, 0, 0, -1, -1, 0, 0]  # AU12A or AU14
    assert units["s04_s4_po_01"] == [-1] * 12  # SMIC tells none


def test_a_second_head_changes_what_is_learned(prepared_sets, tmp_path):
    # Without the moving average, so that a few steps count in full.
    fast = ["--model", "ststnet", "--recipe", "epochs=4", "average=0", "--folds", "2"]
    data = ["--data", str(prepared_sets["casme2"])]
    for weight in ("0", "1"):
        out = str(tmp_path / weight)
        assert evaluate.main([*data, "--out", out, *fast, "--action-units", weight]) == 0
    plain, with_units = (np.load(tmp_path / w / "folds/0-0.npy") for w in "01")
    assert plain.shape == with_units.shape
    assert abs(plain - with_units).max() > 1e-3
