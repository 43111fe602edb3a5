"""MQTT: events and values on topics of a broker, and a device in Home Assistant.

    PREFIX/availability   "online", or "offline" by last will          retained
    PREFIX/session        the log's record of the session              retained
    PREFIX/events         {"type": "new" or "end", "id", "event"}      arrives at least once
    PREFIX/marks          the log's record of a mark                   arrives at least once
    PREFIX/state          once a second, for displays                  retained
    PREFIX/frames         each frame, for programs

Of several cameras, each has its own PREFIX/camera/N/state and PREFIX/camera/N/frames.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from realtime_mer import __version__
from realtime_mer.output.senders.addresses import PASSWORD_VARIABLE, MqttAddress, bracketed
from realtime_mer.output.senders.values import MOTIONS, FaceValues, Finding, FrameValues
from realtime_mer.records import number, plain, seconds
from realtime_mer.results import PARTS, UNCERTAIN, MicroExpression, Session

if TYPE_CHECKING:
    from paho.mqtt.client import Client

# A broker that is there answers within milliseconds. Chosen by judgement.
_ANSWER_S = 3.0
# At the end of a session, the farewell may take so long.
_FAREWELL_S = 0.4
_SLICE_S = 0.05
# A program that is cut off without a word is "offline" after one and a half times this.
_KEEPALIVE_S = 15
_STATE_PERIOD_S = 1.0
# Where Home Assistant looks for devices.
_DISCOVERY = "homeassistant/device/{}/config"
_ONCE, _AT_LEAST_ONCE = 0, 1
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_HOST = (62, 64)
_AUTHORITY = ". The variable SSL_CERT_FILE may name the file of the authority that signed it"

# For Home Assistant: what its event entity takes, nothing for "end".
_EVENT_TEMPLATE = (
    "{% if value_json.type == 'new' %}{{ {'event_type': value_json.event.label, "
    "'confidence': value_json.event.confidence, 'intensity_px': value_json.event.intensity_px, "
    "'face': value_json.event.face, 'id': value_json.id} | to_json }}{% endif %}"
)


class MqttLink:
    """Publishes to a broker.

    Args:
        address: The broker.

    Raises:
        ImportError: paho-mqtt is not installed.
    """

    name = "MQTT"

    def __init__(self, address: MqttAddress) -> None:
        # One of the extras.
        from paho.mqtt import client

        self._paho = client
        self._address = address
        self._prefix = address.prefix
        # Events of two sessions have no common number.
        self._run = uuid.uuid4().hex[:8]
        self._count = 0
        # What was begun and not completed, so that a repeated event keeps its number.
        self._unsent: tuple[Finding, str] | None = None
        self._state_due_s: dict[int, float] = {}
        self._has_cameras = False
        self._client: Client | None = None
        self._answered = threading.Event()
        self._refusal = ""

    def greeting(self, session: Session) -> str:
        address = self._address
        lock = "" if address.is_encrypted else " (not encrypted)"
        return f"MQTT messages to {bracketed(address.host)}:{address.port}{lock}"

    def open(self, session: Session) -> None:
        address, paho = self._address, self._paho
        self._has_cameras = bool(session.sources)
        self._answered.clear()
        self._refusal = ""
        client = self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            # The same one after a lost connection, which the broker may not have noticed: it ends
            # that one now, and its last will comes before "online", not after it.
            client_id=f"realtime_mer-{self._run}",
            reconnect_on_failure=False,
        )
        client.connect_timeout = _ANSWER_S
        client.on_connect = self._on_connect
        if address.user is not None:
            password = address.password
            if password is None:
                password = os.environ.get(PASSWORD_VARIABLE)
            client.username_pw_set(address.user, password)
        if address.is_encrypted:
            client.tls_set()
        client.will_set(self._topic("availability"), "offline", _AT_LEAST_ONCE, retain=True)
        try:
            client.connect(address.host, address.port, _KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            # A certificate for another host stays one, whoever signed it.
            remedy = "" if error.verify_code in _OTHER_HOST else _AUTHORITY
            why = error.verify_message.rstrip(".")
            raise OSError(f"its certificate is not trusted: {why}{remedy}") from None
        except TimeoutError:
            raise OSError("it does not answer") from None
        except ssl.SSLError as error:
            raise OSError(f"no encrypted connection: {error.reason or error}") from None
        client.loop_start()
        if not self._answered.wait(_ANSWER_S):
            raise OSError("it does not answer")
        if self._refusal:
            raise OSError(f"it refuses: {self._refusal}")
        discovery = _DISCOVERY.format(self._identity)
        self._publish(discovery, self._device(session), _AT_LEAST_ONCE, retain=True)
        self._publish(self._topic("session"), session.to_dict(), _AT_LEAST_ONCE, retain=True)
        self._publish(self._topic("availability"), "online", _AT_LEAST_ONCE, retain=True)

    def send(self, message: FrameValues | Finding) -> None:
        if isinstance(message, FrameValues):
            self._send_frame(message)
        elif isinstance(message, MicroExpression):
            # It is over when it is reported, so both come at once.
            content = {"id": self._number(message), "event": message.to_dict()}
            for what in ("new", "end"):
                self._publish(self._topic("events"), {"type": what, **content}, _AT_LEAST_ONCE)
            self._unsent = None
        else:
            self._publish(self._topic("marks"), message.to_dict(), _AT_LEAST_ONCE)

    def close(self, *, in_order: bool) -> None:
        if in_order:
            topic = self._topic("availability")
            self._publish(topic, "offline", _AT_LEAST_ONCE, retain=True, patience_s=_FAREWELL_S)
        client, self._client = self._client, None
        if client is None:
            return
        if in_order:
            client.disconnect()
        else:
            # Without a farewell, so that the broker publishes the last will. The library would
            # wait for a broker that takes nothing.
            connection: Any = client.socket()
            with contextlib.suppress(OSError, AttributeError):
                connection.shutdown(socket.SHUT_RDWR)
        client.loop_stop()

    def _number(self, event: MicroExpression) -> str:
        """The event's id; the same one if it is sent again."""
        if self._unsent is None or self._unsent[0] is not event:
            self._count += 1
            self._unsent = (event, f"{self._run}-{self._count}")
        return self._unsent[1]

    def _send_frame(self, values: FrameValues) -> None:
        faces = [_face(face) for face in values.faces]
        frame: dict[str, Any] = {
            "frame": values.frame,
            "time_s": seconds(values.time_s),
            "latency_ms": number(1000 * values.latency_s, 1),
            "faces": faces,
        }
        if values.source:
            frame["source"] = values.source
        camera = values.camera
        if not values.is_away:
            self._publish(self._topic("frames", camera), frame, _ONCE)
        now_s = time.monotonic()
        if now_s >= self._state_due_s.get(camera, 0.0) or values.is_away:
            self._state_due_s[camera] = now_s + _STATE_PERIOD_S
            more = {
                "events": values.events,
                "fps": number(values.fps, 1),
                "dropped": values.dropped,
                "alerts": list(values.alerts),
                "is_away": values.is_away,
            }
            self._publish(self._topic("state", camera), frame | more, _ONCE, retain=True)

    def _publish(
        self,
        topic: str,
        content: str | Mapping[str, Any],
        quality: int,
        *,
        retain: bool = False,
        patience_s: float | None = None,
    ) -> None:
        """Publishes and waits until it has left, or was confirmed.

        Otherwise what a slow broker does not take would pile up in the library.

        Raises:
            OSError: The broker is away, or does not take it.
        """
        client = self._client
        assert client is not None
        text = content if isinstance(content, str) else json.dumps(plain(content), allow_nan=False)
        info = client.publish(topic, text, quality, retain)
        until = time.monotonic() + (_ANSWER_S if patience_s is None else patience_s)
        # The library raises if the connection is lost while it waits.
        with contextlib.suppress(RuntimeError):
            while info.rc == self._paho.MQTT_ERR_SUCCESS and client.is_connected():
                info.wait_for_publish(_SLICE_S)
                if info.is_published():
                    return
                if time.monotonic() > until:
                    raise OSError("it takes nothing")
        raise OSError("the connection was lost")

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, _: Any) -> None:  # noqa: ANN401
        if reason.is_failure:
            self._refusal = str(reason)
        self._answered.set()

    def _topic(self, name: str, camera: int | None = None) -> str:
        place = f"camera/{camera}/" if self._has_cameras and camera is not None else ""
        return f"{self._prefix}/{place}{name}"

    @property
    def _identity(self) -> str:
        """The device in Home Assistant; the same for the same prefix on the same computer."""
        name = f"{self._prefix}_{socket.gethostname()}"
        plain_name = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        # "lab/1" and "lab_1" are two.
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
        return plain_name if plain_name == name else f"{plain_name}_{digest}"

    def _device(self, session: Session) -> dict[str, Any]:
        """Home Assistant's description of the device and its entities."""
        components = {
            "event": self._entity(
                ("event", "Micro-expression"),
                self._topic("events"),
                event_types=[*session.labels, UNCERTAIN],
                value_template=_EVENT_TEMPLATE,
                icon="mdi:emoticon-outline",
            )
        }
        for camera in range(len(session.each)):
            of = f" {camera}" if session.sources else ""
            for (platform, name), more in _ENTITIES.items():
                key = re.sub(r"\W+", "_", f"{name}{of}".lower())
                state = self._topic("state", camera)
                components[key] = self._entity((platform, f"{name}{of}"), state, **more)
        return {
            "device": {
                "identifiers": [self._identity],
                "name": f"realtime_mer ({self._prefix})",
                "manufacturer": "realtime_mer",
                "model": session.model,
                "sw_version": __version__,
            },
            "origin": {"name": "realtime_mer", "sw_version": __version__},
            "availability_topic": self._topic("availability"),
            "qos": _AT_LEAST_ONCE,
            "components": components,
        }

    def _entity(self, what: tuple[str, str], topic: str, **more: object) -> dict[str, object]:
        platform, name = what
        unique = re.sub(r"\W+", "_", name.lower())
        return {
            "platform": platform,
            "name": name,
            "unique_id": f"{self._identity}_{unique}",
            "state_topic": topic,
            **more,
        }


def _readable(part: str) -> str:
    """Home Assistant's template for whether a part of any face can be read."""
    parts = "value_json.faces | map(attribute='readable') | sum(start=[])"
    return f"{{{{ 'ON' if '{part}' in ({parts}) else 'OFF' }}}}"


_DIAGNOSTIC = {"entity_category": "diagnostic"}
# What Home Assistant shows of the state: platform and name of each entity, and what it is.
_ENTITIES: dict[tuple[str, str], dict[str, object]] = {
    ("sensor", "Micro-expressions"): {
        "value_template": "{{ value_json.events }}",
        "state_class": "total_increasing",
    },
    ("sensor", "Faces"): {
        "value_template": "{{ value_json.faces | count }}",
        "state_class": "measurement",
    },
    ("sensor", "Frame rate"): {
        "value_template": "{{ value_json.fps }}",
        "unit_of_measurement": "fps",
        "state_class": "measurement",
        **_DIAGNOSTIC,
    },
    ("binary_sensor", "Source away"): {
        "value_template": "{{ 'ON' if value_json.is_away else 'OFF' }}",
        "device_class": "problem",
        **_DIAGNOSTIC,
    },
    **{
        ("binary_sensor", f"{part.capitalize()} readable"): {
            "value_template": _readable(part),
            **_DIAGNOSTIC,
        }
        for part in PARTS
    },
}


def _face(face: FaceValues) -> dict[str, Any]:
    """A face's values as JSON; null where something is not known."""
    motion = zip(face.motion[::2], face.motion[1::2], strict=True)
    return {
        "face": face.face,
        "score": number(face.score, 3),
        "limits_px": {part: number(px, 2) for part, px in zip(PARTS, face.limits, strict=True)},
        "readable": list(face.readable or ()),
        "quality": number(face.quality, 3),
        "pose_deg": [number(angle, 1) for angle in face.pose_deg],
        "blink": number(face.blink, 2),
        "motion_px": {
            region: [number(x, 2), number(y, 2)]
            for region, (x, y) in zip(MOTIONS, motion, strict=True)
        },
    }
