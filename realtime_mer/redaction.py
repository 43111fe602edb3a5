"""Redaction: addresses, names and messages as they may be shown, logged and put into messages.

What an address may show is listed here, and all else in it is hidden: a list of what is secret
would never be complete.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from dataclasses import dataclass
from urllib.parse import quote, unquote

HIDDEN = "***"
"""Stands for what is not shown."""

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
"""The beginning of an address as it should be."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Longer texts are cut in the middle. No file system has names of more than 255 bytes, and nobody
# reads paths of more than 1,000 characters. Chosen by judgement.
_LONGEST = 1000
# No browser and no camera takes longer addresses.
_LONGEST_ADDRESS = 4096
# They look like nothing, though Unicode counts them as printable.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")

_KNOWN_SCHEMES = "https?|rtsp[stu]?|rtmp[est]{0,2}|rtp|srtp?|udp|tcp|tls|ftps?|sftp|mms[ht]?|wss?"
# A scheme is shown if it has only a few letters: enough to see that it is mistyped.
_SHORT_SCHEME = re.compile(r"[A-Za-z]{2,6}")
_ADDRESSES = (
    # As it should be, or with backslashes: anywhere, also in a pipeline. One letter is a drive.
    re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,30}|\*{3})(?P<mark>:[/\\]{2,})"),
    # Mistyped: a known scheme with other marks, or another one with one slash.
    re.compile(rf"[^\w@]*(?P<scheme>{_KNOWN_SCHEMES})(?P<mark>\s*[:;]\s*[/\\]*|[/\\]{{2,}})", re.I),
    re.compile(r"[^\w@]*(?P<scheme>[A-Za-z]{2,10}|\*{3})(?P<mark>:[/\\])"),
)
# Nothing else begins like this but a path of this computer.
_PATH = re.compile(r"/(?!/)|\\(?!.*:.*@)|\.{1,2}[/\\]|~|[a-z]:[/\\](?!.*@)|file:///", re.I | re.S)
# Objects on shared storage: their names are paths, and keys to them stand elsewhere.
_STORED = re.compile(r"(?:s3|gs|gcs|az|abfs|hdfs)://[^@?#\\]*", re.IGNORECASE)
_PIPELINE = re.compile(r"\s*\w+src\b.*=.*\s!\s", re.DOTALL)
_AUTHORITY = re.compile(r"[^/\\?#]*")
_HOST = re.compile(r"(?P<host>\[[0-9a-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::(?P<port>[^:]*))?", re.I)
_PORT = re.compile("[0-9]{1,5}")
# No user has such a name, so these are hosts wherever they stand.
_HOST_ENDINGS = (".local", ".lan", ".home.arpa", ".internal", ".example", ".com", ".net", ".org")

# Words of cameras' paths and queries. Chosen from the manuals of common cameras and servers.
_WORDS = _words(
    "api archive audio av axis bin camera cameras cam cams cgi ch channel channels clip clips "
    "color colour demo device encoder feed file files flv format frame frames front gateway h hd "
    "hls html http image images img in index input isapi jpeg jpg latest left live low main media "
    "mjpeg mjpg mobile monitor mono motion movie mp mpeg mpg multicast nvr onvif out output "
    "playback play player playlist preview primary profile proxy raw real realmonitor record "
    "recording recordings right rtsp sd sdp secondary sensor server snapshot still stream "
    "streaming streams sub substream subtype tcp test track trackid ts tv udp unicast v vga video "
    "videomain videos videostream videosub view web webcam whep ws "
    # Those of the landmark model's address.
    "face float landmarker mediapipe models task"
)
# These count as words and not as numbers.
_CODECS = re.compile("h26[45]|mp[34]|m4[av]|m3u8?|mpeg[24]|av1|vp[89]|4k", re.IGNORECASE)
_TOKENS = re.compile("[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_NAME = re.compile("[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_MEDIA_ENDING = re.compile(
    r"\.(?:3gp|avi|cgi|flv|jpe?g|m2ts|m3u8?|m4v|mjpe?g|mkv|mov|mp4|mpd|mpe?g|ogv|png|sdp|ts|webm|"
    "wmv)",
    re.IGNORECASE,
)
# Digits that a name may have: 101 is a channel, 1234 could be a PIN.
_MAX_DIGITS = 3
_HARMLESS_KEYS = _words(
    "audio cam camera channel ch clock codec compression duration format fps height mode profile "
    "quality rate res resolution size stream streamtype subtype transport transportmode type "
    "unicast video width"
)
_HARMLESS_VALUE = re.compile("[0-9]{1,4}(?:[x*.][0-9]{1,4})?|on|off|yes|no|true|false")
# Their names may be shown, their values never.
_SECRET_KEYS = _words(
    "access_token api_key apikey auth authorization credential credentials jwt key login "
    "loginpas loginuse p pass passwd password pswd pw pwd secret session sid sig signature token u "
    "user username usr"
)
# The scheme is mistyped beyond recognition, but secrets follow.
_NO_SCHEME = re.compile(
    rf"[^/\\]+[/\\]{{2}}.*(?<![a-z])(?:{'|'.join(sorted(_SECRET_KEYS))})=", re.I | re.S
)
# What in a path belongs to no name: from there on it may hold parameters, and those may hold "/".
_PARAMETERS = re.compile(r"[=@:&;%\s]")


def printable(text: str, longest: int = _LONGEST) -> str:
    """The text on one line, without what a terminal would execute or a reader not see.

    Control characters, marks of writing direction and characters of no width are escaped, and a
    long text is cut in the middle.

    Example:
        >>> printable("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    shown = "".join(
        c
        if c.isprintable() and c not in _INVISIBLE
        else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text.encode("utf-8", "backslashreplace").decode()
    )
    if len(shown) > longest:
        head = (longest - 1) // 2
        shown = f"{shown[:head]}…{shown[head + 1 - longest :]}"
    return shown


def redacted(source: str) -> str:
    """The source as it may be shown, logged and put into messages.

    An address, also a mistyped one, shows its scheme, host and port, and of the rest what is known
    to be harmless. Where it is not clear what is the host, it is hidden, too. A path of this
    computer is shown as it is.

    Example:
        >>> redacted("rtsp://admin:1234@10.0.0.2/live?token=abc&profile=1")
        'rtsp://***@10.0.0.2/live?token=***&profile=1'
        >>> redacted("http://10.0.0.2/user=admin_password=1234_channel=1.sdp")
        'http://10.0.0.2/***'
    """
    # At once, for the marks of what is escaped must not be taken for those of an address later.
    source = printable(source.strip() if "://" in source else source, sys.maxsize)
    if _PATH.match(source) or _STORED.fullmatch(source):
        return printable(source)
    if len(source) > _LONGEST_ADDRESS:
        return HIDDEN
    for pattern in _ADDRESSES:
        # Only the first may stand anywhere.
        match = pattern.search(source) if pattern is _ADDRESSES[0] else pattern.match(source)
        if match:
            shown = match["scheme"] if _SHORT_SCHEME.fullmatch(match["scheme"]) else HIDDEN
            if source[: match.start("scheme")].strip() and shown != HIDDEN:
                shown = HIDDEN + shown
            return printable(shown + match["mark"] + _rest(source[match.end() :]))
    if _PIPELINE.match(source) or _NO_SCHEME.match(source):
        return HIDDEN
    if 0 <= source.find(":") < source.rfind("@") or _has_host(source):
        slashes = re.match(r"[/\\]*", source)
        assert slashes is not None
        return printable(slashes[0] + _rest(source[slashes.end() :]))
    return printable(source)


def with_encoded_password(url: str) -> str:
    """The address with a password that ends where its author meant it to end.

    Unless they are encoded, "/", "?" and "#" would end it early, and what follows would be taken
    for the host or its path: a name server would be asked for a part of the password.

    Example:
        >>> with_encoded_password("rtsp://admin:20#24@10.0.0.2/live")
        'rtsp://admin:20%2324@10.0.0.2/live'
    """
    scheme, mark, rest = url.partition("://")
    split = _split(rest)
    if split is None or split.userinfo is None or not split.is_odd:
        return url
    user, colon, password = (
        quote(part, "%", errors="surrogateescape") for part in split.userinfo.partition(":")
    )
    return f"{scheme}{mark}{user}{unquote(colon)}{password}@{split.host}{split.tail}"


def redacted_in(message: str) -> str:
    """A message on one line, in which every address is redacted.

    Where an address ends is a guess if it has blanks: redact one that you know before you put it
    into a message.

    Example:
        >>> redacted_in("[Errno 5] failed: 'rtsp://admin:1234@10.0.0.2/live'")
        "[Errno 5] failed: 'rtsp://***@10.0.0.2/live'"
    """
    shown, at = [], 0
    while match := _IN_TEXT.search(message, at):
        end = _end_of_address(message, match.start(), match.end())
        shown += [message[at : match.start()], redacted(message[match.start() : end])]
        at = end
    return printable("".join([*shown, message[at:]]), 4 * _LONGEST)


_IN_TEXT = re.compile(
    rf"(?<![A-Za-z0-9+.-])(?:[A-Za-z][A-Za-z0-9+.-]{{1,30}}:[/\\]{{2,}}|(?:{_KNOWN_SCHEMES}):[/\\]"
    r"|[A-Za-z]{2,10}:[/\\](?=[^\s]*@))",
    re.IGNORECASE,
)


def _end_of_address(text: str, start: int, behind_scheme: int) -> int:
    """Where an address in a text ends, at the latest: a password may contain blanks."""
    quote_mark = text[start - 1 : start]
    if quote_mark in ("'", '"', "`") and (closing := text.find(quote_mark, behind_scheme)) >= 0:
        end = max(closing, _end_of_word(text, behind_scheme))
    else:
        end = _end_of_word(text, behind_scheme)
    following = _IN_TEXT.search(text, end)
    last_at = text.rfind("@", end, following.start() if following else len(text))
    if last_at >= 0 and HIDDEN not in text[behind_scheme:end]:
        end = _end_of_word(text, last_at)
    # Quotes and punctuation belong to the message.
    return behind_scheme + len(text[behind_scheme:end].rstrip("'\"`.,:;)]}>"))


def _end_of_word(text: str, start: int) -> int:
    blank = re.compile(r"\s").search(text, start)
    return blank.start() if blank else len(text)


def _has_host(text: str) -> bool:
    """Whether a text is an address without a scheme: a host, its port, and more."""
    authority = _authority(text)
    host = _HOST.fullmatch(authority)
    if host is None or authority == text:
        return False
    return _is_surely_host(host["host"]) or bool(_PORT.fullmatch(host["port"] or ""))


def _is_surely_host(host: str) -> bool:
    return host.lower() == "localhost" or host.lower().endswith(_HOST_ENDINGS) or _is_ip(host)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Parts:
    """What follows the scheme of an address.

    Attributes:
        userinfo: User and password; None if there are none.
        host: Host and port.
        tail: Path, query and fragment.
        is_odd: The password holds what would end it.
    """

    userinfo: str | None
    host: str
    tail: str
    is_odd: bool = False


def _split(rest: str) -> _Parts | None:
    """Takes what follows the scheme apart; None where it is not clear which part is the host.

    If an "@" comes after the first "/", "?" or "#", either that is a part of the password, or the
    "@" is one of the path. Showing the wrong side would show a password.
    """
    authority = _authority(rest)
    userinfo, at, host = authority.rpartition("@")
    near = _Parts(userinfo if at else None, host, rest[len(authority) :])
    # A user's name may be an e-mail address, whose host is no host.
    is_sure = _is_ip(_host_of(host)) if at else _is_surely_host(_host_of(host))
    if "@" not in near.tail or is_sure:
        return near
    userinfo, _, behind = rest.rpartition("@")
    far = _authority(behind)
    is_password = (
        not at
        and ":" in host
        and not _is_host(host)
        and "@" not in userinfo
        and "=" not in userinfo
    )
    if is_password or _is_surely_host(_host_of(far)):
        return _Parts(userinfo, far, behind[len(far) :], is_odd=True)
    return None


def _authority(rest: str) -> str:
    match = _AUTHORITY.match(rest)
    assert match is not None
    return match[0]


def _rest(rest: str) -> str:
    """What follows the scheme, as it may be shown."""
    parts = _split(rest)
    if parts is None:
        return HIDDEN
    userinfo = "" if parts.userinfo is None else f"{HIDDEN}@"
    return userinfo + _shown_host(parts.host) + _tail(parts.tail)


def _host_of(host_and_port: str) -> str:
    match = _HOST.fullmatch(host_and_port)
    return match["host"] if match else ""


def _is_host(host_and_port: str) -> bool:
    match = _HOST.fullmatch(host_and_port)
    return match is not None and (match["port"] is None or bool(_PORT.fullmatch(match["port"])))


def _shown_host(host_and_port: str) -> str:
    if not host_and_port or _is_host(host_and_port):
        return host_and_port
    host = _host_of(host_and_port)
    return f"{host}:{HIDDEN}" if host and _is_surely_host(host) else HIDDEN


def _tail(tail: str) -> str:
    """Path, query and fragment, as they may be shown."""
    match = re.match("[^?#]*", tail)
    assert match is not None
    path, query = match[0], tail[match.end() :]
    shown: list[str] = []
    pieces = re.split(r"([/\\])", path)
    for number, piece in enumerate(pieces):
        if number % 2:
            shown.append(piece)
        elif _PARAMETERS.search(piece):
            return "".join([*shown, HIDDEN])
        elif _is_harmless(piece) or piece == HIDDEN:
            shown.append(piece)
        else:
            ending = _MEDIA_ENDING.search(piece) if number == len(pieces) - 1 else None
            has_ending = ending is not None and ending.end() == len(piece)
            shown.append(HIDDEN + (ending[0] if ending and has_ending else ""))
    if not query:
        return "".join(shown)
    if query[0] == "#":
        return "".join([*shown, "#", HIDDEN])
    parameters, fragment, _ = query[1:].partition("#")
    return "".join([*shown, "?", _parameters(parameters), f"#{HIDDEN}" if fragment else ""])


def _parameters(query: str) -> str:
    """The query, in which only known parameters with harmless values are shown."""
    shown: list[str] = []
    separator = ""
    for part in re.split("([&;])", query):
        if part in ("&", ";"):
            separator = part
            continue
        key, _, value = part.partition("=")
        if key.lower() in _HARMLESS_KEYS and (
            _HARMLESS_VALUE.fullmatch(value) or _is_harmless(value)
        ):
            text = part
        else:
            text = f"{key}={HIDDEN}" if key.lower() in _SECRET_KEYS else HIDDEN
        # A hidden part may have been cut from a value: how many there were tells nothing.
        if text != HIDDEN or not shown or shown[-1] != HIDDEN:
            shown += [separator, text] if shown else [text]
    return "".join(shown)


def _is_harmless(piece: str) -> bool:
    """Whether a piece of a path, or a value, is of known words and a small number."""
    if len(piece) <= 2:
        return piece.isalnum() or not piece.strip(".")
    if not _NAME.fullmatch(piece):
        return False
    tokens = _TOKENS.findall(_CODECS.sub(" ", piece))
    numbers = [token for token in tokens if token.isdigit()]
    if sum(map(len, numbers)) > _MAX_DIGITS:
        return False
    return all(token.isdigit() or token.lower() in _WORDS for token in tokens)
