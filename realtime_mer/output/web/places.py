"""Places for viewers: how many there may be, and who gives way to whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from realtime_mer.output.web.connections import Connection

# Chosen by judgement, for viewers and for receivers of the API each.
MAX_VIEWERS = 32
# One computer leaves places to others.
MAX_VIEWERS_OF_ADDRESS = 24
# Browsers answer a ping at once. When all places are taken, one that has not answered anything for
# this long gives its place away.
PROOF_S = 1.0


class Occupant:
    """Whoever has a place.

    Args:
        connection: Its connection.

    Attributes:
        joined_at: When it came, on `time.monotonic()`.
        is_proven: It has answered: somebody is there.
    """

    is_proven = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.joined_at = time.monotonic()
        self._wake = asyncio.Event()

    @property
    def address(self) -> str:
        """IP address."""
        return self._connection.address

    @property
    def is_gone(self) -> bool:
        """Its connection is closed."""
        return not self._connection.is_open

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def cut_off(self) -> None:
        """Closes the connection without waiting for data that has not been accepted."""
        self._connection.abort()


def has_place(occupants: Collection[Occupant], address: str) -> bool:
    """Whether one more of an address may come, if need be in place of one that does not answer.

    Args:
        occupants: In the order in which they came.
        address: IP address of the one who asks.
    """
    here = [occupant for occupant in occupants if not occupant.is_gone]
    of_address = [occupant for occupant in here if occupant.address == address]
    if len(of_address) >= MAX_VIEWERS_OF_ADDRESS:
        here = of_address
    elif len(here) < MAX_VIEWERS:
        return True
    first = next((occupant for occupant in here if not occupant.is_proven), None)
    if first is None or time.monotonic() - first.joined_at < PROOF_S:
        return False
    first.cut_off()
    return True
