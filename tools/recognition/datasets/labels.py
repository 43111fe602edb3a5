"""Emotions and action units as the data sets write them, and the classes made of them."""

from __future__ import annotations

import re
from types import MappingProxyType

from models.data import LABELS
from tools.spotting.annotations import EMOTIONS

COMPOSITE = LABELS
"""The three classes that all sets have in common, as in the challenge MEGC 2019."""

_SEVEN = ("happiness", "disgust", "surprise", "fear", "anger", "sadness", "others")
OWN_CLASSES = MappingProxyType(
    {
        "casme2": ("happiness", "disgust", "repression", "surprise", "others"),
        "samm": ("happiness", "anger", "contempt", "surprise", "others"),
        "mmew": ("happiness", "disgust", "surprise", "others"),
        "4dme": ("positive", "negative", "surprise", "repression", "others"),
        "casme3-a": _SEVEN,
        "dfme": (*_SEVEN[:-1], "contempt"),
    }
)
"""The classes in which a set is usually evaluated alone. Emotions beyond them are too few."""
MACROS = MappingProxyType({"mmew-macro": "mmew", "casme3-a-macro": "casme3-a"})
"""Sets of macro-expressions, and the sets whose classes they have."""

# One name for what the sets call differently.
_SPELLINGS = MappingProxyType(
    {
        "happy": "happiness",
        "sad": "sadness",
        "other": "others",
        "angry": "anger",
        "disgusted": "disgust",
        "contemptuous": "contempt",
        "surprised": "surprise",
        "ne": "negative",
        "po": "positive",
        "sur": "surprise",
    }
)
# Of CASME II, the composite takes no fear (2 clips) and no sadness (7).
_NOT_IN_COMPOSITE = MappingProxyType({"casme2": frozenset({"fear", "sadness"})})

# A side (left, right, top, bottom) before or after the number, and an intensity (A to E) that is
# not kept.
_ACTION_UNIT = re.compile(
    r"(?:AU)?\s*([LRTB]?)\s*(?:AU)?\s*([0-9]{1,2})\s*[A-E]?([LR]?)\b", re.IGNORECASE
)


def emotion_of(text: str) -> str:
    """The name of an emotion, spelled alike for all sets; empty if there is none."""
    name = text.strip().casefold()
    return _SPELLINGS.get(name, name)


def composite_label(dataset: str, emotion: str) -> str | None:
    """The composite class of an emotion as `emotion_of` names it; None if it has none."""
    if emotion in _NOT_IN_COMPOSITE.get(dataset, ()):
        return None
    labels = {EMOTIONS.get(part) for part in emotion.split("+")}
    return labels.pop() if len(labels) == 1 else None


def own_label(dataset: str, emotion: str) -> str | None:
    """The class of an emotion among those in which the set is evaluated alone; None if none."""
    return emotion if emotion in classes_of(dataset) else None


def classes_of(dataset: str) -> tuple[str, ...]:
    """The classes in which a set, or the one to which its macro-expressions belong, is evaluated
    alone; none if there are none."""
    return OWN_CLASSES.get(MACROS.get(dataset, dataset), ())


def action_units_of(
    text: str,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The action units in a cell, such as AU12 or, of the right side alone, AU12R.

    Units are joined by +, commas or blanks. Those that are joined by "or", or marked by "(k)" or
    "?", are only possible.

    Returns:
        The sure ones, the possible ones, and (rule, what was typed) for each rule that was needed.
    """
    rules = []
    plain = text.translate(_FULL_WIDTH)
    if plain != text:
        rules.append(("full-width-mark", text))
    sure: dict[str, None] = {}
    possible: dict[str, None] = {}
    for part in re.split(r"[+,;/]", plain):
        alternatives = re.split(r"\bor\b", part, flags=re.IGNORECASE)
        is_marked = re.search(r"\(k\)|\?", part, re.IGNORECASE) is not None
        units = [
            f"AU{int(number)}{(before or after).upper()}"
            for alternative in alternatives
            for before, number, after in _ACTION_UNIT.findall(re.sub(r"\(k\)|\?", " ", alternative))
        ]
        if len(alternatives) > 1:
            rules.append(("au-alternatives", part.strip()))
        elif is_marked and units:
            rules.append(("au-not-sure", part.strip()))
        unsure = len(alternatives) > 1 or is_marked
        (possible if unsure else sure).update(dict.fromkeys(units))
    left = tuple(unit for unit in possible if unit not in sure)
    return tuple(sure), left, tuple(rules)


# Commas, plus signs, brackets and blanks of the full width of Asian letters.
_FULL_WIDTH = str.maketrans("，＋（）　；／？", ",+() ;/?")
