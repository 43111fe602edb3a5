"""Where this program may keep files of its own between runs."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """The user's cache directory of this program. It need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "realtime_mer"
