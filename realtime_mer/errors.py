"""What goes wrong in a way that the user can fix."""

from __future__ import annotations

from realtime_mer.redaction import redacted_in


class InputError(Exception):
    """Something that was handed to us cannot be used. The message names it and the remedy.

    The command line prints the message without a traceback and exits with status 2. Whatever the
    message names, it shows no credentials and no control characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted_in(message))


class CameraError(InputError):
    """A camera cannot be opened or gives no picture."""
