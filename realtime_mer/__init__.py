"""Real-time spotting and recognition of facial micro-expressions around CausalNet.

>>> from realtime_mer import Recognizer
>>> [event.label for event in Recognizer("clip.avi")]
['surprise']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realtime_mer.event import InputError, Interval, MicroExpression
    from realtime_mer.pipeline import Recognizer, run

__version__ = "0.1.0"
__all__ = ["InputError", "Interval", "MicroExpression", "Recognizer", "run"]

# The pipeline takes a second to load, which `run.py --help` need not wait for.
_PLACES = {
    "InputError": "event",
    "Interval": "event",
    "MicroExpression": "event",
    "Recognizer": "pipeline",
    "run": "pipeline",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
