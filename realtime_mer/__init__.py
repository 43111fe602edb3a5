"""Real-time spotting and recognition of facial micro-expressions around CausalNet.

>>> from realtime_mer import Recognizer
>>> [event.label for event in Recognizer("clip.avi")]
['surprise']

`Recognizer` takes a camera, file or stream, `RecognizerGroup` several of them; `Analyser` takes
pictures one by one.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realtime_mer.analysis.analyser import Analyser
    from realtime_mer.errors import InputError
    from realtime_mer.results import (
        Analysis,
        GapReason,
        Interval,
        MicroExpression,
        SourceStatus,
        to_dataframe,
    )
    from realtime_mer.session.group import RecognizerGroup
    from realtime_mer.session.recognizer import Recognizer
    from realtime_mer.session.run import run

__version__ = "0.2.0"
__all__ = [
    "Analyser",
    "Analysis",
    "GapReason",
    "InputError",
    "Interval",
    "MicroExpression",
    "Recognizer",
    "RecognizerGroup",
    "SourceStatus",
    "run",
    "to_dataframe",
]

# ONNX Runtime 1.29 and later sends telemetry from the moment it is imported, and reads this switch
# only then. Whoever wants it may set the variable to 0 before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A library is silent unless the program asks for its messages.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# The recognizer takes a second to load, which `--help` need not wait for.
_PLACES = {
    "Analyser": "analysis.analyser",
    "Analysis": "results",
    "GapReason": "results",
    "InputError": "errors",
    "Interval": "results",
    "MicroExpression": "results",
    "Recognizer": "session.recognizer",
    "RecognizerGroup": "session.group",
    "SourceStatus": "results",
    "run": "session.run",
    "to_dataframe": "results",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
