"""What is used of MediaPipe, imported without what is not.

MediaPipe's drawing helpers import matplotlib.pyplot. That takes half a second, and it makes folders
and a font cache in the user's home, for drawings that nobody here makes. Its microphone imports
sounddevice, which looks for PortAudio with the system's compiler and linker, or starts the sound
system where it finds it. Stand-ins take their places and import them when they are first used.
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


def _stand_ins() -> dict[str, ModuleType]:
    """Modules in place of those that are put off; without those that are there already."""
    package, pyplot = _Deferred("matplotlib"), _Deferred("matplotlib.pyplot")
    package.__path__ = []
    package.pyplot = pyplot  # type: ignore[attr-defined]
    modules: dict[str, ModuleType] = {}
    if "matplotlib" not in sys.modules:
        modules |= {"matplotlib": package, "matplotlib.pyplot": pyplot}
    if "sounddevice" not in sys.modules:
        modules["sounddevice"] = _Deferred("sounddevice")
    return modules


def _import_without_the_rest(name: str) -> None:
    """Imports a module; what it imports in vain is put off until it is used."""
    with _lock:
        stand_ins = _stand_ins()
        sys.modules.update(stand_ins)
        try:
            importlib.import_module(name)
        finally:
            # Whoever imports them from now on gets the real ones.
            for place, module in stand_ins.items():
                if sys.modules.get(place) is module:
                    del sys.modules[place]


_import_without_the_rest("mediapipe.tasks.python.vision")

from mediapipe import Image, ImageFormat  # noqa: E402
from mediapipe.tasks.python import BaseOptions, vision  # noqa: E402

__all__ = ["BaseOptions", "Image", "ImageFormat", "vision"]
