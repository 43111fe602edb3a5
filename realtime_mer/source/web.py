"""HTTP and HTTPS: an address becomes a file object that another thread can interrupt."""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import urllib.request
import zlib
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.parse import unquote, urljoin

from realtime_mer.errors import InputError

# Some cameras and servers refuse clients that do not say who they are.
_AGENT = "realtime_mer"
_PARTS = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.I | re.S)
_UNSAFE = re.compile(r"[^!-~]")
# Servers that compress although nobody asked for it, and zlib's name for either kind of header.
_COMPRESSED = ("gzip", "x-gzip", "deflate")
_ANY_HEADER = zlib.MAX_WBITS | 32
_REFUSED = (401, 403, 407)


class Web:
    """Opens http(s) addresses, with the credentials of the first one for its own host alone.

    It is `realtime_mer` itself that reads addresses, not FFmpeg: what a playlist refers to stays
    http(s), certificates are checked, and `abort` ends any wait.

    Args:
        url: The address, `user:password@` included.
        name: The address as it may be shown.
        open_timeout_s: How long connecting and the answer's header may take.
        read_timeout_s: How long a read may wait for data.
    """

    def __init__(self, url: str, name: str, open_timeout_s: float, read_timeout_s: float) -> None:
        self._name = name
        self._open_timeout_s = open_timeout_s
        self._read_timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._aborted = False
        self._verify = True
        self.notes: list[str] = []
        self.url, self._host, user, password = _split(url)
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if user is not None:
            passwords.add_password(None, self.url, user, password or "")
        # One for all addresses: an opener and its handlers refer to each other, so that of many the
        # old ones stay in memory until the garbage collector comes, each with its certificates.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            _Handler(self._connected, self._tls),
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
            urllib.request.ProxyBasicAuthHandler(passwords),
        ):
            self._opener.add_handler(handler)
        self._context: ssl.SSLContext | None = None

    def open(self, url: str | None = None, start: int = 0) -> Response:
        """Opens an address, relative to the first one; None for the first one itself.

        Args:
            url: The address.
            start: First byte that is wanted, if the server can begin there.

        Raises:
            InputError: Nothing answers there, or access is refused.
        """
        address = self.url if url is None else urljoin(self.url, url)
        if not _PARTS.fullmatch(address):
            raise InputError(
                f"{self._name} refers to another kind of address. Name that address itself."
            )
        headers = {"User-Agent": _AGENT, "Accept": "*/*", "Range": f"bytes={start}-"}
        request = urllib.request.Request(address, headers=headers)
        try:
            answer = self._answer(request)
        except HTTPError as error:
            error.close()
            if error.code in _REFUSED:
                raise InputError(
                    f"{self._name} refuses access (HTTP {error.code}). Check user and password in "
                    "the address."
                ) from None
            raise InputError(
                f"{self._name} answers with an error (HTTP {error.code}). Check the path of the "
                "address."
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
                raise InputError(
                    f"{self._name} has a certificate that cannot be verified: someone else may "
                    "answer in its place. Correct the certificate, or name the address in the "
                    "local network."
                ) from None
            raise InputError(
                f"{self._name} cannot be opened: nobody answers there. Check the address and that "
                "the server runs."
            ) from None
        return Response(self, address, answer)

    def _answer(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        try:
            return self._answer_once(request)
        except urllib.error.URLError as error:
            is_unverified = isinstance(error.reason, ssl.SSLCertVerificationError)
            if not (self._verify and is_unverified and _is_local(self._host)):
                raise
        # Cameras sign their own certificates, and in the local network there is no other.
        self._verify, self._context = False, None
        self.notes.append(
            f"the certificate of {self._name} cannot be verified; it is read all the same, for it "
            "is in the local network"
        )
        return self._answer_once(request)

    def _answer_once(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        answer: http.client.HTTPResponse = self._opener.open(request, timeout=self._open_timeout_s)
        with self._lock:
            for each in self._sockets:
                if each.fileno() >= 0:
                    each.settimeout(self._read_timeout_s)
        return answer

    def _tls(self) -> ssl.SSLContext:
        """How encrypted connections are made.

        Made once: reading the certificates takes 40 ms and 0.5 MB (measured once).
        """
        if self._context is None:
            self._context = ssl.create_default_context()
            if not self._verify:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
        return self._context

    def _connected(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets = [each for each in self._sockets if each.fileno() >= 0]
            self._sockets.append(connection)
            if self._aborted:
                raise OSError("aborted")

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._aborted

    def abort(self) -> None:
        """Ends all connections and every wait for them; no new one is made. From any thread."""
        with self._lock:
            self._aborted = True
            for each in self._sockets:
                # Not ssl.SSLSocket.shutdown, which would take the reader's state away.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)


class Response:
    """The answer to a request, as a file object. If the server allows it, one can seek in it.

    Attributes:
        name: The address.
        content_type: The answer's type in lower case, parameters included; empty if it has none.
        length: Number of bytes; None if the server does not say.
    """

    def __init__(self, web: Web, url: str, answer: http.client.HTTPResponse) -> None:
        self._web, self._url, self._answer = web, url, answer
        self.name = answer.geturl() or url
        self.content_type = (answer.headers.get("Content-Type") or "").strip().lower()
        total = re.search(r"/(\d+)$", answer.headers.get("Content-Range") or "")
        length = answer.headers.get("Content-Length")
        if answer.status == http.client.PARTIAL_CONTENT and total:
            self.length: int | None = int(total[1])
        else:
            self.length = int(length) if length is not None and length.isdecimal() else None
        self._can_seek = answer.status == http.client.PARTIAL_CONTENT and total is not None
        self._inflate: zlib._Decompress | None = None
        if (answer.headers.get("Content-Encoding") or "").strip().lower() in _COMPRESSED:
            # Places in what is sent are not those in what was compressed.
            self._inflate, self._can_seek, self.length = (
                zlib.decompressobj(_ANY_HEADER),
                False,
                None,
            )
        self._ended = False
        self._at = 0
        self._head = b""
        self._wanted_at: int | None = None

    @property
    def size(self) -> int | None:
        """Number of bytes, as the server says or as all have been read; None if unknown."""
        return self._at if self.length is None and self._ended else self.length

    def peek(self) -> bytes:
        """The beginning of the data, at least one byte unless it is empty; it stays to be read."""
        if not self._head:
            self._head = self._arrived(4096)
        return self._head

    def _arrived(self, size: int) -> bytes:
        """What has arrived, at most `size` bytes, unpacked if it is compressed."""
        if self._inflate is None:
            return self._answer.read1(size)
        while True:
            packed = self._inflate.unconsumed_tail or self._answer.read1(size)
            try:
                data = self._inflate.decompress(packed, max(size, 1 << 16))
            except zlib.error as error:
                raise OSError("the data are damaged") from error
            if data or not packed:
                return data

    def read(self, size: int = -1) -> bytes:
        """Returns what has arrived, at most `size` bytes; waits for at least one.

        Raises:
            OSError: Nothing came in time, or the connection broke.
        """
        if self._wanted_at is not None:
            self._move(self._wanted_at)
            self._wanted_at = None
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
        else:
            try:
                data = self._arrived(size)
            except (http.client.HTTPException, ValueError) as error:
                raise OSError("the connection broke") from error
        self._at += len(data)
        self._ended = not data and size != 0
        return data

    def _move(self, to: int) -> None:
        self._answer.close()
        self._head = b""
        self._at = to
        if self.length is not None and to >= self.length:
            return
        try:
            answer = self._web.open(self._url, to)
        except InputError as error:
            raise OSError(str(error)) from None
        if answer._answer.status != http.client.PARTIAL_CONTENT:
            raise OSError("the server does not continue in the middle")
        self._answer = answer._answer

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether the server can begin anywhere."""
        return self._can_seek

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at if self._wanted_at is None else self._wanted_at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place; the next read asks the server for it."""
        if whence == 1:
            offset += self.tell()
        elif whence == 2:
            if self.length is None:
                raise OSError("the length is not known")
            offset += self.length
        if offset < 0:
            raise OSError("before the beginning")
        self._wanted_at = None if offset == self._at else offset
        return offset

    def close(self) -> None:
        """Closes the connection."""
        self._answer.close()


_Report = Callable[[socket.socket], None]


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens requests by connections that report their sockets."""

    def __init__(self, connected: _Report, tls: Callable[[], ssl.SSLContext]) -> None:
        super().__init__()
        self._connected, self._tls = connected, tls

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Opens http."""
        return self.do_open(functools.partial(_Connection, self._connected), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Opens https."""
        make = functools.partial(_TLSConnection, self._connected)
        return self.do_open(make, req, context=self._tls())

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


class _Connection(http.client.HTTPConnection):
    def __init__(self, connected: _Report, host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._connected = connected

    def connect(self) -> None:
        super().connect()
        self._connected(self.sock)


class _TLSConnection(http.client.HTTPSConnection):
    def __init__(
        self, connected: _Report, host: str, timeout: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, timeout=timeout, context=context)
        self._connected = connected

    def connect(self) -> None:
        super().connect()
        self._connected(self.sock)


def _split(url: str) -> tuple[str, str, str | None, str | None]:
    """The address without credentials, its host, user and password."""
    match = _PARTS.fullmatch(url)
    assert match is not None
    userinfo, at, host = match["authority"].rpartition("@")
    user, colon, password = userinfo.partition(":")
    # Names of files are not always encoded as they should be.
    rest = _UNSAFE.sub(
        lambda m: "".join(f"%{b:02X}" for b in m[0].encode("utf-8", "surrogateescape")),
        match["rest"].partition("#")[0],
    )
    bare = f"{match['scheme'].lower()}://{host}{rest or '/'}"
    host = re.sub(r":\d*$", "", host).strip("[]")
    return bare, host, unquote(user) if at else None, unquote(password) if colon else None


def _is_local(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.lower().endswith((".local", ".lan", ".home.arpa"))
