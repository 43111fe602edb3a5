"""What is used of MediaPipe, imported without what is not.

MediaPipe's drawing helpers import matplotlib.pyplot. That takes half a second, and it makes folders
and a font cache in the user's home, for drawings that nobody here makes. A stand-in takes its place
and imports matplotlib when it is first used.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

_lock = threading.Lock()


class _Deferred(ModuleType):
    """Stands for a module, which is imported when an attribute of it is first asked for."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _import_without_matplotlib(name: str) -> None:
    """Imports a module; matplotlib, unless it is there already, is put off until it is used."""
    with _lock:
        if "matplotlib" in sys.modules:
            importlib.import_module(name)
            return
        package, pyplot = _Deferred("matplotlib"), _Deferred("matplotlib.pyplot")
        package.__path__ = []
        package.pyplot = pyplot  # type: ignore[attr-defined]
        stand_ins = {"matplotlib": package, "matplotlib.pyplot": pyplot}
        sys.modules.update(stand_ins)
        try:
            importlib.import_module(name)
        finally:
            # Whoever imports matplotlib from now on gets the real one.
            for place, module in stand_ins.items():
                if sys.modules.get(place) is module:
                    del sys.modules[place]


_import_without_matplotlib("mediapipe.tasks.python.vision")

from mediapipe import Image, ImageFormat  # noqa: E402
from mediapipe.tasks.python import BaseOptions, vision  # noqa: E402

__all__ = ["BaseOptions", "Image", "ImageFormat", "vision"]
