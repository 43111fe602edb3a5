"""Whether labels can be told apart, and read, in every style sheet."""

import re
from pathlib import Path

import pytest

import realtime_mer
from realtime_mer.output.label_colours import LABEL_COLOURS, sign_of

PACKAGE = Path(realtime_mer.__file__).parent
NAMES = [*(f"label-{place}" for place in range(len(LABEL_COLOURS))), "label-none"]
# WCAG 2.1: for text, and for what is no text.
TEXT, SHAPE = 4.5, 3.0
WEB, OBS, REPORT = (
    *("output/web/style.css", "output/web/overlay.css"),
    "archive/report/style.css",
)
# The cards of the page for OBS let what lies behind shine through; this is without it.
OBS_CARD = "#14161a"


def themes(sheet: str) -> list[dict[str, str]]:
    """The colours of a style sheet by name: first those for light ground, if it has them."""
    text = (PACKAGE / sheet).read_text("utf-8")
    roots = re.findall(r":root \{(.*?)\}", text, re.S)
    found = [dict(re.findall(r"--([\w-]+): (#\w{6});", root)) for root in roots]
    return [colours for colours in found if colours]


def luminance(colour: str) -> float:
    channels = [value / 255 for value in bytes.fromhex(colour[1:])]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("sheet", [WEB, OBS, REPORT])
def test_every_label_has_a_colour_of_its_own_and_its_classes(sheet):
    assert len(themes(sheet)) == (1 if sheet == OBS else 2)
    for colours in themes(sheet):
        assert len({colours[name] for name in NAMES}) == len(NAMES)
    text = (PACKAGE / sheet).read_text("utf-8")
    kinds = ("fill-", "stroke-", "edge-") if sheet == REPORT else ("",)
    for name in NAMES:
        assert all(re.search(rf"\.{kind}{name}\b[^{{]*\{{", text) for kind in kinds)


@pytest.mark.parametrize(
    ("sheet", "grounds", "least"),
    [
        (WEB, ("background", "card", "new", "on"), TEXT),
        (OBS, (), TEXT),
        (REPORT, ("page", "card"), SHAPE),
    ],
)
def test_labels_stand_out_from_their_ground(sheet, grounds, least):
    for colours in themes(sheet):
        for ground in [colours[name] for name in grounds] or [OBS_CARD]:
            low = {n: c for n in NAMES if (c := contrast(colours[n], ground)) < least}
            assert not low, ground


def test_seven_emotions_have_different_signs():
    emotions = ("happiness", "surprise", "disgust", "fear", "sadness", "anger", "contempt")
    signs = [sign_of(label, emotions) for label in (*emotions, "uncertain")]
    assert signs == ["H", "Su", "D", "F", "Sa", "A", "C", "?"]
