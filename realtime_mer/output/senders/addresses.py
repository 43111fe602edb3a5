"""Where OSC messages go, and which MQTT broker, as the command line says. Loads nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from realtime_mer.errors import InputError
from realtime_mer.redaction import redacted, with_encoded_password

PASSWORD_VARIABLE = "REALTIME_MER_MQTT_PASSWORD"
"""The environment variable for a password that must not stand on the command line."""

_LOOPBACK = "127.0.0.1"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_PREFIX = "realtime_mer"
# Chosen by judgement: what follows the prefix is short, and MQTT allows 65,535 bytes.
_LONGEST_PREFIX = 200


def bracketed(host: str) -> str:
    """A host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class OscAddress:
    """Host and port that OSC messages are sent to.

    Example:
        >>> OscAddress.parse("9000")
        OscAddress(host='127.0.0.1', port=9000)
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> OscAddress:
        """Reads `[HOST:]PORT`; without a host, it is this computer.

        Raises:
            InputError: The text has another form.
        """
        host, colon, port = text.rpartition(":")
        bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.%\w]+)\]", host)
        host = bracketed[1] if bracketed else host
        is_host = bracketed or (host and re.fullmatch(r"[\w.-]+", host)) or not colon
        if not is_host or not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise InputError(
                f"{redacted(text)!r} is no address to send OSC to: give HOST:PORT, or the PORT "
                "alone for this computer, such as 9000"
            )
        return cls(host or _LOOPBACK, int(port))


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """A broker, who logs in there, and the beginning of all topics.

    Attributes:
        password: None if the address has none.
        is_encrypted: Whether the broker's certificate is checked and all is encrypted.
    """

    host: str
    port: int
    prefix: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    is_encrypted: bool = False

    @classmethod
    def parse(cls, text: str) -> MqttAddress:
        """Reads `mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT][/PREFIX]`.

        Raises:
            InputError: The text has another form. The message shows no password.
        """
        shown = redacted(text)
        # Written out: an address in a message would be redacted.
        form = (
            "it begins with mqtt or mqtts, a colon and two slashes; then come the host and, if "
            "need be, :PORT and /PREFIX"
        )
        try:
            parts = urlsplit(with_encoded_password(text))
            port = parts.port
        except ValueError:
            raise InputError(f"{shown!r} is no MQTT address: {form}") from None
        scheme = parts.scheme.lower()
        is_host = re.fullmatch(r"[\w.-]+|[0-9a-f.]*:[0-9a-f:.]+(%[\w.-]+)?", parts.hostname or "")
        if scheme not in _PORTS or not is_host or parts.query or parts.fragment or port == 0:
            raise InputError(f"{shown!r} is no MQTT address: {form}")
        prefix = unquote(parts.path).strip("/") or _PREFIX
        if not prefix.isprintable() or re.search(r"[+#]|^\$", prefix):
            raise InputError(f"the prefix of {shown!r} has characters that topics may not have")
        if len(prefix) > _LONGEST_PREFIX:
            raise InputError(f"the prefix of {shown!r} is too long: {_LONGEST_PREFIX} characters")
        return cls(
            host=str(parts.hostname),
            port=port or _PORTS[scheme],
            prefix=prefix,
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            is_encrypted=scheme == "mqtts",
        )
