"""Hostile inputs for each target, as strategies of Hypothesis."""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from hypothesis import strategies as st

from tests.fuzz import seeds
from tests.fuzz.edits import KINDS, Edit, edited
from tests.fuzz.targets import SECRET

# Numbers at which programs break.
_NUMBERS = (0, 1, 2, 4, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000)
# Most of what matters stands at the beginning or the end.
_position = st.one_of(
    st.integers(0, 64), st.integers(0, 600), st.integers(0, 1 << 20), st.integers(-200, -1)
)


def edits(tokens: tuple[bytes, ...] = (), most: int = 6) -> st.SearchStrategy[list[Edit]]:
    """Up to so many edits; some insert one of the tokens."""
    number = st.one_of(st.sampled_from(_NUMBERS), st.integers(0, 0xFFFFFFFF))
    one = st.tuples(st.sampled_from(KINDS), _position, number)
    inserted = st.one_of(st.binary(max_size=8), *[st.just(t) for t in tokens])
    other = st.tuples(st.just("insert"), _position, inserted)
    return st.lists(st.one_of(one, one, other), max_size=most)


def bred(
    *parents: bytes, tokens: tuple[bytes, ...] = (), most: int = 6
) -> st.SearchStrategy[bytes]:
    """Edited descendants of valid bytes; sometimes two are put together, sometimes noise."""
    parent = st.sampled_from([p for p in parents if p] or [b""])
    child = st.builds(edited, parent, edits(tokens, most))
    joined = st.builds(lambda a, b, k: a[: k % (len(a) + 1)] + b, child, child, st.integers(0, 999))
    return st.one_of(child, child, child, joined, st.binary(max_size=64))


def _video() -> st.SearchStrategy[Any]:
    def of(name: str) -> st.SearchStrategy[Any]:
        suffix = st.one_of(st.just(name), st.just(name), st.sampled_from(seeds.VIDEO_NAMES))
        return st.tuples(suffix, bred(seeds.video(name)))

    return st.sampled_from([n for n in seeds.VIDEO_NAMES if seeds.video(n)]).flatmap(of)


def _picture() -> st.SearchStrategy[Any]:
    def of(name: str) -> st.SearchStrategy[Any]:
        return st.tuples(st.just(name), bred(seeds.picture(name)))

    return st.sampled_from(seeds.PICTURE_NAMES).flatmap(of)


# On systems whose file names are text, names are text.
_name_piece = st.one_of(
    st.sampled_from([b"img", b"0", b"1", b"007", b"10", b"0.033", b"-1", b"1e9", b"_", b" ", b"."]),
    st.sampled_from([b"9" * 30, b"9" * 100, b"\xc3\xa9", "٣".encode(), "²".encode(), "ſ".encode()]),
    st.sampled_from([b"\xe9", b"\xff", b"\n", b"\x1b[31m", b"%d", b"\\", b"'", b"(2)", b"t"]),
    st.integers(0, 9999).map(lambda n: str(n).encode()),
    st.binary(min_size=1, max_size=3),
)


def _cleaned(name: bytes) -> bytes:
    name = name.replace(b"/", b"").replace(b"\0", b"")[:200]
    if os.name == "nt":
        name = bytes(b for b in name if b >= 32 and b not in b'<>:"|?*\\')
    return b"x" if name in (b"", b".", b"..") else name


def _folder() -> st.SearchStrategy[Any]:
    stem = st.lists(_name_piece, min_size=1, max_size=3).map(b"".join)
    numbered = st.builds(
        lambda n: b"f%d" % n, st.one_of(st.integers(0, 50), st.integers(0, 10**40))
    )
    suffix = st.sampled_from([b".png", b".PNG", b".jpg", b".tif", b".webp", b".bmp", b".txt", b""])
    name = st.builds(lambda a, b: _cleaned(a) + b, st.one_of(stem, numbered), suffix)
    number = st.one_of(
        st.integers(0, 9), st.integers(0, 9), st.sampled_from([10**9, 10**28, 10**29, 10**99])
    )
    # Names that differ in one number alone: those tell the time.
    row = st.lists(st.tuples(number.map(lambda n: b"f%d.png" % n), st.just(0)), max_size=6)
    return st.one_of(st.lists(st.tuples(name, st.integers(-1, 0)), max_size=6), row)


_MJPEG_TOKENS = (
    *(b"--frame\r\n", b"\r\n\r\n", b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xff"),
    *(b"Content-Length: 99999999\r\n", b"Content-Length: 0\r\n", b"content-length:-1\r\n"),
)


def _mjpeg() -> st.SearchStrategy[Any]:
    body = bred(
        seeds.multipart(),
        seeds.multipart(count=1),
        seeds.jpeg() * 3,
        tokens=_MJPEG_TOKENS,
    )
    size = st.sampled_from([1, 2, 7, 64, 1000, 1 << 20])
    return st.builds(
        lambda data, n: [data[k : k + n] for k in range(0, len(data), n)], body, size
    ).filter(lambda pieces: len(pieces) < 4000)


def _http() -> st.SearchStrategy[Any]:
    multipart = b"multipart/x-mixed-replace; boundary=frame"
    mp4, ts, webm = seeds.video("a.mp4"), seeds.video("e.ts"), seeds.video("c.webm")
    chunk = seeds.multipart(count=2)
    redirect = b"HTTP/1.1 302 Found\r\nLocation: %s\r\n\r\n"
    parents = [
        seeds.answer(multipart, seeds.multipart()),
        seeds.answer(multipart.replace(b"frame", b'"frame"'), seeds.multipart()),
        seeds.answer(b"image/jpeg", seeds.jpeg()),
        seeds.answer(b"video/mp4", mp4, b"Content-Length: %d" % len(mp4)),
        seeds.answer(b"video/mp2t", ts),
        seeds.answer(b"video/webm", webm),
        seeds.answer(
            multipart, b"%x\r\n%s\r\n0\r\n\r\n" % (len(chunk), chunk), b"Transfer-Encoding: chunked"
        ),
        redirect % b"http://127.0.0.1:@PORT@/other",
        redirect % b"file:///etc/passwd",
        redirect % b"//127.0.0.1:@PORT@",
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="a", nonce="b", qop="auth"\r\n\r\n',
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="a"\r\n\r\n',
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/%d\r\n\r\n%s" % (len(mp4), mp4),
        b"HTTP/1.0 200\r\n\r\n" + seeds.multipart(),
    ]
    tokens = (
        *(b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"\r\n", b"\xff\xff"),
        *(b"Content-Range: bytes 5-1/99\r\n", b"Location: http://[::1\r\n", b"WWW-Authenticate: "),
        *(b"WWW-Authenticate: Digest\r\n", b"WWW-Authenticate: Digest a\r\n", b"HTTP/1.1 100\r\n"),
        *(b"Content-Encoding: gzip\r\n", b": x\r\n", b"x" * 70000),
    )
    return st.lists(bred(*parents, tokens=tokens, most=4), min_size=1, max_size=3)


_HLS_LINES = (
    *(b"#EXTM3U", b"#EXT-X-VERSION:3", b"#EXT-X-TARGETDURATION:1", b"#EXT-X-ENDLIST"),
    *(b"#EXTINF:0.2,", b"a.ts", b"b.mp4", b"missing.ts", b"../outside.ts", b"@OUTSIDE@"),
    *(b"file:@OUTSIDE@", b"file:///@OUTSIDE@", b"concat:a.ts|@OUTSIDE@", b"subfile,,:@OUTSIDE@"),
    *(b"crypto:@OUTSIDE@", b"cache:@OUTSIDE@", b"a.ts?x=1", b"http://127.0.0.1:@PORT@/a.ts"),
    *(b"data:,x", b"\\\\host\\x", b"live.m3u8", b"#EXT-X-MEDIA-SEQUENCE:4294967295"),
    *(b"#EXT-X-BYTERANGE:100@0", b"#EXT-X-BYTERANGE:-1@-1", b"#EXT-X-DISCONTINUITY"),
    *(b'#EXT-X-KEY:METHOD=AES-128,URI="@OUTSIDE@"', b'#EXT-X-MAP:URI="@OUTSIDE@"'),
    *(b"#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1x1", b"#EXT-X-PLAYLIST-TYPE:VOD"),
    *(b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="@OUTSIDE@"', b"#EXTINF:-1,"),
    *(b"#EXTINF:1e99,", b"#EXT-X-TARGETDURATION:999999999", b"#EXT-X-START:TIME-OFFSET=-9"),
)


def _playlist() -> st.SearchStrategy[Any]:
    whole = b"\n".join([*_HLS_LINES[:3], b"#EXTINF:0.2,", b"a.ts", b"#EXT-X-ENDLIST", b""])
    lines = st.lists(st.sampled_from(_HLS_LINES), max_size=8).map(
        # An end, for a list without one is asked for over and over.
        lambda given: b"\n".join([b"#EXTM3U", *_HLS_LINES[2:3], *given, b"#EXT-X-ENDLIST", b""])
    )
    ending = bred(whole, most=3).map(lambda data: data + b"\n#EXT-X-ENDLIST\n")
    pieces = st.fixed_dictionaries(
        {
            "a.ts": st.one_of(st.just(seeds.video("e.ts")), bred(seeds.video("e.ts"), most=3)),
            "b.mp4": st.just(seeds.video("a.mp4")),
        }
    )
    return st.tuples(st.booleans(), st.one_of(lines, ending), pieces)


_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: @HOST@\r\n\r\n",
    b"GET /style.css HTTP/1.1\r\nHost: @HOST@\r\nOrigin: http://@HOST@\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: @HOST@\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: @HOST@\r\nContent-Length: 3\r\n\r\nabc",
    b"HEAD /script.js HTTP/1.0\r\nHost: localhost\r\n\r\n",
    b"GET http://@HOST@/icon.svg HTTP/1.1\r\nHost: @HOST@\r\nExpect: 100-continue\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: @HOST@\r\n\r\n",
)
_REQUEST_TOKENS = (
    *(b"\xff", b"\xe9\x80", b"\0", b"\r\n", b"\r\n\r\n", b"%00", b"%ff", b"../", b"//", b"?", b"#"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n"),
    *(b"Host: evil\r\n", b"Host: [::1\r\n", b"Origin: null\r\n", b"Upgrade: websocket\r\n", b": "),
    *(b"Sec-WebSocket-Key: \xff\r\n", b"Sec-WebSocket-Version: 99\r\n", b"x" * 9000, b"HTTP/9.9"),
    *(b"Sec-WebSocket-Protocol: a,\xff\r\n", b"Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    *(b"Expect: 100-continue\r\n", b"Range: bytes=5-1\r\n", b"If-Modified-Since: x\r\n"),
    *(b"Cookie: =;=\xff\r\n", b"Connection: close\r\n", b"Sec-WebSocket-Key: a\r\n"),
)


def _websocket() -> st.SearchStrategy[Any]:
    mask = b"\1\2\3\4"
    shown = bytes(a ^ b for a, b in zip(b"shown", mask + mask, strict=False))
    frames = (
        b"\x81\x85" + mask + shown,
        b"\x88\x80" + mask,
        b"\x89\x80" + mask,
        b"\x82\x85" + mask + shown,
        b"\x01\x85" + mask + shown + b"\x80\x80" + mask,
        b"\x88\x82" + mask + bytes([0x03 ^ 1, 0xE8 ^ 2]),
        b"\x81\xff" + (1 << 40).to_bytes(8, "big") + mask,
        b"\xc1\x85" + mask + shown,
    )
    return st.lists(bred(*frames, most=3), max_size=5).map(b"".join)


_json_scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["\x1b[2J", "[bold]x[/]", "\u202e", "", "a\nb", "x" * 3000, "\ud800", 1e308]),
)
_json_value = st.recursive(
    _json_scalar,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=4,
)


def _card() -> st.SearchStrategy[Any]:
    def of(which: str) -> st.SearchStrategy[Any]:
        whole = json.loads(seeds.card(which))
        keys = [k for k in ("labels", "name", "threshold", "operating_curve") if k in whole]
        point = st.fixed_dictionaries({"threshold": _json_scalar, "false_per_minute": _json_scalar})
        value = st.one_of(_json_value, st.lists(point, max_size=3), st.lists(_json_scalar))
        changed = st.dictionaries(st.sampled_from(keys), value, min_size=1, max_size=2).map(
            lambda change: json.dumps({**whole, **change}).encode()
        )
        nested = st.sampled_from([b"[" * 200_000, b'{"a":' * 100_000, b"9" * 10_000, b"\xff\xfe{}"])
        text = st.one_of(changed, changed, bred(seeds.card(which)), nested)
        return st.tuples(st.just(which), text)

    return st.sampled_from(["classifier", "spotter"]).flatmap(of)


def _checkpoint() -> st.SearchStrategy[Any]:
    evil = b"cos\nsystem\n(S'true'\ntR."
    return bred(*map(seeds.checkpoint, seeds.CHECKPOINTS), evil, tokens=(evil, b"PK\3\4", b"\x80"))


_cell = st.one_of(
    st.sampled_from(["", "0", "1", "5", "10", "12.0", "-1", "nan", "inf", "1e400", "9" * 400]),
    st.sampled_from(["micro", "ME", "macro", "surprise", "x,y", '"', "\ufeff", "=1+1", "٣", "²"]),
    st.sampled_from(["casme2", "smic", "samm", "p0", "clip0", "../x", "\0", "a", "b_1", "01"]),
    st.text(max_size=4),
)


def _table(*columns: str) -> st.SearchStrategy[bytes]:
    header = st.one_of(
        st.just(list(columns)),
        st.just(list(columns)),
        st.permutations(columns).map(list),
        st.lists(st.one_of(st.sampled_from(columns), _cell), max_size=len(columns)),
    )
    rows = st.lists(st.lists(_cell, max_size=len(columns) + 1), max_size=4)
    text = st.builds(
        lambda head, body, mark, end: end.join(mark.join(row) for row in [head, *body]),
        *(header, rows, st.sampled_from([",", ",", ",", ";", "\t"])),
        st.sampled_from(["\n", "\r\n", "\r"]),
    )
    encoded = text.map(lambda t: t.encode("utf-8", "surrogatepass"))
    other = text.map(lambda t: b"\xff\xfe" + t.encode("utf-16-le", "surrogatepass"))
    long = st.sampled_from([b'"' + b"x" * 200_000, b"onset,apex,offset\n" + b'"' * 200_001])
    return st.one_of(encoded, encoded, encoded, other, encoded.flatmap(lambda d: bred(d)), long)


def _release() -> st.SearchStrategy[Any]:
    good = b"dataset,sub,filename_o,label\ncasme2,p0,clip0,1\nsmic,p1,clip0,0\n"
    index = st.one_of(_table("dataset", "sub", "filename_o", "label"), bred(good, most=3))
    flow = seeds.flow()
    return st.tuples(index, st.one_of(st.just(flow), bred(flow, seeds.picture("a.png"))))


def _data_set() -> st.SearchStrategy[Any]:
    table = _table("subject", "video", "onset", "apex", "offset", "type", "emotion")
    piece = st.sampled_from(["a", "s1", "_", "01", "1", "²", "٣", " ", "b", ".", "color", "\udce9"])
    stem = st.lists(piece, min_size=1, max_size=4).map("".join)
    name = st.builds(
        lambda parts, suffix: b"/".join(_cleaned(os.fsencode(p)) for p in parts) + suffix,
        st.lists(stem, min_size=1, max_size=2),
        st.sampled_from([b".mp4", b".AVI", b".png", b"1.jpg", b""]),
    )
    return st.tuples(table, st.lists(name, max_size=3))


_OPTIONS = (
    *("--headless", "--log", "--csv", "--output", "--stats", "--serve", "--record-events"),
    *("--sensitivity", "--faces", "--fps", "--camera-size", "--camera-fps", "--no-reconnect"),
    *("--providers", "--least-confidence", "--weights", "--spotter", "--landmarks", "--version"),
    *("--help", "--log-macros", "--", "-x", "--lo", "--log=", "--fps=1e999", "--faces=٣"),
)
_secret_address = st.sampled_from(
    [
        f"rtsp://user:{SECRET}@127.0.0.1/x",
        f"http://user:{SECRET}@127.0.0.1/x?token={SECRET}",
        f"htp://user:{SECRET}@127.0.0.1/",
        f"rtsp:/user:{SECRET}@127.0.0.1/",
    ]
)
_text = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "0", "-1", "5", "0x1", "nan", "inf", "1e999", "a.jsonl", "a.csv", "a.mp4"]
    ),
    st.sampled_from(["clip.mp4", "./clip.mp4", "no/x", ".", "..", "/", "\0", "a\nb", "\x1b]0;x\a"]),
    st.sampled_from(["\udce9.mp4", "\ud800", "[bold]", "640x480", "1x99999", "x" * 300, "%s", "~"]),
    st.sampled_from(["127.0.0.1:0", "[::1]:0", ":0", "999999", "localhost:http", "-", "/dev/null"]),
    st.sampled_from(["/dev/video99", "file:///etc/passwd", "con", "a/../b.csv", "/dev/full"]),
    _secret_address,
)


def _is_harmless(arguments: list[str]) -> bool:
    # Names outside of the folder could be written, ports be opened for others.
    return not any(
        a.startswith(("/", "~", "0.0.0.0", "::")) and not a.startswith("/dev/") for a in arguments
    ) and not any(".." in a for a in arguments)


def _command() -> st.SearchStrategy[Any]:
    pair = st.tuples(st.sampled_from(_OPTIONS), _text).map(list)
    one = st.one_of(
        pair, pair, _text.map(lambda t: [t]), st.sampled_from(_OPTIONS).map(lambda o: [o])
    )
    return (
        st.lists(one, max_size=4).map(lambda parts: [a for part in parts for a in part])
    ).filter(_is_harmless)


def _session() -> st.SearchStrategy[Any]:
    name = st.one_of(
        st.text(st.characters(exclude_characters="/\\\0"), min_size=1, max_size=6),
        st.sampled_from(["a", "\udce9", "a b", "é", "[b]", "%d", "-"]),
    ).filter(lambda n: n.strip(". ") == n and n.casefold() != "clip")
    option = st.one_of(
        name.map(lambda n: [f"--log={n}.jsonl"]),
        name.map(lambda n: [f"--csv={n}.csv"]),
        name.map(lambda n: [f"--stats={n}.json"]),
        name.map(lambda n: [f"--output={n}.mp4"]),
        name.map(lambda n: [f"--record-events={n}"]),
        st.sampled_from(["0.001", "1", "1000", "1e-300"]).map(lambda n: ["--fps", n]),
        st.sampled_from(["1e-300", "1", "1e300"]).map(lambda n: ["--sensitivity", n]),
        st.integers(1, 16).map(lambda n: ["--faces", str(n)]),
        st.just(["--serve", "0"]),
    )
    return st.lists(option, max_size=4).map(lambda parts: [a for part in parts for a in part])


def _redaction() -> st.SearchStrategy[Any]:
    scheme = st.sampled_from(
        ["http", "https", "rtsp", "rtsps", "RTSP", "rtmp", "srt", "htp", "rtspt", "ftp"]
    )
    separator = st.sampled_from(["://", "://", "://", ":/", ":", ":///", "//", ":\\\\"])
    user = st.sampled_from(["", "u", "admin", "a%40b", "a@b", "é", "u:x"])
    password = st.sampled_from(
        [
            SECRET,
            f"a@{SECRET}",
            f"a/{SECRET}",
            f"a?{SECRET}",
            f"a#{SECRET}",
            f"{SECRET}/b",
            f"%{SECRET}",
        ]
        + [f"{SECRET}@", f"{SECRET}#?", f"{SECRET}:554", f" {SECRET}"]
    )
    host = st.sampled_from(["h", "10.0.0.2", "[::1]", "h:554", "[fe80::1%25eth0]:80", "cam.local"])
    path = st.sampled_from(["", "/", "/live", "/live/1", "/a b", "/é", "/cam@2x"])
    key = st.sampled_from(
        ["token", "password", "pass", "pwd", "pswd", "pw", "p", "usr", "user", "key", "auth", "sig"]
        + ["access_token", "X-Amz-Signature", "PASSWORD", "p%61ss", "loginpas", "secret", "session"]
    )
    query = st.builds(
        lambda mark, k, middle: f"{mark}{k}={SECRET}{middle}",
        st.sampled_from(["?", "?a=1&", "?a=1;", "#", ";", "?;", "/", "/user=u&", "/user=u_"]),
        key,
        st.sampled_from(["", "&b=2", "#x", "_channel=1", "/x"]),
    )
    nested = st.builds(
        lambda mark, s, u, w: f"{mark}src={s}://{u}:{w}@10.0.0.1/x",
        st.sampled_from(["?", "?a=1&", "#", "/?"]),
        *(scheme, user, password),
    )
    with_user = st.builds(
        lambda s, sep, u, w, h, p: f"{s}{sep}{u}:{w}@{h}{p}",
        *(scheme, separator, user, password, host, path),
    )
    with_query = st.builds(
        lambda s, h, p, q: f"{s}://{h}{p}{q}",
        *(scheme, host, path, st.one_of(query, nested)),
    )
    other = st.one_of(
        st.text(max_size=12), st.sampled_from(["a\x1b[31mb.mp4", "\udcff", "x" * 999])
    )
    return st.one_of(
        st.tuples(with_user, st.just(True)),
        st.tuples(with_query, st.just(True)),
        st.tuples(other, st.just(False)),
    )


_side = st.sampled_from([0, 1, 2, 3, 5, 16, 33, 64, 97])
_shape = st.one_of(
    st.tuples(_side, _side, st.just(3)),
    st.tuples(_side, _side, st.just(3)),
    st.tuples(st.sampled_from([1, 40, 640]), st.sampled_from([1, 40, 480]), st.just(3)),
    st.lists(_side, max_size=4).map(tuple),
)
_layouts = ("plain", "reversed", "fortran", "skipping", "frozen")
_image: st.SearchStrategy[Any] = st.one_of(
    st.tuples(_shape, st.just("uint8"), st.sampled_from(_layouts), st.integers(0, 99)),
    st.tuples(_shape, st.just("uint8"), st.sampled_from(_layouts), st.integers(0, 99)),
    st.tuples(
        _shape,
        st.sampled_from(["int8", "uint16", "float32", "float64", "bool", "complex64", "object"]),
        *(st.just("plain"), st.integers(0, 99)),
    ),
    st.tuples(
        st.sampled_from([(9000, 9000, 3), (30000, 30000, 3), (1, 60000, 3), (60000, 2, 3)]),
        *(st.just("uint8"), st.just("broadcast"), st.integers(0, 255)),
    ),
    st.sampled_from([None, b"abc", "abc", 5, [], [[[1, 2, 3]]], {}]),
)
# Of a time, its text: what no literal can say can still be kept in a file.
_time = st.one_of(
    st.sampled_from(["0", "0", "0.04", "0.08", "1", "1", "2", "-1", "nan", "inf", "-inf", "1e300"]),
    st.floats(0, 10).map(str),
    st.sampled_from(["1e-320", "1e15", "-0.0"]),
)


# Most are right, for else nothing gets far.
_right = st.tuples(
    st.just((48, 64, 3)), st.just("uint8"), st.sampled_from(_layouts[:3]), st.just(1)
)
_picture_or_not = st.one_of(_right, _right, _right, _right, _image)


def _push() -> st.SearchStrategy[Any]:
    rising = st.lists(st.floats(0, 5), min_size=1, max_size=4, unique=True).flatmap(
        lambda times: st.tuples(
            *(st.tuples(_picture_or_not, st.just(str(t))) for t in sorted(times))
        ).map(list)
    )
    odd = st.lists(st.tuples(_picture_or_not, _time), min_size=1, max_size=4)
    return st.one_of(rising, odd)


def _recognizer() -> st.SearchStrategy[Any]:
    grab = st.tuples(
        _picture_or_not, st.one_of(st.none(), _time), st.sampled_from(["0", "5", "-5", "0.1"])
    )
    return st.tuples(st.booleans(), st.lists(grab, max_size=5))


def _log() -> st.SearchStrategy[Any]:
    text = st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["=1+1", "@x", "-1", "+x", "\t=x", "a\nb", "a\r", '"', "\ud800", "\0", ","]
        ),
        st.sampled_from(["\x1b[31m", "\u2028", "\x85", "\ufeff", "é", "'=1", " =1"]),
    )
    number = st.one_of(
        st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1.0, 1e-9, 1e308])
    )
    return st.fixed_dictionaries(
        {
            "texts": st.lists(text, min_size=1, max_size=5),
            "numbers": st.lists(number, min_size=1, max_size=9),
            "labels": st.lists(text.filter(bool), min_size=1, max_size=4),
            "count": st.integers(0, 3),
        }
    )


@functools.cache
def inputs() -> dict[str, st.SearchStrategy[Any]]:
    """A strategy for each target."""
    return {
        "video": _video(),
        "picture": _picture(),
        "folder": _folder(),
        "mjpeg": _mjpeg(),
        "http": _http(),
        "playlist": _playlist(),
        "page": bred(*_REQUEST, tokens=_REQUEST_TOKENS, most=4),
        "websocket": _websocket(),
        "card": _card(),
        "network": st.tuples(st.sampled_from(["classifier", "spotter"]), edits(most=4)),
        "landmarks": st.binary(max_size=64),
        "checkpoint": _checkpoint(),
        "truth": _table("onset", "apex", "offset", "label"),
        "data_set": _data_set(),
        "release": _release(),
        "command": _command(),
        "session": _session(),
        "redaction": _redaction(),
        "push": _push(),
        "recognizer": _recognizer(),
        "log": _log(),
    }
