"""Addresses to serve at, and who may see the page there."""

import re
import socket

import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.web import WebView
from realtime_mer.output.web.address import Address, Guard


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8000", "127.0.0.1", 8000),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("localhost:8000", "localhost", 8000),
        ("[::1]:8000", "::1", 8000),
    ],
)
def test_address_is_a_port_with_or_without_a_host(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("99999", "1 to 65535"),
        ("foo:bar", "1 to 65535"),
        ("", "1 to 65535"),
        ("localhost:", "1 to 65535"),
        (":8000", "HOST:PORT"),
        ("::1:8000", "[IPV6]"),
        ("http://localhost:8000", "HOST:PORT"),
        ("a\nb:8000", "HOST:PORT"),
        ("no-such-host.invalid:0", "not known"),
        ("x" * 80 + ":0", "not known"),
        # Reserved for documentation: no computer has it.
        ("203.0.113.7:0", "no address of this computer"),
    ],
)
def test_address_that_cannot_be_served_is_refused_by_the_constructor(text, words):
    with pytest.raises(InputError, match=re.escape(words)):
        WebView(text, Overlay())


def test_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is in use"):
            WebView(str(port), Overlay())


def test_port_is_taken_by_the_constructor_and_freed_by_close():
    view = WebView("0", Overlay())
    port = re.search(r":(\d+)/", view.url)[1]
    with pytest.raises(InputError, match="in use"):
        WebView(port, Overlay())
    view.close()
    WebView(port, Overlay()).close()


def test_every_run_has_another_token(elsewhere):
    first, second = WebView("0", Overlay()), WebView("0", Overlay())
    assert first.url.split("/")[3] != second.url.split("/")[3]
    first.close()
    second.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.0.0.2"])
def test_loopback_needs_no_token(host):
    assert Guard(Address(host, 1), (host, 1)).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "fe80::1%eth0"])
def test_any_other_host_needs_a_token(host):
    assert len(Guard(Address(host, 1), (host, 1)).token) >= 32
