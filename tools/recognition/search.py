"""The search of the released code: best epoch and best configuration, both on test subjects.

CausalNet's release trains 36 configurations, keeps the best epoch of each for each test subject,
and takes the configuration with the highest composite UF1 on the same subjects. Here the three
figures that come of it stand side by side: nothing chosen on test, the epoch, the epoch and the
configuration. Only the first is a measurement of recognition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from models.data import Clips, sets_of
from models.metrics import scores
from models.training import Recipe
from tools.recognition.protocol import (
    HONEST,
    SEARCHED,
    TEST_SELECTED,
    Configuration,
    Plan,
    groups_of,
    mean_and_spread,
)

BEST_EPOCH = "best epoch on test"
BEST_BOTH = "best epoch and configuration on test"
LINES = (HONEST, BEST_EPOCH, BEST_BOTH)
"""Names of the three figures, by what was chosen on the test subjects."""
CONFIGURATIONS = 36
SAMPLE = 6
"""Configurations that a search tries unless it is told otherwise: a sixth of all."""
WARNING = (
    "Only the line 'honest' measures recognition: the other two chose on the subjects that they "
    "are tested on."
)
_RELEASED = "causalnet-released"


def configurations(model: str, recipe: Recipe) -> list[Configuration]:
    """The 36 configurations of a search: the plain one first, the others in a fixed random order.

    For the released CausalNet they are those of its release: layers 3 or 2 in the first two levels
    (not 2 in both), 7 to 10 in the third, gamma .3, .4 or .5. Other networks have no such
    settings; they get as many trainings: learning rate (as given, half, twice), batch (as given, a
    half, a quarter, twice) and weight decay (as given, a fifth, five times).
    """
    if model == _RELEASED:
        plain = Configuration(recipe)
        everything = [
            Configuration(recipe, (first, second, third), gamma)
            for first, second, third, gamma in product(
                (3, 2), (3, 2), (7, 8, 9, 10), (0.3, 0.4, 0.5)
            )
            if (first, second) != (2, 2) and (first, second, third, gamma) != (3, 3, 9, 0.5)
        ]
    else:
        plain, *everything = (
            Configuration(
                replace(
                    recipe,
                    learning_rate=recipe.learning_rate * rate,
                    batch=max(round(recipe.batch * batch), 1),
                    weight_decay=recipe.weight_decay * decay,
                )
            )
            for rate, batch, decay in product((1, 0.5, 2), (1, 0.5, 0.25, 2), (1, 0.2, 5))
        )
    order = np.random.default_rng(0).permutation(len(everything))
    return [plain, *(everything[i] for i in order)]


def ways_of(index: int) -> tuple[str, ...]:
    """How a configuration answers: the plain one also gives the honest answers."""
    return (TEST_SELECTED,) if index else (HONEST, TEST_SELECTED)


def settings_of(configuration: Configuration, plain: Configuration) -> str:
    """What a configuration changes, in words."""
    if configuration.block_repeats is not None:
        layers = ", ".join(map(str, configuration.block_repeats))
        return f"layers ({layers}), gamma {configuration.gamma:g}"
    before = asdict(plain.recipe)
    changed = {k: v for k, v in asdict(configuration.recipe).items() if v != before[k]}
    return ", ".join(f"{name} {value:g}" for name, value in changed.items()) or "as given"


def summarize_search(
    plan: Plan,
    clips: Clips,
    split: str,
    honest: Mapping[int, np.ndarray],
    best: Mapping[tuple[int, int], np.ndarray],
) -> tuple[dict[str, Any], dict[str, dict[int, np.ndarray]]]:
    """The three figures, mean and spread over seeds; and the logits that they are made of.

    Args:
        plan: What was measured.
        clips: The clips that were answered.
        split: In words.
        honest: Logits (clips, classes) of the plain configuration at its end, by seed.
        best: Those of the best epoch, by the number of the configuration and the seed.
    """
    tried = list(enumerate(configurations(plan.model, plan.recipe)))
    plain, used = tried[0][1], [c for c in tried if (c[0], min(honest)) in best]
    classes = len(plan.classes)

    def uf1(logits: np.ndarray) -> float:
        return scores(clips.labels, logits.argmax(1), classes)["UF1"]

    # As in the release, one configuration for all subjects; of equal ones, the first.
    reached = {key: uf1(logits) for key, logits in best.items()}
    chosen: dict[int, int] = {}
    for seed in honest:
        figures = [reached[k, seed] for k, _ in used]
        chosen[seed] = used[int(np.argmax(figures))][0]
    answers = {
        HONEST: dict(honest),
        BEST_EPOCH: {s: best[0, s] for s in honest},
        BEST_BOTH: {s: best[chosen[s], s] for s in honest},
    }
    lines: dict[str, Any] = {}
    for name, logits in answers.items():
        lines[name] = {"spread": {}}
        for group, inside in groups_of(clips).items():
            each = [
                scores(clips.labels[inside], z[inside].argmax(1), classes) for z in logits.values()
            ]
            lines[name][group], lines[name]["spread"][group] = mean_and_spread(each)
    summary = {
        "model": plan.model,
        "protocol": SEARCHED,
        "warning": WARNING,
        "split": split,
        "members": plan.members,
        "seeds": len(honest),
        "recipe": asdict(plan.recipe),
        "sets": list(sets_of(clips)),
        "classes": list(plan.classes),
        "clips": len(clips),
        "configurations": len(used),
        "of": len(tried),
        "lines": lines,
        "chosen": [settings_of(tried[k][1], plain) for k in chosen.values()],
        "tried": [
            {
                "configuration": settings_of(configuration, plain),
                f"UF1, {BEST_EPOCH}": round(float(np.mean([reached[k, s] for s in honest])), 4),
            }
            for k, configuration in used
        ],
    }
    return summary, answers


def show_search(console: Console, summary: dict[str, Any]) -> None:
    """Prints the three figures for people."""
    title = f"{summary['model']}: {summary['split']}, {summary['clips']} clips"
    table = Table("figure", "", "UF1", "UAR", "ACC", title=title)
    sets = summary["sets"]
    for name in LINES:
        line = summary["lines"][name]
        # Of one set, the composite is the set.
        for place, group in enumerate(("composite", *sets) if len(sets) > 1 else sets):
            cells = [f"{line[group][k]:.3f}" for k in ("UF1", "UAR", "ACC")]
            if summary["seeds"] > 1:
                spread = line["spread"][group].values()
                cells = [f"{cell} ± {s:.3f}" for cell, s in zip(cells, spread, strict=True)]
            table.add_row("" if place else name, group, *cells)
        table.add_section()
    console.print(table)
    if summary["seeds"] > 1:
        console.print(f"mean ± spread of {summary['seeds']} seeds")
    console.print(
        f"{summary['configurations']} of {summary['of']} configurations; the best on test: "
        f"{'; '.join(dict.fromkeys(summary['chosen']))}"
    )
    console.print(WARNING)
