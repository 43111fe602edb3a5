"""Pretraining on macro-expressions, which are many and strong, of people who are not tested."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from torch import nn

from models.data import Clips, sets_of
from models.training import Recipe, fit
from models.zoo import CLASSICAL
from realtime_mer.errors import InputError
from tools.recognition.datasets.labels import MACROS
from tools.recognition.inputs import with_inputs
from tools.recognition.prepared import read_clips


def add_pretrain_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the option for `read_macros`."""
    parser.add_argument(
        "--pretrain",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="train first on macro-expressions of people who are not tested: sets of them "
        f"({', '.join(MACROS)}) that tools/recognition/prepare.py made",
    )


def read_macros(options: argparse.Namespace) -> Clips | None:
    """The macro-expressions that --pretrain names, as the network sees them; None without it.

    Args:
        options: Also with those of `tools.recognition.evaluate.add_data_arguments` and the model.

    Raises:
        InputError: They cannot be read, or are no macro-expressions, or the model has no training
            that could go on.
    """
    if not options.pretrain:
        return None
    if options.model in CLASSICAL:
        raise InputError(f"{options.model} learns at once: leave out --pretrain")
    clips = read_clips(options.pretrain, (), options.classes, options.flow)
    if micro := [name for name in sets_of(clips) if name not in MACROS]:
        raise InputError(
            f"--pretrain takes sets of macro-expressions ({', '.join(MACROS)}), and there are "
            f"clips of {', '.join(micro)}: give these in --data"
        )
    return with_inputs(clips, options.pretrain, options.model, options.flow)


def check_no_macros(clips: Clips) -> None:
    """Raises InputError if there are macro-expressions among clips that are trained and tested."""
    if macro := [name for name in sets_of(clips) if name in MACROS]:
        raise InputError(f"{', '.join(macro)} holds macro-expressions: give it in --pretrain")


def name_of(macros: Clips | None) -> str:
    """The sets and their content, in short; empty without any."""
    if macros is None:
        return ""
    return f"{', '.join(sets_of(macros))} {macros.digest}"


def pretrained(
    network: nn.Module,
    macros: Clips | None,
    tested: Iterable[str],
    recipe: Recipe,
    seed: int,
    after_epoch: Callable[[int, nn.Module], object] | None = None,
) -> nn.Module:
    """A network that has learned from the macro-expressions of people who are not tested.

    Args:
        network: Untrained; changed in place.
        macros: The macro-expressions; None for no pretraining.
        tested: Subjects whose macro-expressions must not enter.
        recipe, seed, after_epoch: As for `models.training.fit`.
    """
    if macros is None:
        return network
    others = macros[~np.isin(macros.subjects, sorted(set(tested)))]
    return fit(network, others, recipe, seed, after_epoch) if len(others) else network
