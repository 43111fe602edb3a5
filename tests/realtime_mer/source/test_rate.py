"""The frame rate of a source is measured, whatever its header says."""

import numpy as np
import pytest

from realtime_mer.source.frame import Frame
from realtime_mer.source.rate import SourceRate

IMAGE = np.zeros((8, 8, 3), np.uint8)


def test_dropped_frames_do_not_slow_the_measured_rate():
    rate = SourceRate()
    assert rate(Frame(0, 0.0, IMAGE, 0.0)) == 0
    kept = [i for i in range(1, 40) if i % 5 not in (2, 3)]
    assert [rate(Frame(i, i / 100, IMAGE, 0.0)) for i in kept][-1] == pytest.approx(100)
    # Nor does a pause, or a clock that stands still for a moment.
    assert rate(Frame(41, 9.0, IMAGE, 0.0)) == pytest.approx(100)
    assert rate(Frame(42, 9.0, IMAGE, 0.0)) == pytest.approx(100)
