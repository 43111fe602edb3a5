"""Lab Streaming Layer: markers and numbers, dated by when the motion was filmed.

LSL's library listens on all of the computer's addresses, and no setting of it changes that. So the
sockets that it opens are bound to the loopback device here, unless the network is asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import math
import os
import socket
import stat
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from realtime_mer import __version__
from realtime_mer.errors import InputError
from realtime_mer.output.senders.values import (
    CHANNELS,
    FaceValues,
    Finding,
    FrameValues,
    camera_of,
    captured_at,
)
from realtime_mer.results import MicroExpression, Session

if TYPE_CHECKING:
    import pylsl

MARKERS = "realtime_mer markers"
"""The name of the stream of markers."""
FACE = "realtime_mer face {}"
FACE_OF_CAMERA = "realtime_mer camera {} face {}"
"""The names of the streams of numbers of a face, of one source and of several."""

# A receiver that takes nothing has so much memory here, in hundreds of samples: 100 s at 30 fps.
# Chosen by judgement.
_KEPT_HUNDREDS = 30
# Frames of a recording of which it is known when they were sent: 100 s at 30 fps, so that an event
# finds those of its onset. Chosen by judgement.
_DATED = 3000
# LSL's own threads need a moment to send what was pushed last. Chosen by judgement.
_FLUSH_S = 0.15
# Receivers that were cut off are gone within milliseconds; a busy machine takes longer.
_CUT_OFF_S = 0.3
# Two clocks are read in turn so often; the narrowest pair counts.
_CLOCK_READS = 3
# Where LSL's library looks for its settings.
_SETTINGS = ("lsl_api.cfg", "~/lsl_api/lsl_api.cfg", "/etc/lsl_api/lsl_api.cfg")
# Its library writes to the terminal by default.
_QUIET = "[log]\nlevel = -3\n"
# Receivers of this computer ask at this address, too.
_THIS_COMPUTER = (
    "[multicast]\nResolveScope = machine\nListenAddress = 127.0.0.1\n[ports]\nIPv6 = disable\n"
)
_LOOPBACK_DEVICE = b"lo\0"


class LslLink:
    """A stream of markers, and a stream of numbers for each face.

    Args:
        faces: How many faces are followed at most.
        network: Whether all computers of the network may receive them.

    Raises:
        ImportError: pylsl is not installed.
        InputError: LSL's library cannot be loaded, or not be kept on this computer.
    """

    name = "LSL"

    def __init__(self, faces: int = 1, *, network: bool = False) -> None:
        try:
            # One of the extras.
            import pylsl
        except RuntimeError as error:
            raise InputError(f"--lsl cannot load LSL's library: {error}") from None
        self._lsl = pylsl
        self._network = network
        # Settings count only before the library's first call, and then for the whole process.
        if not network:
            _check_loopback()
            pylsl.set_config_content(_QUIET + _THIS_COMPUTER)
        elif not _has_settings():
            pylsl.set_config_content(_QUIET)
        self._count = faces
        self._session: Session | None = None
        self._markers: pylsl.StreamOutlet | None = None
        # Of each camera, and each face in it.
        self._faces: list[list[pylsl.StreamOutlet]] = []
        self._slots: list[Slots] = []
        # Of each camera, times in a recording, and when they were sent on `time.monotonic()`.
        self._sent: list[deque[tuple[float, float]]] = []

    def greeting(self, session: Session) -> str:
        who = "in this network" if self._network else "on this computer"
        dated = (
            ""
            if session.live
            else "; a file does not tell when it was filmed: times are those of the analysis"
        )
        return f"LSL streams for all programs {who}{dated}"

    def open(self, session: Session) -> None:
        self._session = session
        cameras = range(len(session.each))
        self._slots = [Slots(self._count) for _ in cameras]
        self._sent = [deque(maxlen=_DATED) for _ in cameras]
        try:
            self._markers = self._outlet(self._marker_info(session))
            self._faces = [
                [self._outlet(self._face_info(session, c, slot)) for slot in range(self._count)]
                for c in cameras
            ]
        except RuntimeError as error:
            raise OSError(str(error)) from None

    def send(self, message: FrameValues | Finding) -> None:
        if isinstance(message, FrameValues):
            self._send_frame(message)
        elif isinstance(message, MicroExpression):
            interval = message.interval
            who = f"{message.label}/face{message.face}" if self._count > 1 else message.label
            self._mark(message, f"onset/{who}", interval.onset_s)
            self._mark(message, f"apex/{who}", interval.apex_s)
            self._mark(message, f"offset/{who}", interval.offset_s)
        else:
            text = f"/{message.text}" if message.text else ""
            self._mark(message, f"mark{text}", message.time_s)

    def close(self, *, in_order: bool) -> None:
        outlets = [self._markers] if self._markers is not None else []
        outlets += [outlet for faces in self._faces for outlet in faces]
        self._markers, self._faces = None, []
        if in_order and any(outlet.have_consumers() for outlet in outlets):
            time.sleep(_FLUSH_S)
        _free(outlets)

    def _send_frame(self, values: FrameValues) -> None:
        if values.is_away:
            return
        assert self._session is not None
        monotonic_s = values.captured_at if self._session.live else time.monotonic()
        self._sent[values.camera].append((values.time_s, monotonic_s))
        stamp = self._lsl_time(monotonic_s)
        faces = self._slots[values.camera](values.faces)
        for outlet, face in zip(self._faces[values.camera], faces, strict=True):
            numbers = (math.nan,) * len(CHANNELS) if face is None else face.numbers
            outlet.push_sample(numbers, stamp)

    def _mark(self, finding: Finding, text: str, time_s: float) -> None:
        """Sends a marker about a moment, in seconds of the source's clock."""
        session = self._session
        assert session is not None
        assert self._markers is not None
        camera = camera_of(session, finding)
        monotonic_s = captured_at(session, time_s)
        if monotonic_s is None:
            monotonic_s = self._sent_at(camera, time_s)
        where = f"/camera{camera}" if session.sources else ""
        self._markers.push_sample([f"{text}{where}"], self._lsl_time(monotonic_s))

    def _sent_at(self, camera: int, time_s: float) -> float:
        """When the values of a recording's moment were sent, so that its markers lie beside them.

        They may have been sent faster or more slowly than they were filmed.
        """
        now = (time_s, time.monotonic())
        return min(self._sent[camera], key=lambda sent: abs(sent[0] - time_s), default=now)[1]

    def _lsl_time(self, monotonic_s: float) -> float:
        """A moment of `time.monotonic()` on LSL's clock, which need not be the same one."""
        best = (math.inf, 0.0)
        for _ in range(_CLOCK_READS):
            before = time.monotonic()
            lsl_s = self._lsl.local_clock()
            after = time.monotonic()
            best = min(best, (after - before, lsl_s - (before + after) / 2))
        return monotonic_s + best[1]

    def _marker_info(self, session: Session) -> pylsl.StreamInfo:
        return self._info(session, MARKERS, "Markers", 1, "string")

    def _face_info(self, session: Session, camera: int, slot: int) -> pylsl.StreamInfo:
        name = FACE_OF_CAMERA.format(camera, slot) if session.sources else FACE.format(slot)
        kind = ("FacialExpression", len(CHANNELS), "double64")
        info = self._info(session.each[camera], name, *kind)
        channels = info.desc().append_child("channels")
        for name, unit, what in CHANNELS:
            channel = channels.append_child("channel")
            channel.append_child_value("label", name)
            channel.append_child_value("unit", unit)
            channel.append_child_value("type", what)
        return info

    def _info(
        self, session: Session, name: str, kind: str, channels: int, number_format: str
    ) -> pylsl.StreamInfo:
        # The same for the same source on the same computer: receivers find it again.
        identity = f"{socket.gethostname()}\0{session.source}\0{name}"
        source_id = (
            f"realtime_mer-{hashlib.sha256(identity.encode('utf-8', 'replace')).hexdigest()[:16]}"
        )
        rate = self._lsl.IRREGULAR_RATE
        info = self._lsl.StreamInfo(name, kind, channels, rate, number_format, source_id)
        made_by = info.desc().append_child("acquisition")
        made_by.append_child_value("manufacturer", "realtime_mer")
        made_by.append_child_value("version", __version__)
        made_by.append_child_value("model", session.model)
        made_by.append_child_value("source", session.source)
        # A recording does not tell when it was filmed.
        dated_by = "capture" if session.live else "analysis"
        made_by.append_child_value("time_stamps", dated_by)
        return info

    def _outlet(self, info: pylsl.StreamInfo) -> pylsl.StreamOutlet:
        outlet = self._lsl.StreamOutlet(info, max_buffered=_KEPT_HUNDREDS)
        if not self._network:
            _bind_to_loopback(_ports_of(outlet))
        return outlet


class Slots:
    """Gives each face a stream, and keeps it there for as long as it is in the picture.

    Args:
        count: How many there are. A face has that of its number if it is free.
    """

    def __init__(self, count: int) -> None:
        self._taken: list[int | None] = [None] * count

    def __call__(self, faces: tuple[FaceValues, ...]) -> list[FaceValues | None]:
        """The face of each stream; None where there is none."""
        here = {face.face: face for face in faces}
        self._taken = [face if face in here else None for face in self._taken]
        for face in sorted(here):
            if face in self._taken or None not in self._taken:
                continue
            is_own = face < len(self._taken) and self._taken[face] is None
            self._taken[face if is_own else self._taken.index(None)] = face
        return [None if face is None else here[face] for face in self._taken]


def _has_settings() -> bool:
    """Whether the user has settings for LSL's library."""
    paths = (os.environ.get("LSLAPICFG", ""), *_SETTINGS)
    return any(path and Path(path).expanduser().is_file() for path in paths)


def _check_loopback() -> None:
    """Sees whether sockets can be kept on this computer.

    Raises:
        InputError: The system has no way, or does not allow it.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            _bind(probe)
    except (OSError, AttributeError) as error:
        raise InputError(
            f"LSL's streams cannot be kept on this computer here ({error}): --lsl-network offers "
            "them to the whole network"
        ) from None


def _bind(sock: socket.socket) -> None:
    if sys.platform != "linux":
        raise OSError("that takes Linux")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _LOOPBACK_DEVICE)


def _ports(xml: str) -> set[int]:
    """The ports of a stream, from its description."""
    names = [f"{version}{what}_port" for version in ("v4", "v6") for what in ("data", "service")]
    found = (ElementTree.fromstring(xml).findtext(name) or "0" for name in names)
    return {int(port) for port in found} - {0}


def _ports_of(outlet: pylsl.StreamOutlet) -> set[int]:
    return _ports(outlet.get_info().as_xml())


def _bind_to_loopback(ports: set[int]) -> None:
    """Binds this process's sockets with these ports to the loopback device.

    From then on nothing that comes from a network reaches them.
    """
    for sock in _own_sockets(ports):
        _bind(sock)


def _free(outlets: list[pylsl.StreamOutlet]) -> None:
    """Ends streams, emptying the list.

    Freed while it sends to a receiver, an outlet can crash the process (liblsl 1.18: its samples
    outlive what they came from). So the receivers are cut off first; an outlet that still has one
    is never freed.
    """
    for sock in _own_sockets({port for outlet in outlets for port in _ports_of(outlet)}):
        # What it has taken is still delivered.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    until = time.monotonic() + _CUT_OFF_S
    while outlets:
        outlet = outlets.pop()
        while outlet.have_consumers() and time.monotonic() < until:
            time.sleep(0.01)
        if outlet.have_consumers():
            # A reference that nobody owns keeps it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(outlet))


def _own_sockets(ports: set[int]) -> Iterator[socket.socket]:
    """This process's sockets with these ports, each open for as long as it is looked at."""
    for name in os.listdir("/proc/self/fd") if sys.platform == "linux" else ():
        # Another thread may close it meanwhile.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.stat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                is_ip = sock.family in (socket.AF_INET, socket.AF_INET6)
                if is_ip and sock.getsockname()[1] in ports:
                    yield sock
