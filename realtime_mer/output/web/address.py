"""The address of the page, and who may see it."""

from __future__ import annotations

import errno
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from realtime_mer.errors import InputError
from realtime_mer.output.senders.addresses import bracketed
from realtime_mer.redaction import redacted

LOOPBACK = "127.0.0.1"
# Connections that may wait for `accept`.
_BACKLOG = 16
# 24 bytes are 192 bits: out of reach of guessing.
_TOKEN_BYTES = 24
# A documentation address (RFC 5737). Connecting a UDP socket to it sends nothing.
_ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port to serve at; port 0 is any free one.

    Example:
        >>> Address.parse("8000")
        Address(host='127.0.0.1', port=8000)
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads `[HOST:]PORT`; without a host, it is this computer's loopback.

        Raises:
            InputError: The text has another form.
        """
        host, colon, port = text.rpartition(":")
        shown = redacted(text)
        if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise InputError(
                f"{shown!r} is no address to serve at: end it with a port from 1 to 65535, "
                "for example 8000, or 0 for any free one."
            )
        if not colon:
            return cls(LOOPBACK, int(port))
        bracketed = re.fullmatch(r"\[([^\[\]]+)\]", host)
        if bracketed is None and (not host or not host.isprintable() or re.search(r"[\s:/]", host)):
            raise InputError(
                f"{shown!r} is no address to serve at: give PORT, HOST:PORT or [IPV6]:PORT. "
                "0.0.0.0 as the host opens it to the network."
            )
        return cls(bracketed[1] if bracketed else host, int(port))

    def listen(self) -> socket.socket:
        """Returns a listening socket; connections wait until they are accepted.

        Raises:
            InputError: Nothing can be served there.
        """
        try:
            found = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, ValueError):
            raise InputError(
                f"the host {self.host!r} is not known: give an address of this computer, or the "
                "port alone."
            ) from None
        family, _, _, _, place = found[0]
        try:
            return socket.create_server(place, family=family, backlog=_BACKLOG)
        except OSError as error:
            raise InputError(self._failed(error)) from None

    def _failed(self, error: OSError) -> str:
        match error.errno:
            case errno.EADDRINUSE:
                return f"port {self.port} is in use: give another, or 0 for any free one."
            case errno.EADDRNOTAVAIL:
                return (
                    f"{self.host} is no address of this computer: give one that is, 0.0.0.0 for "
                    "all, or the port alone."
                )
            case errno.EACCES:
                return f"port {self.port} needs rights that you do not have: give one above 1023."
        return f"{self.host}:{self.port} cannot be served: {error.strerror}. Give another address."


class Guard:
    """Decides who may see the page.

    On loopback: everyone on this computer, but no web site that is open in a browser here, which a
    foreign host name in the request gives away; with `always_token`, of them only who has the
    token. Elsewhere: everyone who has the token. Other web sites can link to the page, but neither
    load nor embed anything of it.

    Attributes:
        token: First part of every path; None if there is none.
        right: What people with the page may do, a few words.
    """

    def __init__(
        self,
        address: Address,
        bound: tuple[str, int],
        *,
        always_token: bool = False,
        may_control: bool = False,
    ) -> None:
        """
        Args:
            address: The address as the user gave it.
            bound: IP address and port of the listening socket.
            always_token: Whether to ask for the token on loopback as well: others may use this
                computer.
            may_control: Whether who sees the page may change the session.
        """
        self.right = "watch and control" if may_control else "watch"
        self._host, self._port = address.host, bound[1]
        ip = ipaddress.ip_address(bound[0].partition("%")[0])
        self._any = ip.is_unspecified
        self._is_loopback = ip.is_loopback
        needs_token = always_token or not ip.is_loopback
        self.token = secrets.token_urlsafe(_TOKEN_BYTES) if needs_token else None
        self._names = {
            "localhost",
            LOOPBACK,
            "[::1]",
            bracketed(address.host),
            bracketed(str(ip)),
        }
        self._names = {name.lower() for name in self._names}

    @property
    def prefix(self) -> str:
        """The beginning of every path."""
        return f"/{self.token}/" if self.token else "/"

    @property
    def url(self) -> str:
        """The page's address, the token included."""
        host = _own_address() if self._any else self._host
        return f"http://{bracketed(host)}:{self._port}{self.prefix}"

    @property
    def audience(self) -> str:
        """A sentence that says who can see the page."""
        if self.token is None:
            who = "Only people who use this computer, or a tunnel to it, can open this page."
        else:
            who = "Anyone who has this page's address can watch. The connection is not encrypted."
        return who if self.right == "watch" else f"{who} They can control the session, too."

    def refusal(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Says why a request is refused; None if it is not.

        Args:
            path: Decoded.
            headers: Their names in any case.
        """
        host = headers.get("Host", "")
        if self._is_loopback:
            # The port may be that of a tunnel: only the name tells a foreign site.
            name = re.sub(r":[0-9]*$", "", host).lower()
            if name not in self._names:
                return "This page is served on this computer only: open it as localhost."
        if self.token is not None:
            given = path.split("/")[1] if path.startswith("/") else ""
            if not hmac.compare_digest(
                given.encode("utf-8", "surrogateescape"), self.token.encode()
            ):
                return "The address is not complete: open it as the terminal shows it."
        # Browsers send the origin where it matters; other programs send none.
        origin = headers.get("Origin")
        own = {f"{scheme}://{host}".lower() for scheme in ("http", "https")}
        if (origin is not None and origin.lower() not in own) or _is_embedded(headers):
            return "Another site asks for this page."
        return None


def _is_embedded(headers: Mapping[str, str]) -> bool:
    """Whether a browser asks on behalf of another site's page, which cannot read the answer.

    It could still take the places of those who may. A browser sends no origin then, but
    `Sec-Fetch-Site`. A link that somebody follows is no such request.
    """
    if headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return False
    is_link = headers.get("Sec-Fetch-Mode") == "navigate"
    return not (is_link and headers.get("Sec-Fetch-Dest") == "document")


def _own_address() -> str:
    """A guess at the address by which others reach this computer."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_ELSEWHERE)
            return probe.getsockname()[0]
    except OSError:
        return socket.gethostname()
