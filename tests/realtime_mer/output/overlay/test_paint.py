"""Colours and text."""

import pytest

from realtime_mer.output.overlay import (
    BACKGROUND,
    BRIGHT,
    CARD_NEW,
    DIM,
    LABEL_COLOURS,
    YELLOW,
    shortened,
    text_width,
)


def luminance(colour):
    channels = [c / 255 for c in reversed(colour)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [BRIGHT, DIM, YELLOW, *LABEL_COLOURS[:3]])
def test_text_is_legible_on_the_brightest_panel(colour):
    contrast = (luminance(colour) + 0.05) / (luminance(CARD_NEW) + 0.05)
    assert contrast > 3.5


@pytest.mark.parametrize("colour", LABEL_COLOURS)
def test_labels_are_legible_on_the_brightest_panel_and_carry_dark_signs(colour):
    """They are large and bold."""
    assert (luminance(colour) + 0.05) / (luminance(CARD_NEW) + 0.05) > 3
    assert (luminance(colour) + 0.05) / (luminance(BACKGROUND) + 0.05) > 4.5


def test_long_names_are_shortened_in_the_middle():
    name = "rtsp://***@a-very-long-host-name.example.org/and/an/even/longer/path/stream.sdp"
    short = shortened(name, 120, 12, 400)
    assert text_width(short, 12, 400) <= 120
    assert short.startswith("rtsp")
    assert short.endswith("sdp")
