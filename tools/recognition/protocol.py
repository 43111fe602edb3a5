"""Who is left out, who trains, and how the left-out clips are answered.

Three ways to an answer, each of which says what it chose on the test subjects:

- honest: nothing. The schedule is fixed; the answer is that of its end.
- test-selected: the epoch, as in the released code of CausalNet and of most of the field.
- searched (`tools/recognition/search.py`): the epoch and the configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from models.causalnet import MaskedAttention, ReleasedCausalNet, position_penalty
from models.data import LABELS, SETS, Clips, sets_of, subject_folds
from models.training import Recipe, fit, predict
from models.zoo import make_network
from realtime_mer.errors import InputError
from tools.command import progress_bar, save_array
from tools.recognition.pretraining import pretrained

HONEST, TEST_SELECTED = "honest", "test-selected"
SEARCHED = "test-selected search"
ALL_SUBJECTS = "leave one subject out"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run measures; a run continues only under the same plan.

    Attributes:
        model: A name in `models.zoo.NAMES`.
        protocol: `HONEST`, `TEST_SELECTED` or `SEARCHED`.
        folds: Groups of subjects; 0 leaves out every subject alone.
        members: Networks whose logits are averaged for an answer.
        recipe: Of their training.
        sets: The data sets of the clips.
        classes: The classes.
        flow: Whose flow of prepared sets, a key of `tools.recognition.prepared.FLOWS`.
        subjects: How many subjects are left out in turn, drawn from all sets alike; 0 for all.
        train_sets: Sets that train; empty where subjects are left out of all sets.
        test_sets: Sets that are answered, by one network that has not seen them; empty likewise.
        pretrained_on: Macro-expressions that train first (`tools.recognition.pretraining.name_of`);
            empty if there are none.
        drawn: SHA-256 of the drawn clips that train besides, in short; empty if there are none.
    """

    model: str
    protocol: str
    folds: int
    members: int
    recipe: Recipe
    sets: tuple[str, ...] = SETS
    classes: tuple[str, ...] = LABELS
    flow: str = "dis"
    subjects: int = 0
    train_sets: tuple[str, ...] = ()
    test_sets: tuple[str, ...] = ()
    pretrained_on: str = ""
    drawn: str = ""

    def fold_of(self, clips: Clips) -> np.ndarray:
        """(clips,) the number of each clip's fold; -1 for clips that are not answered."""
        if self.test_sets:
            return np.where(np.isin(clips.sets, self.test_sets), 0, -1)
        fold = np.full(len(clips), -1)
        fold[~clips.drawn] = self._fold_of_real(clips[~clips.drawn])
        return fold

    def _fold_of_real(self, clips: Clips) -> np.ndarray:
        if self.folds:
            return subject_folds(clips, self.folds, seed=0)
        sampled = _sampled_subjects(clips, self.subjects) if self.subjects else clips.subjects
        names = np.unique(sampled)
        place = np.searchsorted(names, clips.subjects).clip(max=len(names) - 1)
        return np.where(names[place] == clips.subjects, place, -1)

    def split(self, clips: Clips, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """The clips (clips,) bool that train, and those that are answered.

        No subject is on both sides, also where one occurs in several sets.
        """
        test = self.fold_of(clips) == fold
        train = ~np.isin(clips.subjects, clips.subjects[test])
        if self.train_sets:
            train &= np.isin(clips.sets, self.train_sets) | clips.drawn
        return train, test

    def describe_split(self, clips: Clips) -> str:
        """The split in words."""
        if self.test_sets:
            return f"trained on {', '.join(self.train_sets)}; tested on {', '.join(self.test_sets)}"
        if self.folds:
            return f"{self.folds} folds of subjects"
        if self.subjects:
            everyone = len(set(clips.subjects[~clips.drawn]))
            return f"{ALL_SUBJECTS}, {self.subjects} of {everyone} subjects"
        return ALL_SUBJECTS


def _sampled_subjects(clips: Clips, count: int) -> list[str]:
    """Subjects drawn at random, from all sets in turn; a smaller draw is part of a larger one."""
    random = np.random.default_rng(0)
    ways = []
    for name in sets_of(clips):
        subjects = np.unique(clips.subjects[clips.sets == name])
        random.shuffle(subjects)
        ways.append(list(map(str, subjects)))
    longest = max(map(len, ways))
    in_turn = [way[i] for i in range(longest) for way in ways if i < len(way)]
    return list(dict.fromkeys(in_turn))[:count]


def cross_database(
    clips: Clips, train_sets: list[str], test_sets: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sets that train and those that are answered; one side alone gets all others opposite.

    Raises:
        InputError: A set is not in the data, or is on both sides, or nobody is left to train on.
    """
    known = sets_of(clips)
    for option, named in (("--train-sets", train_sets), ("--test-sets", test_sets)):
        if unknown := sorted(set(named) - set(known)):
            raise InputError(
                f"{option} {' '.join(unknown)}: the data has clips of {', '.join(known)}"
            )
    if both := sorted(set(train_sets) & set(test_sets)):
        raise InputError(
            f"{', '.join(both)} cannot train and be tested: name different sets in --train-sets "
            "and --test-sets"
        )
    test = tuple(s for s in known if s in test_sets or (not test_sets and s not in train_sets))
    train = tuple(s for s in known if s in train_sets or (not train_sets and s not in test))
    tested = clips.subjects[np.isin(clips.sets, test)]
    trains = np.isin(clips.sets, train) & ~np.isin(clips.subjects, tested)
    if not test or not trains.any():
        raise InputError(
            "--train-sets and --test-sets need clips of different subjects on both sides: the data "
            f"has clips of {', '.join(known)}"
        )
    return train, test


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a search changes from training to training.

    Attributes:
        recipe: Of the training.
        block_repeats: Of the released CausalNet; None for those of the zoo.
        gamma: Of CausalNet's penalty; None for that of the zoo.
    """

    recipe: Recipe
    block_repeats: tuple[int, int, int] | None = None
    gamma: float | None = None

    def network(self, model: str, classes: int) -> nn.Module:
        """An untrained network."""
        if self.block_repeats is None:
            network = make_network(model, classes)
        else:
            network = ReleasedCausalNet(self.block_repeats)
        if self.gamma is not None:
            for module in network.modules():
                if isinstance(module, MaskedAttention):
                    module.P_matrix.copy_(position_penalty(self.gamma))
        return network


def groups_of(clips: Clips) -> dict[str, np.ndarray]:
    """(clips,) bool for each group: the composite, which is all, and each set by its name."""
    each = {name: clips.sets == name for name in sets_of(clips)}
    return {"composite": np.ones(len(clips), bool), **each}


def mean_and_spread(
    each: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Of figures (`models.metrics.scores`) by seed: their mean, and their spread, to 4 decimals."""
    mean, spread = (
        {k: round(float(fold([figures[k] for figures in each])), 4) for k in each[0]}
        for fold in (np.mean, np.std)
    )
    return mean, spread


class _PerfectError(Exception):
    """Every left-out clip is answered rightly, so test-selected training ends."""


def answer_fold(
    plan: Plan, clips: Clips, fold: int, seed: int, macros: Clips | None = None
) -> np.ndarray:
    """Logits (left-out clips, classes) of one fold, from networks trained on the others."""
    ways = (TEST_SELECTED,) if plan.protocol == TEST_SELECTED else (HONEST,)
    return answer_fold_with(plan, Configuration(plan.recipe), ways, clips, fold, seed, macros)[0]


def answer_fold_with(
    plan: Plan,
    configuration: Configuration,
    ways: tuple[str, ...],
    clips: Clips,
    fold: int,
    seed: int,
    macros: Clips | None = None,
) -> np.ndarray:
    """Logits (ways, left-out clips, classes) of one fold, all from the same trainings.

    Args:
        plan: What is measured.
        configuration: Of the networks; its recipe counts, not the plan's.
        ways: `HONEST`, `TEST_SELECTED`, or both.
        clips: All clips.
        fold: Which are left out.
        seed: Of the run.
        macros: Macro-expressions to pretrain on; those of tested subjects do not enter.
    """
    torch.set_num_threads(1)  # so that the answers do not depend on the number of cores
    trains, left_out = plan.split(clips, fold)
    train, test = clips[trains], clips[left_out]
    answers = []
    for member in range(plan.members):
        member_seed = (seed * 1000 + fold) * 100 + member
        torch.manual_seed(member_seed)
        network = configuration.network(plan.model, len(plan.classes))
        network = pretrained(network, macros, test.subjects, configuration.recipe, member_seed)
        answers.append(_answers(network, train, test, configuration.recipe, member_seed, ways))
    return np.mean(answers, axis=0)


def _answers(
    network: nn.Module, train: Clips, test: Clips, recipe: Recipe, seed: int, ways: tuple[str, ...]
) -> np.ndarray:
    """Logits (ways, clips, classes): of the schedule's end, and of the epoch that is most right."""
    if ways == (HONEST,):
        return predict(fit(network, train, recipe, seed), test.pairs)[None]
    best, best_right = np.empty(0), -1

    def keep_if_best(_: int, trained: nn.Module) -> None:
        nonlocal best, best_right
        logits = predict(trained, test.pairs)
        right = int((logits.argmax(1) == test.labels).sum())
        if right > best_right:
            best, best_right = logits, right
        if right == len(test) and HONEST not in ways:
            raise _PerfectError

    last = np.empty(0)
    with contextlib.suppress(_PerfectError):
        last = predict(fit(network, train, recipe, seed, keep_if_best), test.pairs)
    return np.stack([last if way == HONEST else best for way in ways])


def answer_all(
    folder: Path,
    tasks: Mapping[str, tuple[Any, ...]],
    work: Callable[..., np.ndarray],
    jobs: int,
    title: str,
    console: Console,
) -> dict[str, np.ndarray]:
    """What `work` makes of each task; what is in the folder already is not made again.

    Args:
        folder: Keeps an array a task.
        tasks: The arguments of `work`, by the name of the file.
        work: A function of a module, since it may run in another process.
        jobs: Tasks at the same time.
        title: For the progress bar.
        console: Where it is shown.
    """
    missing = {name: task for name, task in tasks.items() if not _file(folder, name).exists()}
    with progress_bar(console) as progress:
        bar = progress.add_task(title, total=len(tasks), completed=len(tasks) - len(missing))

        def keep(name: str, answer: np.ndarray) -> None:
            save_array(_file(folder, name), answer)
            progress.advance(bar)

        if jobs == 1:
            for name, task in missing.items():
                keep(name, work(*task))
        elif missing:
            with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
                running: dict[Future[np.ndarray], str] = {
                    pool.submit(work, *task): name for name, task in missing.items()
                }
                for done in as_completed(running):
                    keep(running[done], done.result())
    return {name: np.load(_file(folder, name)) for name in tasks}


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"
