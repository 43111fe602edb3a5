"""HTTP addresses, over real sockets."""

import base64
import gc
import hashlib
import http.client
import http.server
import re
import ssl
import threading
import urllib.request
from collections import Counter

import pytest

from realtime_mer.errors import InputError
from realtime_mer.source.web import Web

DATA = bytes(range(256)) * 40


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if path == "/moved":
            self.answer(302, Location=self.server.moved_to)
        elif path == "/digest" and not self.has_digest():
            self.answer(401, **{"WWW-Authenticate": 'Digest realm="cam", nonce="n1", qop="auth"'})
        elif path == "/basic" and self.headers.get("Authorization") != self.basic("a b", "p@/#"):
            self.answer(401, **{"WWW-Authenticate": 'Basic realm="cam"'})
        elif path == "/absent":
            self.answer(404)
        elif path == "/ranges":
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            self.answer(
                206, DATA[start:], **{"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
            )
        else:
            self.answer(200, DATA)

    def answer(self, status, data=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    @staticmethod
    def basic(user, password):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def has_digest(self):
        given = self.headers.get("Authorization") or ""
        if not given.startswith("Digest "):
            return False
        field = dict(re.findall(r'(\w+)="?([^",]+)"?', given))
        one = hashlib.md5(b"admin:cam:hunter2").hexdigest()
        two = hashlib.md5(b"GET:/digest").hexdigest()
        text = f"{one}:n1:{field['nc']}:{field['cnonce']}:auth:{two}"
        return field["response"] == hashlib.md5(text.encode()).hexdigest()


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.requests, server.moved_to = [], ""
    server.at = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def everything(response) -> bytes:
    return b"".join(iter(lambda: response.read(1000), b""))


def web(url) -> Web:
    return Web(url, "the camera", 5.0, 5.0)


@pytest.mark.parametrize(
    "address",
    [
        "http://admin:hunter2@{}/digest",
        "http://a%20b:p%40%2F%23@{}/basic",
        "HTTP://{}/plain?a=ä b#there",
        "http://{}",
    ],
)
def test_addresses_are_read(server, address):
    assert everything(web(address.format(server.at)).open()) == DATA


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("digest", r"the camera refuses access \(HTTP 401\)"),
        ("absent", r"the camera answers with an error \(HTTP 404\)"),
    ],
)
def test_refusals_are_told_from_absence(server, path, message):
    with pytest.raises(InputError, match=message):
        web(f"http://admin:wrong@{server.at}/{path}").open()


def test_nobody_there_is_said(server):
    at = server.at
    server.server_close()
    with pytest.raises(InputError, match="the camera cannot be opened: nobody answers there"):
        web(f"http://user:secret@{at}/").open()


def test_credentials_do_not_follow_to_another_host(server):
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    other.requests, other.moved_to = [], ""
    threading.Thread(target=other.serve_forever, args=[0.02], daemon=True).start()
    server.moved_to = f"http://127.0.0.1:{other.server_port}/basic"
    with pytest.raises(InputError, match="refuses access"):
        web(f"http://a%20b:p%40%2F%23@{server.at}/moved").open()
    assert other.requests
    assert all(authorization is None for _, authorization in other.requests)
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_redirections_stay_on_the_web(server, target):
    server.moved_to = target
    with pytest.raises(InputError):
        web(f"http://{server.at}/moved").open()
    with pytest.raises(InputError, match="another kind of address"):
        web(f"http://{server.at}/").open(target)


def test_place_in_a_file_is_asked_for(server):
    response = web(f"http://{server.at}/ranges").open()
    assert response.seekable()
    assert response.length == len(DATA)
    assert response.read(10) == DATA[:10]
    assert response.seek(-7, 2) == len(DATA) - 7
    assert everything(response) == DATA[-7:]
    response.seek(300)
    assert response.tell() == 300
    assert response.read(5) == DATA[300:305]
    response.seek(len(DATA))
    assert response.read(5) == b""


def test_server_that_knows_no_places_cannot_be_searched(server):
    response = web(f"http://{server.at}/plain").open()
    assert not response.seekable()
    assert response.length == len(DATA)


def test_nothing_of_an_address_stays_when_it_is_opened_again(server):
    """A camera that comes and goes is opened again for days: reading certificates each time, kept
    until the garbage collector came, made memory grow."""

    def count():
        kinds = (ssl.SSLContext, urllib.request.OpenerDirector, http.client.HTTPResponse)
        return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in kinds)

    camera = web(f"http://{server.at}/file")
    gc.collect()
    gc.disable()
    try:
        camera.open().close()
        before = count()
        for _ in range(3):
            response = camera.open()
            assert response.read(10) == DATA[:10]
            response.close()
            del response
        assert count() == before
    finally:
        gc.enable()


def test_beginning_can_be_looked_at_first(server):
    response = web(f"http://{server.at}/plain").open()
    assert response.peek()[:20] == DATA[:20]
    assert everything(response) == DATA
