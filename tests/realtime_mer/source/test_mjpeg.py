"""Motion JPEG as cameras send it: whatever stands between the pictures, each picture comes."""

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source.mjpeg import JPEGDecoder, JPEGSplitter, looks_like_mjpeg


def jpeg(value, thumbnail=b"", **parameters) -> bytes:
    noise = np.random.default_rng(value).integers(0, 9, (48, 64, 3), np.uint8)
    flags = [item for pair in parameters.items() for item in (getattr(cv2, pair[0]), pair[1])]
    data = cv2.imencode(".jpg", noise + np.uint8(value), flags)[1].tobytes()
    if thumbnail:
        # As cameras put it into the first segment.
        segment = b"Exif\0\0" + thumbnail
        data = data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]
    return data


PICTURES = [jpeg(v) for v in (30, 60, 90)]


def part(picture, head=b"Content-Type: image/jpeg\r\n", length=True, boundary=b"--frame\r\n"):
    if length:
        head += b"Content-Length: %d\r\n" % len(picture)
    return boundary + head + b"\r\n" + picture + b"\r\n"


def split(data: bytes, piece=1000) -> list[bytes]:
    pieces = iter([data[k : k + piece] for k in range(0, len(data), piece)])
    splitter = JPEGSplitter(lambda: next(pieces, b""))
    return list(iter(splitter, None))


@pytest.mark.parametrize(
    "data",
    [
        b"".join(part(p) for p in PICTURES),
        b"".join(part(p, b"Content-Type: image/jpg\r\n") for p in PICTURES),
        b"".join(part(p, b"") for p in PICTURES),
        b"".join(part(p, b"", length=False) for p in PICTURES),
        b"".join(part(p, boundary=b"--another\n", length=False) for p in PICTURES),
        part(PICTURES[0], boundary=b"") + b"".join(part(p) for p in PICTURES[1:]),
        b"".join(PICTURES),
        b"".join(part(p, b"content-length:%d\n" % len(p), length=False) for p in PICTURES),
        b"".join(part(p, b"Content-Length: 999999999\r\n", length=False) for p in PICTURES),
    ],
    ids=[
        "usual", "image/jpg", "no type", "no header", "other boundary and no length",
        "no first boundary", "nothing between", "small letters", "length of nonsense",
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_pictures_come_whole(data, piece):
    assert [p[: len(q)] for p, q in zip(split(data, piece), PICTURES, strict=True)] == PICTURES


@pytest.mark.parametrize("length", [True, False])
def test_picture_within_a_picture_is_part_of_it(length):
    pictures = [jpeg(30, thumbnail=jpeg(200)), jpeg(60, IMWRITE_JPEG_PROGRESSIVE=1)]
    restarts = jpeg(90, IMWRITE_JPEG_RST_INTERVAL=1)
    data = b"".join(part(p, length=length) for p in (*pictures, restarts))
    assert split(data) == [*pictures, restarts]


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize(
    "damaged", [b"\xff\xd8" + bytes(300), PICTURES[1][:400], b"\xff\xd8\xff\xd9", b""]
)
def test_damaged_part_costs_no_other_picture(length, damaged):
    data = part(PICTURES[0], length=length) + part(damaged, length=length)
    data += b"".join(part(p, length=length) for p in PICTURES)
    decode = JPEGDecoder("camera")
    levels = [round(float(i.mean())) for d in split(data) if (i := decode(d)) is not None]
    # A picture that was cut off may show its upper part.
    assert [levels[0], *levels[-3:]] == [34, 34, 64, 94]
    assert len(levels) <= 5


@pytest.mark.parametrize("error", [-200, 60])
def test_wrong_length_costs_no_picture(error):
    data = b"".join(part(p, b"Content-Length: %d\r\n" % (len(p) + error), False) for p in PICTURES)
    assert [p[: len(q)] for p, q in zip(split(data), PICTURES, strict=True)] == PICTURES


def test_picture_that_breaks_off_is_left_out_once_whole_ones_came():
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    half = whole[: len(whole) // 2]
    decode = JPEGDecoder("camera")
    # Of a sender that never keeps the rules, pictures are taken as they are.
    assert decode(half) is not None
    assert decode(whole) is not None
    assert decode(half) is None
    assert decode(whole) is not None


def test_sender_without_pictures_takes_no_memory():
    splitter = JPEGSplitter(iter([bytes(1 << 20)] * 200 + [b""]).__next__)
    assert splitter() is None
    assert len(splitter._data) <= 2 << 20


def test_pictures_look_like_those_of_a_file(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg(120))
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert np.array_equal(JPEGDecoder("camera")(jpeg(120)), video.read()[1])


def test_picture_that_is_too_large_is_refused():
    data = cv2.imencode(".jpg", np.zeros((16, 8208, 3), np.uint8))[1].tobytes()
    with pytest.raises(InputError, match="camera has 8208 x 16 pixels"):
        JPEGDecoder("camera")(data)


@pytest.mark.parametrize(
    ("content_type", "data", "is_mjpeg"),
    [
        ("multipart/x-mixed-replace; boundary=frame", b"", True),
        ('multipart/x-mixed-replace;boundary="frame"', b"--frame", True),
        ("multipart/x-mixed-replace", b"", True),
        ("", b"--frame\r\nContent-Type: image/jpg\r\n\r\n", True),
        ("text/html", b"content-type: image/jpeg\n\n", True),
        ("video/mp4", b"\0\0\0\x20ftypisom", False),
        ("text/html", b"<html>", False),
    ],
)
def test_motion_jpeg_is_recognised(content_type, data, is_mjpeg):
    assert looks_like_mjpeg(content_type, data) is is_mjpeg
