"""A session's rates, latencies and memory as a file."""

from __future__ import annotations

import json
import os

from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_writable
from realtime_mer.records import plain
from realtime_mer.results import Analysis, Session, Summary


class StatsFile:
    """Writes the summary's statistics as one JSON object when the session ends."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """
        Raises:
            InputError: Nothing can be written there.
        """
        self._path = check_writable(path)

    def begin(self, session: Session) -> None:
        pass

    def update(self, analysis: Analysis) -> None:
        pass

    def end(self, summary: Summary) -> None:
        text = json.dumps(plain(summary.stats), indent=2, allow_nan=False)
        try:
            self._path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error.strerror}.") from None
