"""Where this program may keep files between runs."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """This program's folder in the user's cache directory. It need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "realtime_mer"
