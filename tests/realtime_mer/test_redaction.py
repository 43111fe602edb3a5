"""What is shown of a source or a message: no credentials, and no control characters."""

import random
import re
from urllib.parse import quote, unquote

import pytest

from realtime_mer.errors import InputError
from realtime_mer.redaction import printable, redacted, redacted_in, with_encoded_password


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://10.0.0.2:554/live", "rtsp://10.0.0.2:554/live"),
        ("rtsp://u:p@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://u:p@ss@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa/ss@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa?ss#w@host/x", "rtsp://***@host/x"),
        ("rtsp://admin:2024#Cam@192.0.2.7:554/live", "rtsp://***@192.0.2.7:554/live"),
        ("rtsp://me@corp.com:12#34@192.0.2.7/live", "rtsp://***@192.0.2.7/live"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://u:p@[fe80::1%eth0]:80/x", "http://***@[fe80::1%eth0]:80/x"),
        ("RTSP://U:P@CAM.LOCAL/LIVE", "RTSP://***@CAM.LOCAL/LIVE"),
        # It is not clear where the host is: what looks like one may be a part of the password.
        ("http://cam/x?password=p@ss", "http://***"),
        ("http://me@corp.com:12#34@cam/live", "http://***"),
        ("rtsp://admin:1234#5@cam/live", "rtsp://***"),
        # No "@", but what should be a port is none.
        ("rtsp://admin:hunter2/live", "rtsp://***/live"),
        ("rtsp://admin:hunter2%40192.0.2.7/live", "rtsp://***/live"),
        # Known parameters with harmless values, and the names of those that are secret.
        ("http://h/x?Token=1&profile=2", "http://h/x?Token=***&profile=2"),
        ("http://h/x?a=1;PASSWORD=2", "http://h/x?***;PASSWORD=***"),
        ("http://h/x?%74oken=1", "http://h/x?***"),
        ("http://h/video.cgi?resolution=640x480", "http://h/video.cgi?resolution=640x480"),
        ("http://h/x?profile=eyJhbGciOiJI", "http://h/x?***"),
        ("http://h/x?password=a&b&c", "http://h/x?password=***&***"),
        ("http://h/x#access_token=1", "http://h/x#***"),
        ("http://h/x?src=rtsp://u:p@10.0.0.2/live", "http://***@10.0.0.2/live"),
        ("http://10.0.0.1/x?src=rtsp://u:p@h/live", "http://10.0.0.1/x?***"),
        # Paths of common cameras, and paths with secrets in them.
        ("rtsp://h/Streaming/Channels/101", "rtsp://h/Streaming/Channels/101"),
        ("rtsp://h/h264Preview_01_main", "rtsp://h/h264Preview_01_main"),
        ("http://h/axis-cgi/mjpg/video.cgi", "http://h/axis-cgi/mjpg/video.cgi"),
        ("https://h/videos/anna.mp4", "https://h/videos/***.mp4"),
        ("rtsp://h/user=admin_password=x_channel=1_stream=0.sdp", "rtsp://h/***"),
        ("rtsp://h/user=admin&password=x/live&channel=1", "rtsp://h/***"),
        ("rtsp://h/live;token=x/live", "rtsp://h/***"),
        ("http://h:8080/live/admin/hunter2/123.ts", "http://h:8080/live/***/***/123.ts"),
        ("rtsps://h:7441/AbCdEf123456?enableSrtp", "rtsps://h:7441/***?***"),
        # Mistyped.
        ("rtps://u:p@h/live", "rtps://***@h/live"),
        ("rtsp:/u:p@h/live", "rtsp:/***@h/live"),
        ("rtsp:u:p@h/live", "rtsp:***@h/live"),
        ("rtsp//u:p@h/live", "rtsp//***@h/live"),
        ("http:\\\\u:p@h\\live", "http:\\\\***@h\\live"),
        (" rtsp://u:p@h/live", "rtsp://***@h/live"),
        ("u:p@h/live", "***@h/live"),
        ("//u:p@h/live", "//***@h/live"),
        ("192.0.2.7/live?pwd=x", "192.0.2.7/live?pwd=***"),
        ("cam:554/user=admin_password=x", "cam:554/***"),
        ("htp//h/x?password=x", "***"),
        # A pipeline.
        ("rtspsrc location=rtsp://u:p@h/live user-pw=x ! sink", "***rtsp://***@h/***"),
        ("rtspsrc location=10.0.0.2 user-pw=x ! sink", "***"),
    ],
)
def test_an_address_shows_what_is_known_to_be_harmless(source, shown):
    assert redacted(source) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "path",
    [
        "clip.avi",
        "mail@home?token=1.avi",
        "a=b;c#d@e.avi",
        "takes/user=anna password=none.avi",
        "clips//a.avi",
        "/srv/a:b@c/x#y?z;k=v.avi",
        "./u:p@h/live",
        "~/u:p@h.avi",
        "C:\\videos\\a;b=c#1.avi",
        "\\\\server\\share\\a@b.avi",
        "file:///home/a@b/c?d=e.avi",
        "[bold red]x[/].avi",
        "Gesicht ä 顔.avi",
        "camera 0",
        "",
    ],
)
def test_a_path_is_shown_as_it_is(path):
    assert redacted(path) == path
    assert redacted_in(f"{path} cannot be read.") == f"{path} cannot be read."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("evil\x1b[2J\n.avi", "evil\\x1b[2J\\n.avi"),
        ("\x9b31m", "\\x9b31m"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("a\u200bb\ufeff\u2066", "a\\u200bb\\ufeff\\u2066"),
        ("\u3164", "\\u3164"),
        ("bytes\udcff.avi", "bytes\\udcff.avi"),
        ("🙂 é", "🙂 é"),
    ],
)
def test_nothing_is_shown_that_acts_or_hides(text, shown):
    assert printable(text) == shown
    assert redacted(text) == shown


def test_long_texts_are_cut_in_the_middle():
    assert printable("abcdefghij", 5) == "ab…ij"
    assert len(redacted("/" + "x" * 100_000)) == 1000
    assert redacted("rtsp://" + "x" * 100_000) == "***"
    assert len(redacted_in("x:" * 100_000)) < 10_000


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "[Errno 5] failed: 'rtsp://admin:hunter2@10.0.0.2/live'",
            "[Errno 5] failed: 'rtsp://***@10.0.0.2/live'",
        ),
        ("<urlopen http://h/x?pw=1>, again", "<urlopen http://h/x?pw=***>, again"),
        (
            "rtsp:/u:p@h/x.mp4: the folder rtsp:/u:p@h is missing. Make it.",
            "rtsp:/***@h/***.mp4: the folder rtsp:/***@h is missing. Make it.",
        ),
        ("rtsp://u:pa ss@h/x is closed.", "rtsp://***@h/x is closed."),
        ("'http://h/x?pw=a b c' is closed.", "'http://h/x?pw=***' is closed."),
        ("http://***@h/x is closed. Ask a@b.", "http://***@h/x is closed. Ask a@b."),
        ("one\ntwo\x1b[2J", "one\\ntwo\\x1b[2J"),
    ],
)
def test_addresses_in_messages_are_redacted(message, shown):
    assert redacted_in(message) == shown
    assert str(InputError(message)) == shown


# Random secrets are of letters that nothing else in these addresses has, and of odd characters.
_LETTERS = "BDFGJKQXYZ"
_ODD = "#?@/:;&=%!$ '\"\\+,.*()[]{}|^~`<>-_äöüß日本é€\u202e\x1b"
_HOSTS = ("192.0.2.7", "192.0.2.7:554", "cam", "cam:8554", "cam.local", "nvr.example.org:8080")
_HOSTS_6 = ("[fe80::1]", "[2001:db8::7]:554")
_SCHEMES = ("rtsp://", "http://", "HTTPS://", "rtps://", "rtsp:/", "http:\\\\", "http:/", "rtmp://")
# Without "@", nothing tells these from paths.
_BARE = ("", "//", "rtsp:", "rtsp//", "rtsp;//", "htp://", " rtsp://", "'rtsp://")
_KEYS = (
    *("user", "usr", "username", "login", "u", "password", "passwd", "pass", "pswd", "pwd", "pw"),
    *("p", "token", "access_token", "key", "auth", "sig", "secret", "jwt", "Pwd", "%70wd", "odd"),
)
_PATHS = ("live", "cam/realmonitor", "Streaming/Channels/101", "axis-cgi/mjpg/video.cgi", "x")
_USERS = ("admin", "a", "john.doe", "me@corp.com")
_PLACES = {
    "password": "{any}{user}:{secret}@{host}/{path}",
    "password and query": "{any}{user}:{secret}@{host}/{path}?channel=1&subtype=0",
    "user": "{scheme}{secret}@{host}/{path}",
    "query": "{scheme}{host}/{path}?channel=1&{key}={secret}&subtype=0",
    "first of query": "{scheme}{host}/{path}?{key}={secret}",
    "path with &": "{scheme}{host}/user={user}&password={secret}&channel=1&stream=0.sdp",
    "path with _": "{scheme}{host}/user={user}_password={secret}_channel=1_stream=0.sdp",
    "parameter of path": "{scheme}{host}/{path};token={secret}",
    "fragment": "{scheme}{host}/{path}#{key}={secret}",
    "address in address": "{scheme}{host}/{path}?src=rtsp://{user}:{secret}@{host}/{path}",
    "pipeline": "rtspsrc location=rtsp://{user}:{secret}@{host}/{path} latency=0 ! sink",
    "property of pipeline": "rtspsrc location=rtsp://{host}/{path} user-pw={secret} ! sink",
}


def addresses(place, count):
    """Addresses with a random secret in a place."""
    rng = random.Random(place)
    for _ in range(count):
        secret = [rng.choice(_LETTERS) for _ in range(rng.randint(4, 10))]
        secret += [rng.choice(_ODD) for _ in range(rng.choice([0, 0, 1, 2, 4]))]
        rng.shuffle(secret)
        text = "".join(secret)
        yield _PLACES[place].format(
            any=rng.choice(_SCHEMES + _BARE),
            scheme=rng.choice(_SCHEMES),
            user=rng.choice(_USERS),
            host=rng.choice(_HOSTS + _HOSTS_6),
            path=rng.choice(_PATHS),
            key=rng.choice(_KEYS),
            secret=quote(text, safe="") if rng.random() < 0.3 else text,
        )


@pytest.mark.parametrize("place", _PLACES)
def test_no_letter_of_a_random_secret_is_shown(place):
    for address in addresses(place, 500):
        assert set(address) & set(_LETTERS)
        shown = redacted(address)
        assert not set(shown) & set(_LETTERS), address
        assert redacted(shown) == shown


@pytest.mark.parametrize("place", [name for name in _PLACES if "pipeline" not in name])
def test_no_letter_of_a_random_secret_is_shown_in_a_message(place):
    for address in addresses(place, 300):
        if "'" in address or not address.startswith(_SCHEMES):
            continue
        shown = redacted_in(f"[errno 5] input/output: '{address}'; again")
        assert not set(shown) & set(_LETTERS), address


def test_random_passwords_reach_the_host_they_are_meant_for():
    odd = 0
    for address in addresses("password", 3000):
        if not address.startswith(("rtsp://", "http://")) or "@192.0.2.7" not in address:
            continue
        _, _, rest = with_encoded_password(address).partition("://")
        meant, _, behind = address.partition("://")[2].rpartition("@")
        authority = re.match("[^/?#]*", rest)[0]
        assert authority.rpartition("@")[2] == behind.partition("/")[0]
        if "%" not in meant and rest != address.partition("://")[2]:
            assert unquote(authority.rpartition("@")[0]) == meant
            odd += 1
    assert odd > 5


@pytest.mark.parametrize(
    ("address", "encoded"),
    [
        ("rtsp://admin:20#24@10.0.0.2/live", "rtsp://admin:20%2324@10.0.0.2/live"),
        ("http://u:a?b/c@10.0.0.2/x?y=1", "http://u:a%3Fb%2Fc@10.0.0.2/x?y=1"),
        ("rtsp://u:p%40 ß/@host/x", "rtsp://u:p%40%20%C3%9F%2F@host/x"),
        # These are right as they are, or nobody knows.
        ("http://u:p@h/x", "http://u:p@h/x"),
        ("http://h/x?mail=a@b", "http://h/x?mail=a@b"),
        ("http://10.0.0.1/x?src=rtsp://u:p@10.0.0.2", "http://10.0.0.1/x?src=rtsp://u:p@10.0.0.2"),
    ],
)
def test_a_password_is_encoded_if_it_would_end_early(address, encoded):
    assert with_encoded_password(address) == encoded
