"""Video files."""

from __future__ import annotations

import os
import time
from io import FileIO
from pathlib import Path

import av

from realtime_mer.errors import InputError
from realtime_mer.source.container import PLAYLIST, VideoContainer
from realtime_mer.source.image_folder import IMAGE_SUFFIXES
from realtime_mer.source.reader import DEFAULT_FPS, Grab

# Here a picture's header says whether it is animated. Chosen by judgement.
_HEAD_BYTES = 4096


class VideoFileReader:
    """A video file.

    FFmpeg gets the open file, never its name: no name is taken for an address or a pattern, and
    nothing in the file makes FFmpeg open another one. A playlist may name files of its own folder.

    Args:
        path: The file.
        name: The file as it may be shown.
        fps: True frame rate, which replaces the file's own times (for slow-motion recordings).
    """

    def __init__(self, path: Path, name: str, fps: float | None) -> None:
        self.name = name
        self.live = False
        self.fps = 0.0
        self.frame_count = 0
        self.notes: list[str] = []
        self._path = path
        self._true_fps = fps
        self._file: FileIO | None = None
        self._container: VideoContainer | None = None
        self._number = 0

    def open(self) -> None:
        """Opens the file.

        Raises:
            InputError: It is a picture, unreadable, empty or no video.
        """
        try:
            # An absolute path, for FFmpeg looks for the files of a playlist beside it.
            self._file = FileIO(os.path.abspath(self._path))
            if os.fstat(self._file.fileno()).st_size > 0:
                self._container = self._opened(self._file)
        except av.FFmpegError:
            raise InputError(
                f"{self.name} cannot be opened as a video: it is no video, is cut short before its "
                "index, or has a format that FFmpeg does not know. "
                "Check that a player shows it, or convert it to .mp4."
            ) from None
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read: {error.strerror}. Check its permissions and its disk."
            ) from None
        if self._container is None:
            raise InputError(f"{self.name} is an empty file. Copy or record it again.")
        self.fps = self._true_fps or self._container.fps
        self.frame_count = self._container.frame_count
        if self._container.is_bare and not self.fps:
            self.fps = DEFAULT_FPS
            self.notes.append(
                f"{self.name} has neither times nor a frame rate: {DEFAULT_FPS:g} fps is assumed. "
                "If it is another, name it (fps): all times depend on it"
            )

    def _opened(self, file: FileIO) -> VideoContainer:
        """The container in a file.

        Raises:
            InputError, av.FFmpegError, OSError: As `VideoContainer`; or it is a picture.
        """
        container_format = None
        if self._path.suffix.lower() in IMAGE_SUFFIXES:
            head = file.read(_HEAD_BYTES)
            file.seek(0)
            if head.startswith(b"RIFF") and b"ANIM" in head:
                raise InputError(
                    f"{self.name} is an animated WebP picture, which cannot be read. Convert it to "
                    ".mp4."
                )
            if not (head.startswith(b"\x89PNG") and b"acTL" in head):
                raise self._single_picture()
            container_format = "apng"
        container = self._container_of(file, container_format)
        if container.format_name == "jpeg_pipe":
            # One picture, or motion JPEG without a container: FFmpeg guesses.
            container.close()
            file.seek(0)
            container = self._container_of(file, "mjpeg")
            if not container.has_second_picture():
                container.close()
                raise self._single_picture()
        if container.is_picture:
            container.close()
            raise self._single_picture()
        return container

    def _container_of(self, file: FileIO, container_format: str | None) -> VideoContainer:
        return VideoContainer(
            file,
            self.name,
            container_format=container_format,
            open_referred=self._open_beside,
            options=PLAYLIST,
        )

    def _single_picture(self) -> InputError:
        return InputError(
            f"{self.name} is a single picture. Name a video, or the folder of the frames."
        )

    def _open_beside(self, url: str, start: int) -> FileIO:
        """Opens a file that a playlist names, if it lies in the playlist's folder."""
        path = Path(url.removeprefix("file:")).resolve()
        if not path.is_relative_to(self._path.resolve().parent) or not path.is_file():
            raise PermissionError(f"{path.name} does not lie beside the playlist")
        file = path.open("rb", buffering=0)
        file.seek(start)
        return file

    def read(self) -> Grab | None:
        """Returns the next picture, or None at the end. Pictures that are damaged are skipped.

        Raises:
            InputError: The file cannot be read any more.
        """
        assert self._container is not None
        try:
            picture = self._container.read()
        except av.FFmpegError:
            picture = None
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read any more: {error.strerror}. Check its disk."
            ) from None
        if picture is None:
            self._note_bad_pictures()
            return None
        position_s = picture.position_s
        if self._true_fps is not None or self._container.is_bare:
            # Those that were skipped took time, too.
            position_s = (self._number + self._container.bad_pictures) / self.fps
        self._number += 1
        return Grab(picture.image, position_s, time.monotonic())

    def _note_bad_pictures(self) -> None:
        assert self._container is not None
        if count := self._container.bad_pictures:
            pictures = "1 picture" if count == 1 else f"{count} pictures"
            self.notes.append(
                f"{self.name} is damaged: {pictures} could not be decoded and "
                f"{'was' if count == 1 else 'were'} skipped"
            )
            self._container.bad_pictures = 0

    def empty(self) -> InputError:
        """Returns the error for a file without a single decodable frame."""
        return InputError(
            f"{self.name} holds no frame that can be decoded. Check that a player shows it."
        )

    def close(self) -> None:
        """Closes the file."""
        if self._container is not None:
            self._container.close()
            self._container = None
        if self._file is not None:
            self._file.close()
            self._file = None
