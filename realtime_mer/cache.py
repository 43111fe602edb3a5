"""Where this program may keep files between runs."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path | None:
    """This program's folder in the user's cache directory, which need not exist.

    None where there is no such directory: a container's user may have no home.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if base:
        return Path(base) / "realtime_mer"
    try:
        return Path.home() / ".cache" / "realtime_mer"
    except RuntimeError:
        return None
