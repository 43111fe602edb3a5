"""How labels are told apart: a colour for each of seven, the same in every output.

Seven are the emotions of the finest data sets; a further label has the colour of an earlier one.
Nobody should depend on colour alone, so each output shows more: names, signs or markers.
"""

from __future__ import annotations

from collections.abc import Sequence

LABEL_COLOURS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#f0604d", "#c5fcf3")
"""On dark ground: five of Okabe and Ito's colours, then a red and a pale blue, which differ from
these in lightness too. Style sheets have them lighter for text, and darker for light ground."""


def place_of(label: str, labels: Sequence[str]) -> int | None:
    """Which of the classifier's labels it is; None if none of them, such as "uncertain"."""
    return labels.index(label) if label in labels else None


def sign_of(label: str, labels: Sequence[str]) -> str:
    """One letter for a label, where there is no room for more; "?" if it is none of `labels`.

    Two if another label begins with the same one.

    Example:
        >>> [sign_of(label, ("sadness", "surprise", "fear")) for label in ("surprise", "fear")]
        ['Su', 'F']
    """
    if label not in labels:
        return "?"
    alike = sum(other[:1].upper() == label[:1].upper() for other in labels)
    return label[: 1 if alike == 1 else 2].capitalize()
