"""Landmark networks that look at several faces at the same time, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from realtime_mer.face.landmark_model import LandmarkModel
from realtime_mer.face.landmark_network import LandmarkNetwork

_Item = TypeVar("_Item")


class NetworkPool:
    """Networks, and threads for all but the first. Not to be shared between threads itself.

    Each takes 18 MB, and 50 ms to load (measured once).

    Args:
        model: The checked landmark model.
        size: How many networks, 1 or more.

    Raises:
        RuntimeError, OSError, ValueError, KeyError, zipfile.BadZipFile: The model cannot be used.

    Attributes:
        first: The network for the caller's thread.
    """

    def __init__(self, model: LandmarkModel, size: int) -> None:
        self.first, *self._others = (LandmarkNetwork(model) for _ in range(size))
        self._threads = ThreadPoolExecutor(size - 1, "faces") if size > 1 else None

    def each(self, do: Callable[[_Item, LandmarkNetwork], None], items: Sequence[_Item]) -> None:
        """Calls `do` for each item, with a network that nobody else uses meanwhile.

        Several items are done side by side, in any order; all are done when it returns.

        Raises:
            Exception: What the first call raised that failed.
        """
        waiting = iter(items)

        def take(network: LandmarkNetwork) -> None:
            for item in waiting:  # whoever is ready takes the next one
                do(item, network)

        beside = []
        if self._threads is not None:
            others = self._others[: max(0, len(items) - 1)]
            beside = [self._threads.submit(take, network) for network in others]
        try:
            take(self.first)
        finally:
            wait(beside)
        for done in beside:
            done.result()

    def close(self) -> None:
        """Ends the threads. May be called twice."""
        if self._threads is not None:
            self._threads.shutdown()
