"""The data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from tools.recognition.datasets import (
    casme2,
    casme3,
    dfme,
    fourdme,
    long_videos,
    mmew,
    samm,
    smic,
)
from tools.recognition.datasets.clip import Reading
from tools.recognition.datasets.long_videos import LongReading
from tools.recognition.datasets.tree import Tree

CLIPS: Mapping[str, Callable[[Tree, Path | None, float | None], Reading]] = MappingProxyType(
    {
        casme2.NAME: casme2.read,
        smic.NAME: smic.read,
        smic.NAME_LONG: smic.read_long,
        samm.NAME: samm.read,
        mmew.NAME: mmew.read,
        mmew.NAME_MACRO: mmew.read_macro,
        casme3.NAME_A: casme3.read_part_a,
        casme3.NAME_A_MACRO: casme3.read_part_a_macro,
        casme3.NAME_C: casme3.read_part_c,
        fourdme.NAME: fourdme.read,
        dfme.NAME: dfme.read,
    }
)
"""Sets of clips: each reader takes the tree, the table (None to look for it) and the frame rate."""

LONG_VIDEOS: Mapping[str, Callable[[Tree, Path | None, float | None], LongReading]] = (
    MappingProxyType(
        {
            "casme-squared-long": long_videos.read_casme_squared,
            "samm-long": long_videos.read_samm_long,
            "casme3-long": long_videos.read_casme3_long,
            "smic-long": long_videos.read_smic_long,
        }
    )
)
"""Long videos for spotting, likewise."""
