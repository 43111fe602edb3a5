"""Figures of answers that lie in files: ours, and the text files of CausalNet's released code.

A folder of results holds `predictions*.csv` of tools/recognition/evaluate.py, or a file a subject
of the released code (`sub01_acc.txt`), or folders that do, such as those of its search.

A file that cannot be read is named and left out. What is unusual in one is told by a rule of
`RULES`, so that no figure hides it.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.data import LABELS, sets_in_order
from models.metrics import confusion, scores
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from tools.recognition.protocol import HONEST, mean_and_spread
from tools.recognition.search import BEST_BOTH, BEST_EPOCH

RULES = MappingProxyType(
    {
        "class-names-by-label": "The labels 0, 1, 2 are negative, positive, surprise, as the "
        "release's index has them; its result tables call them happiness, surprise, negative.",
        "set-by-subject": "The files name no set: sub01 is of CASME II, s01 of SMIC, 006 of SAMM.",
        "no-answers": "No epoch was right for this subject, and the released code leaves such a "
        "subject out of all figures: they are too high.",
        "first-run": "The file holds several runs; as in the released code, the first counts.",
        "accuracy-differs": "The accuracy in the file is not that of its answers; these count.",
        "unknown-subject": "The name tells no set: the subject counts in the composite only.",
        "unreadable": "The file cannot be read and is left out.",
    }
)
_TEXTS, _TABLES = "*_acc.txt", "predictions*.csv"
_SUBJECTS = (("sub[0-9]+", "casme2"), ("s[0-9]+", "smic"), ("[0-9]{3}", "samm"))
_NO_SET = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be known of a file: `rule` is a key of `RULES`."""

    file: str
    rule: str
    detail: str = ""


@dataclass(slots=True)
class Answers:
    """The answers of a run.

    Attributes:
        name: The folder or file they come from.
        protocol: What was chosen on the test subjects, as far as the files tell.
        classes: Names of the labels.
        seeds: (true label, answer, set) of each clip, by seed.
        notes: On its files.
    """

    name: str
    protocol: str
    classes: tuple[str, ...]
    seeds: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


class BadFileError(Exception):
    """A file cannot be read; the text says why."""


def read_results(folder: Path) -> list[Answers]:
    """The runs in a folder of results, and in the folders in it.

    Raises:
        InputError: There is none.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {shown(folder)}: give one with results")
    runs = []
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        name = "." if place == folder else place.name
        if texts := sorted(place.glob(_TEXTS)):
            runs.append(_read_texts(name, texts))
        runs += [_read_table(name, table) for table in sorted(place.glob(_TABLES))]
    if not runs:
        raise InputError(
            f"{shown(folder)} holds neither {_TABLES} nor {_TEXTS}: give a folder of results of "
            "tools/recognition/evaluate.py or of the released code"
        )
    if not any(run.seeds for run in runs):
        reasons = "; ".join(f"{n.file}: {n.detail or n.rule}" for run in runs for n in run.notes)
        raise InputError(f"{shown(folder)} has no file with answers: {reasons}")
    return runs


def _read_texts(name: str, files: Sequence[Path]) -> Answers:
    """The files of the released code, one a subject."""
    run = Answers(name, BEST_EPOCH, LABELS)
    clips: list[tuple[int, int, str]] = []
    for file in files:
        subject = file.name.removesuffix(_TEXTS[1:])
        try:
            pairs, rules = read_text(_content(file))
        except BadFileError as error:
            run.notes.append(Note(file.name, "unreadable", str(error)))
            continue
        run.notes += [Note(file.name, rule) for rule in rules]
        dataset = next((s for p, s in _SUBJECTS if re.fullmatch(p, subject)), _NO_SET)
        if not dataset:
            run.notes.append(Note(file.name, "unknown-subject"))
        clips += [(true, answer, dataset) for answer, true in pairs]
    if clips:
        run.seeds["0"] = clips
    return run


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadFileError(error.strerror or type(error).__name__) from error
    except UnicodeDecodeError as error:
        raise BadFileError("it is no text") from error


def read_text(content: str) -> tuple[list[tuple[int, int]], list[str]]:
    """(answer, true label) of each clip in a subject's text of the released code, and the rules.

    Raises:
        BadFileError: It is no such text.
    """
    # "best epoach" is how the code spells it.
    runs = re.findall(r"^\s*matrix_acc\s*:(.*)$", content, re.MULTILINE)
    if not runs:
        raise BadFileError("it has no line matrix_acc")
    try:
        found = json.loads(runs[0])
        pairs = [(answer, true) for answer, true in found]
    except (ValueError, TypeError, RecursionError) as error:
        raise BadFileError("its matrix_acc is no list of pairs: was it cut off?") from error
    numbers = [n for pair in pairs for n in pair]
    if strange := [n for n in numbers if type(n) is not int or not 0 <= n < len(LABELS)]:
        raise BadFileError(f"its matrix_acc holds {strange[0]!r}, which is no label 0, 1 or 2")
    rules = [] if len(runs) == 1 else ["first-run"]
    if not pairs:
        return pairs, [*rules, "no-answers"]
    told = re.search(r"^\s*best acc\s*:\s*([0-9.eE+-]+)\s*$", content, re.MULTILINE)
    right = sum(answer == true for answer, true in pairs) / len(pairs)
    if told is None or not _is_near(told[1], right):
        rules.append("accuracy-differs")
    return pairs, rules


def _is_near(text: str, value: float) -> bool:
    try:
        return abs(float(text) - value) < 1e-6
    except ValueError:
        return False


def _read_table(name: str, file: Path) -> Answers:
    """A table of tools/recognition/evaluate.py."""
    run = Answers(f"{name}/{file.name}" if name != "." else file.name, "not told", ())
    try:
        rows = list(csv.DictReader(_content(file).splitlines()))
        columns = list(rows[0]) if rows else []
        if columns[:6] != ["seed", "set", "subject", "clip", "label", "answer"] or not columns[6:]:
            raise BadFileError("it has no rows with seed, set, subject, clip, label and answer")
        run.classes = tuple(columns[6:])
        places = {label: i for i, label in enumerate(run.classes)}
        for number, row in enumerate(rows, start=2):
            if row["label"] not in places or row["answer"] not in places:
                raise BadFileError(f"line {number} has a label or an answer that is no class")
            clip = (places[row["label"]], places[row["answer"]], row["set"])
            run.seeds.setdefault(row["seed"], []).append(clip)
    except (csv.Error, BadFileError) as error:
        run.seeds.clear()
        run.notes.append(Note(file.name, "unreadable", str(error)))
        return run
    run.protocol = _protocol_of(file)
    return run


def _protocol_of(file: Path) -> str:
    """What was chosen on the test subjects, as the summary beside a table says."""
    for line in (HONEST, BEST_EPOCH, BEST_BOTH):
        if file.name == table_of(line):
            return line
    try:
        protocol = json.loads((file.parent / "summary.json").read_text(encoding="utf-8"))
        protocol = protocol["protocol"]
    except (OSError, ValueError, KeyError, TypeError):
        return "not told"
    return protocol if isinstance(protocol, str) else "not told"


def table_of(line: str) -> str:
    """The name of the table with the answers of one of the figures of a search."""
    return f"predictions-{line.replace(' ', '-')}.csv"


def summarize_results(runs: Iterable[Answers]) -> dict[str, Any]:
    """UF1, UAR and ACC of each run, for the composite and each set; mean and spread over seeds.

    Where the runs are configurations of the released search, the one with the highest composite
    UF1 is named as what it is: the best configuration on test.
    """
    figures, notes = [], []
    for run in runs:
        notes += [{"run": run.name, **asdict(note)} for note in run.notes]
        if run.seeds:
            figures.append(_figures_of(run))
    searched = [f for f in figures if f["protocol"] == BEST_EPOCH and f["from"] == "released code"]
    if len(searched) > 1:
        best = max(searched, key=lambda f: f["composite"]["UF1"])
        figures.append({**best, "protocol": BEST_BOTH})
    used = {note["rule"] for note in notes}
    if any(f["from"] == "released code" for f in figures):
        used |= {"class-names-by-label", "set-by-subject"}
    return {
        "runs": figures,
        "notes": notes,
        "rules": {rule: text for rule, text in RULES.items() if rule in used},
    }


def _figures_of(run: Answers) -> dict[str, Any]:
    classes = len(run.classes)
    seeds = [np.array([c[:2] for c in clips]) for clips in run.seeds.values()]
    sets = [np.array([c[2] for c in clips]) for clips in run.seeds.values()]
    names = sets_in_order({str(s) for own in sets for s in own} - {_NO_SET})
    made: dict[str, Any] = {
        "run": run.name,
        "from": "evaluate.py" if run.name.endswith(".csv") else "released code",
        "protocol": run.protocol,
        "seeds": len(seeds),
        "clips": len(seeds[0]),
        "classes": list(run.classes),
        "sets": list(names),
        "spread": {},
    }
    for group in ("composite", *names):
        each = []
        for clips, own in zip(seeds, sets, strict=True):
            inside = clips if group == "composite" else clips[own == group]
            each.append(scores(inside[:, 0], inside[:, 1], classes))
        made[group], made["spread"][group] = mean_and_spread(each)
    matrices = [confusion(clips[:, 0], clips[:, 1], classes) for clips in seeds]
    made["confusion"] = np.sum(matrices, axis=0).tolist()
    return made


def show_results(console: Console, summary: dict[str, Any]) -> None:
    """Prints the figures and the notes for people."""
    table = Table("answers of", "figure", "", "clips", "UF1", "UAR", "ACC")
    for run in summary["runs"]:
        groups = ("composite", *run["sets"]) if len(run["sets"]) != 1 else run["sets"]
        for place, group in enumerate(groups):
            cells = [f"{run[group][k]:.4f}" for k in ("UF1", "UAR", "ACC")]
            if run["seeds"] > 1:
                cells = [
                    f"{cell} ± {run['spread'][group][k]:.3f}"
                    for cell, k in zip(cells, ("UF1", "UAR", "ACC"), strict=True)
                ]
            head = (escape(run["run"]), run["protocol"]) if place == 0 else ("", "")
            table.add_row(*head, group, str(run["clips"]) if place == 0 else "", *cells)
        table.add_section()
    console.print(table)
    for note in summary["notes"]:
        where = (
            note["file"]
            if note["run"] in (".", note["file"])
            else (f"{note['run']}: {note['file']}")
        )
        detail = f" ({note['detail']})" if note["detail"] else ""
        console.print(f"{note['rule']}: {where}{detail}", markup=False, soft_wrap=True)
    for rule, text in summary["rules"].items():
        console.print(f"{rule}: {text}", markup=False)
