"""Open Sound Control: a bundle of messages a frame and face, over UDP, which never blocks."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

from realtime_mer.output.senders.addresses import bracketed
from realtime_mer.output.senders.values import (
    MOTIONS,
    FaceValues,
    Finding,
    FrameValues,
    camera_of,
    captured_at,
    moment_s,
)
from realtime_mer.results import MicroExpression, Session

_Argument = str | int | float
_Message = tuple[str, Sequence[_Argument]]


class OscLink:
    """Sends to a host and port, whoever listens there.

    Args:
        host: Its name or address.
        port: Its port.

    Raises:
        ImportError: python-osc is not installed.
    """

    name = "OSC"

    def __init__(self, host: str, port: int) -> None:
        # One of the extras.
        from pythonosc import osc_bundle_builder, osc_message_builder

        self._bundles, self._messages = osc_bundle_builder, osc_message_builder
        self._host, self._port = host, port
        self._session: Session | None = None
        self._socket: socket.socket | None = None
        self._address: tuple[Any, ...] = ()

    def greeting(self, session: Session) -> str:
        return f"OSC messages to {bracketed(self._host)}:{self._port}"

    def open(self, session: Session) -> None:
        self._session = session
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        # Most receivers listen at IPv4 alone, also those of "localhost", which often is ::1 first.
        family, *_, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        # Sent to the name, each message would wait until the name is looked up.
        self._address = address

    def send(self, message: FrameValues | Finding) -> None:
        if not isinstance(message, FrameValues):
            assert self._session is not None
            root = self._root(camera_of(self._session, message))
            self._send([_finding(root, message, self._age_ms(message))])
            return
        if message.is_away:
            return
        root = self._root(message.camera)
        age_ms = 1000 * (time.monotonic() - message.captured_at)
        frame: list[_Message] = [
            (f"{root}/frame", (message.frame, message.time_s, age_ms)),
            (f"{root}/faces", (len(message.faces),)),
        ]
        self._send(frame)
        for face in message.faces:
            self._send(list(_face(root, face)))

    def close(self, *, in_order: bool) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _root(self, camera: int) -> str:
        """The beginning of all addresses of a camera."""
        assert self._session is not None
        return f"/mer/camera/{camera}" if self._session.sources else "/mer"

    def _age_ms(self, finding: Finding) -> float:
        """How long ago a finding began."""
        assert self._session is not None
        began = captured_at(self._session, moment_s(finding))
        if began is not None:
            return 1000 * (time.monotonic() - began)
        reported_s = getattr(finding, "reported_s", moment_s(finding))
        return 1000 * (reported_s - moment_s(finding))

    def _send(self, messages: Sequence[_Message]) -> None:
        """Sends one bundle, to be obeyed at once.

        It is not dated by the capture, which some receivers call late, and which others, whose
        clock is behind, would wait for. The messages tell how old they are.
        """
        assert self._socket is not None
        bundle = self._bundles.OscBundleBuilder(self._bundles.IMMEDIATELY)
        for address, arguments in messages:
            builder = self._messages.OscMessageBuilder(address)
            for argument in arguments:
                builder.add_arg(argument)
            bundle.add_content(builder.build())
        self._socket.sendto(bundle.build().dgram, self._address)


def _finding(root: str, finding: Finding, age_ms: float) -> _Message:
    if isinstance(finding, MicroExpression):
        return f"{root}/event", (
            *(finding.label, finding.confidence, finding.intensity_px),
            *(age_ms, int(finding.face)),
        )
    return f"{root}/mark", (finding.text, age_ms)


def _face(root: str, face: FaceValues) -> Iterator[_Message]:
    """The messages of a face, without those of which nothing is known."""
    motion = zip(face.motion[::2], face.motion[1::2], strict=True)
    told: list[tuple[str, tuple[float, ...]]] = [
        ("score", (face.score,)),
        ("quality", (face.quality,)),
        ("limits", face.limits),
        ("pose", face.pose_deg),
        ("blink", (face.blink,)),
        *(
            (f"motion/{region.replace(' ', '_')}", values)
            for region, values in zip(MOTIONS, motion, strict=True)
        ),
    ]
    for name, numbers in told:
        if all(map(math.isfinite, numbers)):
            yield f"{root}/face/{face.face}/{name}", numbers
