"""Redaction: addresses and names as they may be shown, logged and put into messages."""

from __future__ import annotations

import re
from urllib.parse import unquote

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SECRET_KEY = re.compile(
    r"access|api|auth|cred|jwt|key|login|pass|pwd|secret|sess|sig|tok|user", re.IGNORECASE
)
_OPAQUE_VALUE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9._~+/=-]{16,}")


def redacted(source: str) -> str:
    """Returns the source as it may be shown, logged and put into messages.

    In an address, `user:password@` and the values of token-like query parameters are replaced. In
    any source, control characters that a terminal would execute are escaped.

    Example:
        >>> redacted("rtsp://admin:1234@10.0.0.2/live?token=abc&profile=1")
        'rtsp://***@10.0.0.2/live?token=***&profile=1'
    """
    if URL.match(source):
        source = _without_credentials(source)
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in source.encode("utf-8", "backslashreplace").decode()
    )


def _without_credentials(url: str) -> str:
    scheme, rest = url.split("://", 1)
    head = re.split(r"[?#]", rest, maxsplit=1)[0]
    host_and_port = head.split("/", 1)[0]
    # Passwords are not always percent-encoded as they should be. If the port is no number, it is
    # the start of a password with a "/", "?" or "#": redact everything up to the last "@".
    if "@" not in host_and_port and re.search(r":(?!\d*$|[0-9a-f:]*\]:?\d*$)", host_and_port):
        head = rest
    userinfo, at, _ = head.rpartition("@")
    if at:
        rest = "***@" + rest[len(userinfo) + 1 :]
    address, mark, query = rest.partition("?")
    if not mark:
        address, mark, query = rest.partition("#")
    return f"{scheme}://{address}{mark}" + re.sub(
        r"(?P<key>[^=&;?#]+)=(?P<value>[^&;#]*)", _redact_parameter, query
    )


def _redact_parameter(match: re.Match[str]) -> str:
    key, value = match["key"], match["value"]
    if _SECRET_KEY.search(unquote(key)) or _OPAQUE_VALUE.fullmatch(unquote(value)):
        value = "***"
    return f"{key}={value}"
