"""The charts of a report: SVG whose text is text, and whose colours are those of the style sheet.

Matplotlib draws them. Its inline styles would need a weaker Content-Security-Policy, and its
colours would not follow the reader's choice of light or dark: both become attributes and classes.
"""

from __future__ import annotations

import atexit
import io
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from xml.etree import ElementTree

if "MPLCONFIGDIR" not in os.environ:
    # Matplotlib would leave a list of fonts in the user's home. To make it takes 0.2 s.
    os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="matplotlib-")
    atexit.register(shutil.rmtree, os.environ["MPLCONFIGDIR"], ignore_errors=True)

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from realtime_mer.archive.report.figures import Estimate, Face, LabelCount
from realtime_mer.output.clock import clock
from realtime_mer.output.label_colours import LABEL_COLOURS, place_of
from realtime_mer.results import PARTS

WIDTHS = {"wide": 880, "narrow": 350}
"""Widths of the charts in CSS pixels: for desktops, and for phones."""

# Markers of the labels, in their order, and of what the classifier does not know: colour alone
# would not reach everybody.
_MARKERS = ("o", "^", "s", "D", "P", "X", "*")
_UNKNOWN_MARKER = "v"
# Markers with gaps are drawn larger, so that all look equally large. Chosen by eye.
_LARGER = {"P": 1.2, "X": 1.2, "*": 1.6}
_UNKNOWN_COLOUR = "label-none"
# Stand for the style sheet's colours: Matplotlib needs some, and these are found again.
_COLOURS = {
    "text": "#010101",
    "dim": "#020202",
    "line": "#030303",
    "track": "#040404",
    "readable": "#050505",
    "gap": "#060606",
    _UNKNOWN_COLOUR: "#070700",
    **{f"label-{place}": f"#07070{place + 1}" for place in range(len(LABEL_COLOURS))},
    "card": "#080808",
}
_CLASSES = {colour: name for name, colour in _COLOURS.items()}
# Matplotlib counts in points of 1/72 inch; with 72 dots an inch, a point is a CSS pixel.
_DPI = 72
_TEXT_PX = 12
# A timeline has so many columns at most: 2 to 3 px each.
_COLUMNS = {"wide": 400, "narrow": 150}
# Markers of more events are smaller.
_MANY_EVENTS = 25
# Ticks of an axis of shares; the name of 1 would not fit at its end.
_SHARES = (0.0, 0.25, 0.5, 0.75)
# Steps between the ticks of a time axis, seconds.
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"


class Look(NamedTuple):
    """What tells a label from others.

    Attributes:
        colour: Its name in the style sheet, such as "label-3".
        marker: As Matplotlib names it.
    """

    colour: str
    marker: str


def look_of(label: str, labels: Sequence[str]) -> Look:
    """What tells a label from the others of `labels`, and from all that are none of them.

    After the last colour the first one comes again, with other markers.
    """
    place = place_of(label, labels)
    if place is None:
        return Look(_UNKNOWN_COLOUR, _UNKNOWN_MARKER)
    rounds, colour = divmod(place, len(LABEL_COLOURS))
    return Look(f"label-{colour}", _MARKERS[(colour + rounds) % len(_MARKERS)])


def timeline(faces: Sequence[Face], labels: Sequence[str], length_s: float, name: str) -> Markup:
    """What could be read of each face over time, and the events, in all `WIDTHS`.

    Args:
        faces: At least one.
        labels: The classifier's labels, which choose the markers.
        length_s: Where the axis ends, seconds.
        name: What the chart says, for those who cannot see it.
    """

    def draw(kind: str) -> Figure:
        height = 60 + 92 * len(faces)
        figure, axes = _figure(WIDTHS[kind], height, left=66, bottom=26, top=8)
        bins = np.linspace(0, length_s, _COLUMNS[kind] + 1)
        ticks = []
        for row, face in enumerate(faces):
            top = -5.0 * row
            _readable(axes, face, bins, top)
            for event in face.events:
                look = look_of(str(event.get("label")), labels)
                axes.plot(
                    event["apex_s"],
                    top + 0.55,
                    look.marker,
                    color=_COLOURS[look.colour],
                    markersize=_size(look.marker, 9 if len(face.events) <= _MANY_EVENTS else 6),
                    markeredgecolor=_COLOURS["card"],
                    clip_on=False,
                )
            ticks.append((top + 0.55, f"face {face.number}"))
            ticks += [(top - 0.5 - n, part.split()[0]) for n, part in enumerate(PARTS)]
        axes.set_ylim(-5.0 * (len(faces) - 1) - 3.2, 1.2)
        axes.set_xlim(0, length_s)
        axes.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
        most = 9 if kind == "wide" else 5
        step = next((s for s in _STEPS_S if length_s / s <= most), math.ceil(length_s / most))
        axes.xaxis.set_major_locator(FixedLocator(np.arange(0, length_s + 1e-9, step).tolist()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: clock(x, 0)))
        axes.tick_params(axis="y", length=0)
        return figure

    return _in_all_widths(draw, name)


def label_shares(counts: Sequence[LabelCount], labels: Sequence[str], name: str) -> Markup:
    """The share of each label with its interval.

    Args:
        counts: Of each label.
        labels: The classifier's labels, which choose the markers.
        name: What the chart says, for those who cannot see it.
    """
    known = [(c.label, c.share, look_of(c.label, labels)) for c in counts if c.share is not None]
    return _estimates(known, name, 1.0, "share")


def rates(rows: Sequence[tuple[str, Estimate]], name: str) -> Markup:
    """Events a readable minute with their intervals, of each video."""
    highest = max(estimate.high for _, estimate in rows)
    look = Look("dim", _MARKERS[0])
    return _estimates([(text, e, look) for text, e in rows], name, highest * 1.05, "rate")


def _estimates(
    rows: Sequence[tuple[str, Estimate, Look]], name: str, highest: float, kind: str
) -> Markup:
    """A row a number: its name, a point, and the interval as a line."""

    def draw(width: str) -> Figure:
        is_wide = width == "wide" and kind == "rate"
        letters = 40 if is_wide else 18
        names = [text if len(text) <= letters else f"{text[: letters - 1]}…" for text, _, _ in rows]
        left = 14 + 6.6 * max(map(len, names))
        size = WIDTHS["wide" if is_wide else "narrow"], 46 + 26 * len(rows)
        figure, axes = _figure(*size, left=left, bottom=38, top=4)
        for row, (_, estimate, look) in enumerate(rows):
            ink, mark_px = _COLOURS[look.colour], _size(look.marker, 9)
            axes.plot([estimate.low, estimate.high], [-row, -row], color=ink, linewidth=3)
            axes.plot(
                estimate.value, -row, look.marker, color=ink, markersize=mark_px, clip_on=False
            )
        axes.set_yticks([-row for row in range(len(rows))], names)
        axes.set_ylim(0.6 - len(rows), 0.6)
        # Room for the mark of a share of 0.
        axes.set_xlim(-0.03 * highest, highest)
        if kind == "share":
            axes.xaxis.set_major_locator(FixedLocator(_SHARES))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
            axes.set_xlabel("share of the reported events")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(8 if is_wide else 4))
            axes.set_xlabel("reported events a readable minute")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=_COLOURS["line"], linewidth=0.6)
        axes.set_axisbelow(True)
        return figure

    return _in_all_widths(draw, name) if kind == "rate" else _svg(draw, "narrow", name, "chart")


def _readable(axes: Axes, face: Face, bins: np.ndarray, top: float) -> None:
    """Three bars, a part each: its height is the share of the time in which it could be read."""
    lengths = np.diff(bins)
    watched = _covered(bins, face.spans) / lengths
    gap = _covered(bins, face.gaps) / lengths
    for number, part in enumerate(PARTS):
        bottom = top - 0.92 - number
        spans = [span for span in face.spans if part in span.get("readable", ())]
        readable = _covered(bins, spans) / lengths
        for colour, share in (("gap", (gap > 0.5) * 1.0), ("track", (watched > 0.5) * 1.0)):
            _bar(axes, bins, share, bottom, colour)
        _bar(axes, bins, readable, bottom, "readable")


def _bar(axes: Axes, bins: np.ndarray, shares: np.ndarray, bottom: float, colour: str) -> None:
    if not shares.any():
        return
    # Only where it changes: a video of two hours takes no more than one of a minute.
    shares = shares.round(2)
    changes = np.flatnonzero(np.diff(shares, prepend=-1.0))
    edges = np.append(bins[changes], bins[-1])
    heights = np.append(shares[changes], shares[-1])
    axes.fill_between(
        edges,
        bottom,
        bottom + 0.84 * heights,
        step="post",
        color=_COLOURS[colour],
        linewidth=0,
        clip_on=False,
    )


def _covered(bins: np.ndarray, spans: Iterable[Mapping[str, Any]]) -> np.ndarray:
    """How many seconds of each bin the spans cover."""
    total = np.zeros(len(bins) - 1)
    for span in spans:
        end, start = np.minimum(span["end_s"], bins[1:]), np.maximum(span["start_s"], bins[:-1])
        total += np.clip(end - start, 0, None)
    return np.minimum(total, np.diff(bins))


def _size(marker: str, usual: float) -> float:
    """The size in pixels at which a marker looks as large as others of a usual size."""
    return usual * _LARGER.get(marker, 1.0)


def _figure(
    width: float, height: float, *, left: float, bottom: float, top: float
) -> tuple[Figure, Axes]:
    """A figure and its axes; all lengths are pixels."""
    figure = Figure((width / _DPI, height / _DPI), dpi=_DPI)
    figure.patch.set_visible(False)
    right = 22
    place = (left / width, bottom / height, (width - left - right) / width)
    axes = figure.add_axes((*place, (height - bottom - top) / height))
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_COLOURS["line"])
    axes.tick_params(color=_COLOURS["line"], labelcolor=_COLOURS["text"], labelsize=_TEXT_PX)
    axes.xaxis.label.set(color=_COLOURS["dim"], fontsize=_TEXT_PX)
    return figure, axes


def _in_all_widths(draw: Callable[[str], Figure], name: str) -> Markup:
    return Markup("").join(_svg(draw, width, name, f"chart {width}") for width in WIDTHS)


@contextmanager
def _settings(salt: str) -> Iterator[None]:
    with (
        mpl.rc_context(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": salt,
                "path.simplify": False,
                # A name may hold dollar signs.
                "text.parse_math": False,
            }
        ),
        warnings.catch_warnings(),
    ):
        # Matplotlib's own font lacks many scripts; the reader's browser has them.
        warnings.simplefilter("ignore", UserWarning)
        yield


def _svg(draw: Callable[[str], Figure], width: str, name: str, classes: str) -> Markup:
    """A figure as an SVG element for HTML."""
    with _settings(f"{name}-{width}"):
        figure = draw(width)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(file.getvalue())
    for element in [*root.iter()]:
        for child in [*element]:
            if child.tag in (f"{_SVG}style", f"{_SVG}metadata") or "}" not in child.tag:
                element.remove(child)
    text = ElementTree.tostring(root, encoding="unicode")
    for element in root.iter():
        _attributes_for_styles(element)
        identity = element.get("id")
        if identity and f"#{identity}" not in text:
            del element.attrib["id"]
        if _XLINK in element.attrib:
            element.set("href", element.attrib.pop(_XLINK))
        element.tag = element.tag.removeprefix(_SVG)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"class": classes, "role": "img", "aria-label": name}
    # What comes from files, Matplotlib and ElementTree have escaped.
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def _attributes_for_styles(element: ElementTree.Element) -> None:
    """Replaces inline styles by attributes, and colours by classes of the style sheet."""
    classes = []
    styles = [s.partition(":") for s in element.attrib.pop("style", "").split(";") if s.strip()]
    for key, _, value in ((k.strip(), c, v.strip()) for k, c, v in styles):
        if key in ("fill", "stroke") and value in _CLASSES:
            classes.append(f"{key}-{_CLASSES[value]}")
        elif key == "font":
            if match := re.search(r"([\d.]+)px", value):
                element.set("font-size", match[1])
        else:
            element.set(key, value)
    if classes:
        element.set("class", " ".join(classes))
