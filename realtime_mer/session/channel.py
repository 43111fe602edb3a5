"""A channel: how work goes from one thread to the next, in order, in bounded space."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

# Threads wait in pieces of this length, so that Ctrl-C is noticed on every platform.
_WAIT_S = 0.2


class Ended(Exception):
    """The writer has ended the channel, and everything in it has been taken."""


class Channel(Generic[Item]):
    """A bounded queue of one writer and one reader that ends, and carries an error to the reader.

    When it is full, the writer waits; or, if the channel may merge, a new item merges into the
    newest one, and the writer never waits.

    Example:
        >>> channel = Channel(2)
        >>> channel.put("a")
        True
        >>> channel.end()
        >>> channel.get()
        'a'
    """

    def __init__(
        self,
        capacity: int,
        merge: Callable[[Item, Item], Item] | None = None,
        waited: Callable[[float], None] = lambda seconds: None,
        changed: threading.Condition | None = None,
    ) -> None:
        """
        Args:
            capacity: How many items wait at most.
            merge: Makes one item of the newest that waits and the one that comes after it.
            waited: Called in the reader's thread with the seconds that an item waited.
            changed: Notified of every change; channels that share it can be waited for together.

        Raises:
            ValueError: Nothing could ever wait.
        """
        if capacity < 1:
            raise ValueError(f"a channel holds 1 item or more, got {capacity}")
        self._capacity, self._merge, self._waited = capacity, merge, waited
        self._changed = changed or threading.Condition()
        self._items: deque[tuple[Item, float]] = deque()
        self._merged = 0
        self._error: BaseException | None = None
        self._ended = self._closed = self._opened_up = False

    @property
    def merged(self) -> int:
        """How many items were merged into the one before them."""
        with self._changed:
            return self._merged

    @property
    def is_ready(self) -> bool:
        """Whether `get` returns or raises at once."""
        with self._changed:
            return bool(self._items) or self._ended or self._closed

    def put(self, item: Item) -> bool:
        """Hands an item over; False if the channel is closed and nobody will take it."""
        with self._changed:
            while not self._closed and not self._opened_up and len(self._items) >= self._capacity:
                if self._merge is not None:
                    item = self._merge(self._items.pop()[0], item)
                    self._merged += 1
                else:
                    self._changed.wait(_WAIT_S)
            if self._closed:
                return False
            self._items.append((item, time.monotonic()))
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> Item | None:
        """The oldest item, as soon as there is one; None if none has come in `timeout_s`.

        Raises:
            Ended: The channel is empty and stays so.
            BaseException: What broke the writer, once all that it wrote before has been taken.
        """
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._items:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._ended or self._closed:
                    raise Ended
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return None
                self._changed.wait(min(_WAIT_S, left_s))
            item, since = self._items.popleft()
            self._changed.notify_all()
        self._waited(time.monotonic() - since)
        return item

    def __iter__(self) -> Iterator[Item]:
        """All items until the end."""
        while True:
            try:
                item = self.get()
            except Ended:
                return
            assert item is not None  # there is no time limit
            yield item

    def end(self, error: BaseException | None = None) -> None:
        """The writer has written its last item, or failed with `error`."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def open_up(self) -> None:
        """Lets the writer write without waiting: it is about to end, and loses nothing."""
        with self._changed:
            self._opened_up = True
            self._changed.notify_all()

    def close(self) -> None:
        """Drops what waits; both sides return at once."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._error = None
            self._changed.notify_all()
