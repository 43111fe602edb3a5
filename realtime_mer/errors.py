"""What goes wrong in a way that the user can fix."""

from __future__ import annotations


class InputError(Exception):
    """Something that was handed to us cannot be used. The message names it and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


class CameraError(InputError):
    """A camera cannot be opened or gives no picture."""
