"""A stage: work that goes on in a thread of its own, between two channels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from realtime_mer.session.channel import Channel


class Stage:
    """Runs `work` once in a thread. However it ends, it ends the channels on both sides.

    Args:
        name: Name of the thread.
        work: Takes from `source` until that has ended, and fills `target`.
        target: The channel that it fills; ended with whatever breaks the work.
        source: The channel that it empties, closed at the end; None if it reads from elsewhere.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        target: Channel[Any],
        source: Channel[Any] | None = None,
    ) -> None:
        self._work, self._target, self._source = work, target, source
        # A daemon: a native call that does not return must not keep the program alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Waits for the end; True if the thread has ended or was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._work()
        except BaseException as caught:
            error = caught
        finally:
            if self._source is not None:
                self._source.close()
            self._target.end(error)
