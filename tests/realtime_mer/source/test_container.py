"""Videos as they occur: every codec, odd times, several tracks, turned and damaged pictures."""

import os
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture
from tests.realtime_mer.source.sources import level
from tests.realtime_mer.source.videos import HEIGHT, WIDTH, corners, encode, levels, quadrants


def read(path, **kwargs):
    """Frames and notes of a file."""
    with Capture(path, **kwargs) as capture:
        return list(capture), capture.notes


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "options"),
    [
        ("h264.mp4", "libx264", "yuv420p", {}),
        ("av1.mp4", "libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "lp=1"}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime"}),
        ("ten_bits.mkv", "libx264", "yuv420p10le", {}),
        ("hevc_ten_bits.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
        ("prores.mov", "prores_ks", "yuv422p10le", {}),
        ("lossless.mkv", "ffv1", "bgr0", {}),
        ("mjpeg.avi", "mjpeg", "yuvj420p", {}),
        ("interlaced.mp4", "libx264", "yuv420p", {"x264-params": "tff=1"}),
        ("interlaced.mpg", "mpeg2video", "yuv420p", {"flags": "+ildct+ilme", "b": "2M"}),
    ],
)
def test_pictures_and_times_of_any_codec_arrive(tmp_path, name, codec, pixel_format, options):
    policy_of = getattr(os, "sched_getscheduler", lambda pid: None)  # Linux has it
    policy = policy_of(0)
    path = encode(
        tmp_path / name, levels(), codec, pixel_format=pixel_format, options=options, fps=25
    )
    frames, notes = read(path)
    # No codec may leave the tests with another priority: they would keep the machine to themselves.
    assert policy_of(0) == policy
    assert notes == ()
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(20)], abs=2e-3)
    # Lossy at this size.
    assert [level(f) for f in frames] == pytest.approx(levels(), abs=6)


def test_interlaced_pictures_are_not_black(tmp_path):
    path = encode(tmp_path / "i.mp4", [quadrants()] * 3, options={"x264-params": "tff=1"})
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    frames, _ = read(path)
    assert [corners(f.image) for f in frames] == [pytest.approx([40, 90, 140, 190], abs=8)] * 3


def test_colours_are_those_of_opencv(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    picture = cv2.resize(noise, (61, 47))  # odd sides: no fast path
    path = encode(
        tmp_path / "c.avi", [picture] * 2, "mjpeg", pixel_format="yuvj420p", size=(61, 47)
    )
    frames, _ = read(path)
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    for frame in frames:
        assert np.array_equal(frame.image, video.read()[1])


@pytest.mark.parametrize("fps", [50, 120])
def test_bare_h264_is_timed_by_the_rate_in_it(tmp_path, fps):
    path = encode(tmp_path / "bare.h264", levels(), file_format="h264", fps=fps)
    frames, notes = read(path)
    assert [f.time_s for f in frames] == pytest.approx([k / fps for k in range(20)])
    assert notes == ()


def test_bare_stream_without_a_rate_is_timed_by_an_assumption_that_is_said(tmp_path):
    path = encode(
        tmp_path / "bare.mjpeg", levels(), "mjpeg", file_format="mjpeg", pixel_format="yuvj420p"
    )
    frames, (note,) = read(path)
    assert [f.time_s for f in frames] == pytest.approx([k / 30 for k in range(20)])
    assert "30 fps is assumed" in note
    frames, notes = read(path, fps=100)
    assert [f.time_s for f in frames] == pytest.approx([k / 100 for k in range(20)])
    assert notes == ()


def test_repeated_times_do_not_shift_those_after_them(tmp_path):
    times_ms = [40 * (k - (k % 10 == 9)) for k in range(40)]
    path = encode(tmp_path / "r.mkv", [100] * 40, times_ms=times_ms)
    frames, _ = read(path)
    times = [f.time_s for f in frames]
    assert times == pytest.approx([k / 25 for k in range(40)], abs=1e-3)


def test_variable_rate_and_a_jump_of_the_times_are_kept(tmp_path):
    times_ms = [0, 40, 100, 120, 200, 10_800_200, 10_800_240]
    path = encode(tmp_path / "v.mkv", [100] * 7, times_ms=times_ms)
    frames, _ = read(path)
    assert [f.time_s for f in frames] == pytest.approx([t / 1000 for t in times_ms])


def test_first_frame_is_the_zero_of_a_video_that_begins_late(tmp_path):
    path = encode(tmp_path / "late.mkv", levels(5), times_ms=[7000 + 40 * k for k in range(5)])
    frames, _ = read(path)
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(5)])


@pytest.mark.parametrize(
    ("degrees", "mirrored", "upright"),
    # Counterclockwise; a mirrored one is mirrored left to right before it is turned.
    [
        (0, False, [40, 90, 140, 190]),
        (90, False, [90, 190, 40, 140]),
        (180, False, [190, 140, 90, 40]),
        (-90, False, [140, 40, 190, 90]),
        (0, True, [90, 40, 190, 140]),
    ],
)
def test_turned_video_is_shown_upright(tmp_path, degrees, mirrored, upright):
    path = encode(
        tmp_path / "phone.mp4",
        [quadrants()] * 2,
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored),
    )
    frames, _ = read(path)
    assert corners(frames[1].image) == pytest.approx(upright, abs=8)
    is_on_its_side = abs(degrees) == 90
    assert frames[0].image.shape[:2] == ((WIDTH, HEIGHT) if is_on_its_side else (HEIGHT, WIDTH))
    assert frames[0].image.flags.c_contiguous


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(4, 3), (85, HEIGHT)),
        (Fraction(1, 2), (WIDTH, 2 * HEIGHT)),
        (Fraction(50), (WIDTH, HEIGHT)),  # no such pixels
    ],
)
def test_pixels_become_square(tmp_path, aspect, size):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = aspect

    frames, _ = read(encode(tmp_path / "dv.mp4", [quadrants()], prepare=prepare))
    assert (frames[0].image.shape[1], frames[0].image.shape[0]) == size
    assert corners(frames[0].image) == pytest.approx([40, 90, 140, 190], abs=8)


def test_change_of_the_size_is_scaled_back(tmp_path):
    for size in ((64, 48), (32, 24)):
        encode(tmp_path / f"{size[0]}.ts", levels(5), file_format="mpegts", size=size)
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "64.ts").read_bytes() + (tmp_path / "32.ts").read_bytes())
    frames, (note,) = read(path)
    assert {f.image.shape for f in frames} == {(48, 64, 3)}
    assert [level(f) for f in frames] == pytest.approx(levels(5) * 2, abs=6)
    assert np.diff([f.time_s for f in frames]).min() > 0
    assert "64 x 48 to 32 x 24" in note


def test_sound_before_the_video_is_left_out(tmp_path):
    path = encode(tmp_path / "a.mkv", levels(), audio="aac")
    with av.open(str(path)) as container:
        assert container.streams[0].type == "audio"
    frames, notes = read(path)
    assert [level(f) for f in frames] == pytest.approx(levels(), abs=6)
    assert notes == ()


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        tone.sample_rate = 8000
        for packet in [*stream.encode(tone), *stream.encode()]:
            output.mux(packet)
    with pytest.raises(InputError, match=r"sound\.wav has no video in it"):
        read(path)


def jpeg(value, size=(WIDTH, HEIGHT)) -> bytes:
    return cv2.imencode(".jpg", np.full((size[1], size[0], 3), value, np.uint8))[1].tobytes()


def test_cover_art_is_no_video(tmp_path):
    cover = b"\0image/jpeg\0\3\0" + jpeg(100)
    apic = b"APIC" + struct.pack(">I", len(cover)) + b"\0\0" + cover
    size = bytes(len(apic) >> shift & 0x7F for shift in (21, 14, 7, 0))
    silence = b"\xff\xfb\x90\xc4" + bytes(413)  # 128 kbit/s, 44.1 kHz
    path = tmp_path / "song.mp3"
    path.write_bytes(b"ID3\3\0\0" + size + apic + 50 * silence)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(InputError, match=r"song\.mp3 has no video in it"):
        read(path)


@pytest.mark.parametrize("default", ["picture", "both"])
def test_still_picture_as_first_track_is_left_out(tmp_path, default):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as output:
        still = output.add_stream("mjpeg", rate=25)
        video = output.add_stream("libx264", rate=25)
        for stream, pixel_format in ((still, "yuvj420p"), (video, "yuv420p")):
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        still.disposition = av.stream.Disposition.default
        video.disposition = av.stream.Disposition.default if default == "both" else 0
        frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 250, np.uint8), "bgr24")
        for packet in [*still.encode(frame.reformat(format="yuvj420p")), *still.encode()]:
            output.mux(packet)
        for k, value in enumerate(levels()):
            image = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format="yuv420p")
            frame.pts = k
            for packet in video.encode(frame):
                output.mux(packet)
        for packet in video.encode():
            output.mux(packet)
    frames, notes = read(path)
    assert [level(f) for f in frames] == pytest.approx(levels(), abs=6)
    assert notes == ()


def with_damage(tmp_path, nonsense):
    """A file of motion JPEG at 50 fps whose picture number 7 is nonsense."""
    path = encode(tmp_path / "d.avi", levels(), "mjpeg", pixel_format="yuvj420p", fps=50)
    data = bytearray(path.read_bytes())
    starts = [k for k in range(len(data)) if data[k : k + 3] == b"\xff\xd8\xff"]
    data[starts[7] : starts[7] + 600] = nonsense.ljust(600, b"\0")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "nonsense", [b"U" * 600, b"\xff\xd8\xff\xd9"], ids=["an error", "no picture"]
)
def test_one_damaged_picture_is_skipped_and_counted(tmp_path, nonsense):
    frames, (note,) = read(with_damage(tmp_path, nonsense))
    assert [level(f) for f in frames] == pytest.approx(levels()[:7] + levels()[8:], abs=6)
    assert [f.time_s for f in frames] == pytest.approx([k / 50 for k in range(20) if k != 7])
    assert "1 picture could not be decoded and was skipped" in note


def test_damaged_picture_takes_time_at_a_given_rate(tmp_path):
    frames, _ = read(with_damage(tmp_path, b"U" * 600), fps=100)
    assert [f.time_s for f in frames] == pytest.approx([k / 100 for k in range(20) if k != 7])


def test_video_that_is_too_large_is_refused_before_it_is_decoded(tmp_path):
    path = encode(tmp_path / "l.mp4", [9], "mjpeg", pixel_format="yuvj420p", size=(8208, 16))
    with pytest.raises(InputError, match=r"l\.mp4 has 8208 x 16 pixels, .* limit of 8192 x 8192"):
        read(path)


@pytest.mark.parametrize("name", ["large.avi", "large.mjpeg"])
def test_video_whose_size_only_its_header_tells_is_refused_by_it(tmp_path, name):
    path = encode(tmp_path / name, [9, 9], "mjpeg", pixel_format="yuvj420p")
    # So large that FFmpeg, too, has a limit: then it says no size at all.
    data = path.read_bytes().replace(
        struct.pack(">BHH", 8, HEIGHT, WIDTH), struct.pack(">BHH", 8, 9000, 9008)
    )
    path.write_bytes(
        data.replace(struct.pack("<ii", WIDTH, HEIGHT), struct.pack("<ii", 9008, 9000))
    )
    with pytest.raises(InputError, match=r"has 9008 x 9000 pixels, .* limit of 8192 x 8192"):
        read(path)


def test_pictures_that_avi_stores_in_another_order_are_timed_in_their_own(tmp_path):
    path = tmp_path / "b.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.max_b_frames = 3
        for k in range(20):
            image = np.full((HEIGHT, WIDTH, 3), 20 + 10 * k, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format="yuv420p")
            frame.pts = k
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    frames, notes = read(path)
    assert [level(f) for f in frames] == pytest.approx(levels(), abs=6)
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(20)], abs=2e-3)
    assert notes == ()


def test_picture_that_breaks_off_is_skipped_and_counted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    path = encode(
        tmp_path / "m.avi", [noise] * 6, "mjpeg", pixel_format="yuvj420p", size=(320, 240)
    )
    data = bytearray(path.read_bytes())
    # The header says it once, too.
    start = [k for k in range(len(data)) if data[k : k + 4] == b"00dc"][3]
    length = int.from_bytes(data[start + 4 : start + 8], "little")
    data[start + 8 + length // 2 : start + 8 + length] = bytes(length - length // 2)
    path.write_bytes(data)
    frames, notes = read(path)
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(6) if k != 2])
    assert any("1 picture could not be decoded" in note for note in notes)


def test_video_that_begins_late_is_not_taken_for_cut_short(tmp_path):
    path = encode(tmp_path / "late.mkv", levels(), times_ms=[9000 + 40 * k for k in range(20)])
    _, notes = read(path)
    assert notes == ()


def test_motion_jpeg_without_a_container_is_a_video_whatever_its_name(tmp_path):
    path = tmp_path / "m.bin"
    path.write_bytes(b"".join(jpeg(value, (320, 240)) for value in levels()))
    frames, _ = read(path, fps=25)
    assert [level(f) for f in frames] == pytest.approx(levels(), abs=3)


def test_animated_png_is_a_video(tmp_path):
    path = encode(tmp_path / "a.png", levels(5), "apng", file_format="apng", pixel_format="rgb24")
    frames, _ = read(path)
    assert [level(f) for f in frames] == pytest.approx(levels(5))


def test_picture_with_the_suffix_of_a_video_is_a_picture(tmp_path):
    path = tmp_path / "p.mp4"
    path.write_bytes(jpeg(90))
    with pytest.raises(InputError, match=r"p\.mp4 is a single picture"):
        read(path)


def test_title_in_any_encoding_is_no_obstacle(tmp_path):
    path = encode(tmp_path / "t.mkv", levels())
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"L\xe9\xfff"))
    frames, _ = read(path)
    assert [level(f) for f in frames] == pytest.approx(levels(), abs=6)


class TestPlaylist:
    def write(self, folder, segment):
        path = folder / "list.m3u8"
        path.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.8,\n{segment}\n#EXT-X-ENDLIST\n"
        )
        return path

    def test_files_beside_it_are_read(self, tmp_path):
        encode(tmp_path / "a.ts", levels(), file_format="mpegts")
        frames, _ = read(self.write(tmp_path, "a.ts"))
        assert [level(f) for f in frames] == pytest.approx(levels(), abs=6)

    @pytest.mark.parametrize("how", ["{}", "file://{}", "file:{}", "../a.ts", "concat:{}|{}"])
    def test_files_elsewhere_are_not(self, tmp_path, how):
        encode(tmp_path / "a.ts", levels(), file_format="mpegts")
        folder = tmp_path / "below"
        folder.mkdir()
        with pytest.raises(InputError, match=r"list\.m3u8"):
            read(self.write(folder, how.format(tmp_path / "a.ts", tmp_path / "a.ts")))

    def test_addresses_are_not(self, tmp_path, server):
        encode(server.file, levels(), file_format="mpegts")
        requests = []
        server.RequestHandlerClass = type(
            "Handler", (server.RequestHandlerClass,), {"do_GET": lambda h: requests.append(h.path)}
        )
        with pytest.raises(InputError, match=r"list\.m3u8"):
            read(self.write(tmp_path, f"{server.url}/file.ts"))
        assert requests == []


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'a.ts'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n",
        "\x1b[31mcoloured text\n" * 50,
    ],
    ids=["list of files", "description of a session", "text"],
)
@pytest.mark.parametrize("suffix", ["mp4", "txt", "sdp"])
def test_scripts_are_no_videos(tmp_path, text, suffix):
    encode(tmp_path / "a.ts", levels(), file_format="mpegts")
    path = tmp_path / f"x.{suffix}"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"x\.{suffix}"):
        read(path)
