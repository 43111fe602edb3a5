"""A session's rates, latencies and memory as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_writable, replace_file, shown
from realtime_mer.records import plain
from realtime_mer.results import Analysis, Session, Summary


class StatsFile:
    """Writes the summary's statistics as one JSON object when the session ends.

    An older file is replaced by then; until then it stays as it is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        more: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """
        Args:
            path: Where to write it.
            more: Called at the end: statistics that are not in the summary.

        Raises:
            InputError: Nothing can be written there.
        """
        self._path = check_writable(path)
        self._where = self._path.absolute()
        self._more = more

    def begin(self, session: Session) -> None:
        pass

    def update(self, analysis: Analysis) -> None:
        pass

    def end(self, summary: Summary) -> None:
        text = json.dumps(plain({**summary.stats, **self._more()}), indent=2, allow_nan=False)
        try:
            # The process may have changed its folder meanwhile.
            replace_file(self._where, text.encode("ascii") + b"\n")
        except OSError as error:
            raise InputError(
                f"{shown(self._path)} cannot be written: {error.strerror}. An older file of that "
                "name is as it was. Free the disk or name another file."
            ) from None
