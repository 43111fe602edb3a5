"""Which kind of source a number, a path or an address names, and the reader for it."""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.redaction import URL, printable, redacted, with_encoded_password
from realtime_mer.source.camera import CameraReader, CameraRequest
from realtime_mer.source.image_folder import ImageFolderReader
from realtime_mer.source.limits import MIN_FPS
from realtime_mer.source.reader import STALL_TIMEOUT_S, Reader
from realtime_mer.source.stream import StreamReader
from realtime_mer.source.video_file import VideoFileReader

_STREAM = re.compile(r"(https?|rtsps?)://", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]{1,9}")


def reader_for(
    source: str | int | os.PathLike[str],
    fps: float | None = None,
    stall_timeout_s: float = STALL_TIMEOUT_S,
    request: CameraRequest | None = None,
) -> Reader:
    """Finds out what kind of source this is, without opening it.

    A number or a device is a camera, an http(s) or rtsp address a stream, everything else a
    path. A path object is always a path. A file whose name is a number is `./0`; a folder whose
    name is one, such as `006`, is that folder unless it names a camera that is there.

    Args:
        source: Number, path or address.
        fps: Frame rate of a folder of frames, or the true one of a video file whose own times
            are wrong.
        stall_timeout_s: A live source that sends nothing for this long is lost.
        request: What a camera is asked for, None for the usual; other sources ignore it.

    Raises:
        InputError: The source is missing or of an unknown kind, or `fps` does not fit it.
    """
    is_path = isinstance(source, os.PathLike)
    text = os.fspath(source) if isinstance(source, os.PathLike) else str(source)
    if fps is not None and not MIN_FPS <= fps < math.inf:
        raise InputError(f"{fps:g} is no frame rate (fps). Name a number above {MIN_FPS:g}.")
    is_text = isinstance(source, str)
    reader = _reader_for(text, is_path, is_text, fps, stall_timeout_s, request or CameraRequest())
    if fps is not None and reader.live:
        raise InputError(
            f"a frame rate (fps) is for recordings; {reader.name} is live, and its frames are "
            "timed as they come. Leave the frame rate out."
        )
    return reader


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "deleted"


def _is_folder_of_that_name(number: str) -> bool:
    """Whether a number names a folder here and no camera that is there."""
    if not os.path.isdir(number):
        return False
    # Nobody writes the number of a camera with leading zeros.
    has_zeros = number != str(int(number))
    return has_zeros or not os.path.exists(f"/dev/video{int(number)}")


def _reader_for(
    text: str,
    is_path: bool,
    is_text: bool,
    fps: float | None,
    stall_timeout_s: float,
    request: CameraRequest,
) -> Reader:
    # What exists is a path, however much it looks like an address.
    name = printable(text) if os.path.exists(text) else redacted(text)
    if not is_path and _NUMBER.fullmatch(text):
        if int(text) < 0:
            raise InputError(f"{text} is no camera. Cameras are numbered from 0.")
        if is_text and _is_folder_of_that_name(text):
            return ImageFolderReader(Path(text), name, fps)
        return CameraReader(int(text), f"camera {int(text)}", stall_timeout_s, request)
    if not is_path and URL.match(text) and not os.path.exists(text):
        if _STREAM.match(text):
            return StreamReader(with_encoded_password(text), name, stall_timeout_s)
        raise InputError(
            f"{name} is an address of a kind that is not supported. "
            "Use http, https or rtsp, or the path of a file."
        )
    if not text or "\0" in text:
        raise InputError("The name of the source is empty or no file name. Name a video file.")
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        raise InputError(
            f"{name} is no name that a file can have here. Check its characters."
        ) from None
    except FileNotFoundError:
        if text.startswith("/dev/"):
            return CameraReader(text, name, stall_timeout_s, request)
        raise InputError(
            f"{name} does not exist. Check the name; the working folder is "
            f"{printable(_working_folder())}."
        ) from None
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror}. Check its name and its permissions."
        ) from None
    if stat.S_ISDIR(mode):
        return ImageFolderReader(path, name, fps)
    if stat.S_ISCHR(mode):
        return CameraReader(os.path.abspath(text), name, stall_timeout_s, request)
    if stat.S_ISREG(mode):
        return VideoFileReader(path, name, fps)
    raise InputError(f"{name} is neither a file nor a folder. Name a video file.")
